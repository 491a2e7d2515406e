"""The baseline on gapped k-mers: words of 8 bases of which any 6 count (Ghandi 2014), in a logistic regression."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from ebox.evaluation.baselines import (
    MAX_TRAIN_EXAMPLES,
    BaselineResult,
    Codes,
    Features,
    Fitted,
    LabelledCodes,
    LogisticResult,
    Logits,
    check_length,
    count_kmers,
    find_kmer_columns,
    search_penalty,
    sum_kmer_weights,
)
from ebox.storage.notes import note

WORD_BP = 8
INFORMED = 6
# Of the L2 penalty, in rising order; the search ends with the first that is worse, since each takes seconds.
INVERSE_PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)

MAX_ITERATIONS = 40


@dataclass(frozen=True)
class GappedCounts:
    """Counts of whole words in sequences, and the gapped k-mers that each word holds.

    Their product is the counts of gapped k-mers, which would be thirty times as large.
    """

    words: Features
    gapped: Features


def fit_gapped_kmer_logistic(train: LabelledCodes, validation: LabelledCodes, *, seed: int = 0) -> BaselineResult:
    """Logistic regression on counts of gapped k-mers, 8 letters of which 6 are informed, on both strands.

    At most 50,000 training examples are used, and the penalty is chosen by AUROC on validation.

    Raises:
        UnfittedError: the sequences are shorter than 8 bp, or a split holds one class only.
    """
    check_length(train.codes, WORD_BP)
    columns = find_kmer_columns(WORD_BP)
    num_all = len(train.targets)
    train = train.sample(MAX_TRAIN_EXAMPLES, seed)
    gapped = list_gapped(columns)
    counts = count_kmers(train.codes, WORD_BP, columns)
    fit = search_penalty(
        GappedCounts(counts, gapped),
        train.targets,
        lambda weights: sum_kmer_weights(validation.codes, WORD_BP, (gapped @ weights)[columns]),
        validation.targets,
        fit=_fit_counts,
        inverse_penalties=INVERSE_PENALTIES,
        patience=1,
    )
    weights = (gapped @ fit.coefficients)[columns]

    def predict(codes: Codes) -> Logits:
        return sum_kmer_weights(codes, WORD_BP, weights) + fit.intercept

    kept = {"word_bp": WORD_BP, "informed": INFORMED}
    settings = kept | {"inverse_penalty": fit.inverse_penalty, "num_train": len(train.targets)}
    about = kept | {"num_train": len(train.targets), "num_all": num_all}
    return BaselineResult("gapped_kmer_logistic", note(Fitted.GAPPED_KMER_LOGISTIC, about), settings, predict)


def list_gapped(columns: Int64[np.ndarray, " words"]) -> Features:
    """Which gapped k-mers each canonical word holds, as a sparse matrix; one and its reverse complement are the same.

    A row for each canonical word, a column for each choice of informed places and word on them; each row has the
    length 1 or a little more, where a gapped k-mer stands in it twice.
    """
    from scipy.sparse import csr_matrix

    words = np.flatnonzero(columns >= 0)
    letters = (words[:, None] >> (2 * np.arange(WORD_BP)[::-1])) & 3
    places = list(combinations(range(WORD_BP), INFORMED))
    found = np.empty((len(words), len(places)), np.int32)
    for number, kept in enumerate(places):
        mirrored = tuple(WORD_BP - 1 - place for place in reversed(kept))
        own, other = (_number(letters[:, list(some)]) for some in (kept, kept[::-1]))
        found[:, number] = np.minimum(
            number * 4**INFORMED + own, places.index(mirrored) * 4**INFORMED + 4**INFORMED - 1 - other
        )
    rows = np.arange(len(words) + 1) * len(places)
    values = np.full(found.size, len(places) ** -0.5, np.float32)
    return csr_matrix((values, found.ravel(), rows), (len(words), len(places) * 4**INFORMED))


def _number(letters: Int64[np.ndarray, "words letters"]) -> Int64[np.ndarray, " words"]:
    """Each row as one number, two bits a base, the first base the most significant."""
    return letters @ 4 ** np.arange(letters.shape[1])[::-1]


def _fit_counts(
    features: GappedCounts,
    targets: Bool[np.ndarray, " examples"],
    inverse_penalty: float,
    *,
    start: LogisticResult | None = None,
) -> LogisticResult:
    """L-BFGS on the loss of scikit-learn's logistic regression, without the product of the two matrices."""
    from scipy.optimize import minimize

    words, gapped, signs = features.words, features.gapped, np.where(targets, 1.0, -1.0)
    turned, gapped_turned = words.T.tocsr(), gapped.T.tocsr()

    def measure(values: Float[np.ndarray, " weights"]) -> tuple[float, Any]:
        weights, intercept = values[:-1], values[-1]
        margins = signs * (words @ (gapped @ weights) + intercept)
        pulls = -inverse_penalty * signs / (1.0 + np.exp(np.minimum(margins, 500.0)))
        loss = inverse_penalty * np.logaddexp(0.0, -margins).sum() + 0.5 * weights @ weights
        return loss, np.append(gapped_turned @ (turned @ pulls) + weights, pulls.sum())

    first = np.zeros(gapped.shape[1] + 1) if start is None else np.append(start.coefficients, start.intercept)
    found = minimize(measure, first, jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS, "ftol": 1e-4})
    return LogisticResult(found.x[:-1], float(found.x[-1]), inverse_penalty)
