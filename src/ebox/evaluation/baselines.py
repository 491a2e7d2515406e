"""The baselines that a network must beat, and how a logistic regression is fitted: on GC and on k-mer counts here.

`motif_hits` has those on known motifs, `gapped_kmers` that on gapped k-mers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, UInt8

from ebox.datasets.kmers import KMER_BASES, iter_rows, long_kmer_hashes
from ebox.errors import InputError
from ebox.evaluation.metrics import auroc, check_classes
from ebox.sequences.codes import gc_fraction
from ebox.sequences.confounds import measure_confounds
from ebox.storage.notes import Code, note

MAX_TRAIN_EXAMPLES = 50_000
# Of the L2 penalty (scikit-learn's C), in rising order; each fit starts from the one before.
INVERSE_PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
PATIENCE = 3

Codes = UInt8[np.ndarray, "examples length"]
Logits = Float[np.ndarray, " examples"]
# A dense matrix, or SciPy's csr_matrix, which is imported only when it is needed.
Features = Any


class Fitted(Code):
    """The kinds of baselines."""

    BEST_PWM = "best_pwm"
    GC_LOGISTIC = "gc_logistic"
    KMER_LOGISTIC = "kmer_logistic"
    MOTIF_LOGISTIC = "motif_logistic"
    GAPPED_KMER_LOGISTIC = "gapped_kmer_logistic"
    CONFOUND_LOGISTIC = "confound_logistic"


class Unfitted(Code):
    """Why a baseline could not be fitted."""

    KMER_TOO_LONG = "kmer_too_long"
    NO_MOTIF_FITS = "no_motif_fits"
    NO_TRAINING_DATA = "no_training_data"
    ONE_CLASS = "one_class"


@final
class UnfittedError(InputError):
    """A baseline can't be fitted to these examples; `reason` is the note that says why."""

    def __init__(self, problem: str, reason: Mapping[str, Any], *, remedy: str | None = None) -> None:
        super().__init__(problem, remedy=remedy)
        self.reason = dict(reason)


@dataclass(frozen=True)
class LabelledCodes:
    """Sequences with known targets; `masked` is the share of repeats of the genome, where it is known of all."""

    codes: Codes
    targets: Bool[np.ndarray, " examples"]
    masked: Float32[np.ndarray, " examples"] | None = None

    def sample(self, size: int, seed: int) -> LabelledCodes:
        """At most `size` examples, drawn without replacement, in the order of the whole."""
        if len(self.targets) <= size:
            return self
        generator = np.random.Generator(np.random.Philox(seed))
        rows = np.sort(generator.choice(len(self.targets), size, replace=False))
        return LabelledCodes(self.codes[rows], self.targets[rows], None if self.masked is None else self.masked[rows])


@dataclass(frozen=True)
class BaselineResult:
    """A fitted baseline: what it is, what was chosen on validation, and the function that scores sequences.

    Where it `reads_masked`, the function takes the share of repeats of the genome, too.
    """

    name: str
    description: dict[str, Any]
    settings: dict[str, Any]
    predict: Callable[..., Float[np.ndarray, " _"]]
    reads_masked: bool = False

    def score(self, examples: LabelledCodes) -> Float[np.ndarray, " _"]:
        """The logits of examples, of which all that the baseline reads is known."""
        return self.predict(examples.codes, examples.masked) if self.reads_masked else self.predict(examples.codes)


@dataclass(frozen=True)
class LogisticResult:
    """Weights of a logistic regression, and the penalty that was best on validation."""

    coefficients: Float[np.ndarray, " features"]
    intercept: float
    inverse_penalty: float


def fit_gc_logistic(train: LabelledCodes, validation: LabelledCodes, *, seed: int = 0) -> BaselineResult:
    """Logistic regression on the GC fraction and its square; the penalty is chosen on validation.

    Raises:
        UnfittedError: a split holds one class only.
    """
    num_all = len(train.targets)
    train = train.sample(MAX_TRAIN_EXAMPLES, seed)
    gc = gc_fraction(train.codes)
    centre, deviation = float(gc.mean()), max(float(gc.std()), 1e-9)

    def describe(codes: Codes) -> Float[np.ndarray, "examples features"]:
        standard = (gc_fraction(codes) - centre) / deviation
        return np.stack([standard, standard**2], axis=1)

    known = describe(validation.codes)
    fit = search_penalty(describe(train.codes), train.targets, lambda w: known @ w, validation.targets)

    def predict(codes: Codes) -> Logits:
        return describe(codes) @ fit.coefficients + fit.intercept

    settings = {"inverse_penalty": fit.inverse_penalty, "num_train": len(train.targets)}
    description = note(Fitted.GC_LOGISTIC, {"num_train": len(train.targets), "num_all": num_all})
    return BaselineResult("gc_logistic", description, settings, predict)


def fit_confound_logistic(train: LabelledCodes, validation: LabelledCodes, *, seed: int = 0) -> BaselineResult:
    """Logistic regression on what is not a word: N and where it stands, GC, CpG, repeats, and their squares.

    Repeats are tandem ones, and those of the genome where they are known. What it reaches, a network may have reached
    without reading a motif. The penalty is chosen on validation.

    Raises:
        UnfittedError: a split holds one class only.
    """
    num_all = len(train.targets)
    train = train.sample(MAX_TRAIN_EXAMPLES, seed)
    reads_masked = train.masked is not None and validation.masked is not None
    masked = (train.masked, validation.masked) if reads_masked else (None, None)
    raw = _measure_beside(train.codes, masked[0])
    centre, deviation = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-9)

    def describe(raw: Float[np.ndarray, "examples values"]) -> Float[np.ndarray, "examples features"]:
        standard = np.clip((raw - centre) / deviation, -10.0, 10.0)
        return np.concatenate([standard, standard**2], axis=1)

    known = describe(_measure_beside(validation.codes, masked[1]))
    fit = search_penalty(describe(raw), train.targets, lambda w: known @ w, validation.targets)

    def predict(codes: Codes, masked: Float32[np.ndarray, " examples"] | None = None) -> Logits:
        return describe(_measure_beside(codes, masked)) @ fit.coefficients + fit.intercept

    settings = {"inverse_penalty": fit.inverse_penalty, "num_train": len(train.targets)}
    about = {"num_train": len(train.targets), "num_all": num_all, "masked": reads_masked}
    return BaselineResult(
        "confound_logistic", note(Fitted.CONFOUND_LOGISTIC, about), settings, predict, reads_masked=reads_masked
    )


def _measure_beside(
    codes: Codes, masked: Float32[np.ndarray, " examples"] | None
) -> Float[np.ndarray, "examples values"]:
    """What is not a word of each sequence, with the share of repeats of the genome where it is given."""
    more = [] if masked is None else [masked.astype(np.float64)]
    return np.stack([*measure_confounds(codes).values(), *more], axis=1)


def fit_kmer_logistic(
    train: LabelledCodes, validation: LabelledCodes, *, kmer: int = 6, seed: int = 0
) -> BaselineResult:
    """Logistic regression on the counts of all k-mers; a k-mer and its reverse complement are counted as one.

    At most 50,000 training examples are used, and the penalty is chosen by AUROC on validation.

    Args:
        train: Examples of the training split.
        validation: Examples of the validation split.
        kmer: The length k.
        seed: For the sample of training examples.

    Raises:
        UnfittedError: the sequences are shorter than k, or a split holds one class only.
    """
    check_length(train.codes, kmer, remedy="set evaluation.kmer to a smaller number")
    columns = find_kmer_columns(kmer)
    num_all = len(train.targets)
    train = train.sample(MAX_TRAIN_EXAMPLES, seed)
    fit = search_penalty(
        count_kmers(train.codes, kmer, columns),
        train.targets,
        lambda weights: sum_kmer_weights(validation.codes, kmer, weights[columns]),
        validation.targets,
    )
    # Words that are not canonical have column -1, so the last weight, but never occur.
    weights = fit.coefficients[columns]

    def predict(codes: Codes) -> Logits:
        return sum_kmer_weights(codes, kmer, weights) + fit.intercept

    settings = {"kmer": kmer, "inverse_penalty": fit.inverse_penalty, "num_train": len(train.targets)}
    description = note(Fitted.KMER_LOGISTIC, {"kmer": kmer, "num_train": len(train.targets), "num_all": num_all})
    return BaselineResult("kmer_logistic", description, settings, predict)


def check_length(codes: Codes, kmer: int, remedy: str = "leave it out of evaluation.baselines") -> None:
    """Raise UnfittedError where sequences are shorter than a k-mer."""
    length = codes.shape[1]
    if kmer > length:
        values = {"kmer": kmer, "length_bp": length}
        raise UnfittedError(
            f"sequences of {length} bp hold no {kmer}-mers", note(Unfitted.KMER_TOO_LONG, values), remedy=remedy
        )


def measure_background(codes: Codes) -> Float[np.ndarray, " 4"]:
    """Shares of A, C, G and T, the same on both strands; each base is counted once more, so that no share is 0."""
    counts = np.bincount(codes.ravel(), minlength=5)[:4] + 1.0
    counts = counts + counts[::-1]
    return counts / counts.sum()


def find_kmer_columns(kmer: int) -> Int64[np.ndarray, " words"]:
    """The column of each canonical word among the 4^k words of two bits a base; -1 for the others."""
    words = np.arange(4**kmer, dtype=np.int64)
    reverse = np.zeros_like(words)
    for position in range(kmer):
        reverse = reverse * 4 + 3 - (words >> (2 * position)) % 4
    is_canonical = words <= reverse
    return np.where(is_canonical, np.cumsum(is_canonical) - 1, -1)


def count_kmers(codes: Codes, kmer: int, columns: Int64[np.ndarray, " words"]) -> Features:
    """Counts of canonical k-mers, sparse, one row for each sequence; a k-mer with an N is not counted."""
    from scipy.sparse import csr_matrix, vstack

    num_columns = int(columns.max()) + 1
    parts = []
    for block in iter_rows(len(codes), codes.shape[1], KMER_BASES):
        words = long_kmer_hashes(codes[block], kmer)
        is_known = words < len(columns)
        row_ends = np.concatenate([[0], np.cumsum(is_known.sum(axis=1))])
        known = columns[words[is_known].astype(np.int64)]
        part = csr_matrix((np.ones(len(known), np.float32), known, row_ends), (len(words), num_columns))
        part.sum_duplicates()
        parts.append(part)
    return vstack(parts, format="csr")


def sum_kmer_weights(codes: Codes, kmer: int, weights: Float[np.ndarray, " words"]) -> Logits:
    """Sum of the weights of a sequence's k-mers; k-mers with an N get one more word, whose weight is 0."""
    table = np.append(weights, 0.0)
    sums = np.empty(len(codes), np.float64)
    for block in iter_rows(len(codes), codes.shape[1], KMER_BASES):
        words = np.minimum(long_kmer_hashes(codes[block], kmer), np.uint64(len(weights)))
        sums[block] = table[words.astype(np.int64)].sum(axis=1)
    return sums


def search_penalty(
    features: Features,
    targets: Bool[np.ndarray, " examples"],
    score_validation: Callable[[Float[np.ndarray, " features"]], Float[np.ndarray, " validation"]],
    validation_targets: Bool[np.ndarray, " validation"],
    *,
    fit: Callable[..., LogisticResult] | None = None,
    inverse_penalties: Sequence[float] = INVERSE_PENALTIES,
    patience: int = PATIENCE,
) -> LogisticResult:
    """Fit with weaker and weaker penalties, each from the last fit; keep the fit with the best AUROC on validation.

    Args:
        features: Of the training examples.
        targets: Their targets.
        score_validation: The scores of the validation examples by the weights.
        validation_targets: Their targets.
        fit: Fits features and targets with a penalty from a start; None: `fit_logistic`.
        inverse_penalties: In rising order.
        patience: The search ends after this number of fits that were worse than the best.

    Raises:
        UnfittedError: a split holds one class only.
    """
    fit_features = fit_logistic if fit is None else fit
    check_split(targets, "train")
    check_split(validation_targets, "validation")
    best, best_quality, num_worse = None, -1.0, 0
    last = None
    for inverse_penalty in inverse_penalties:
        last = fit_features(features, targets, inverse_penalty, start=last)
        quality = auroc(validation_targets, score_validation(last.coefficients))
        if best is None or quality > best_quality:
            best, best_quality, num_worse = last, quality, 0
        else:
            num_worse += 1
        if num_worse == patience:
            break
    assert best is not None
    return best


def fit_logistic(
    features: Features,
    targets: Bool[np.ndarray, " examples"],
    inverse_penalty: float = 1.0,
    *,
    start: LogisticResult | None = None,
) -> LogisticResult:
    """Fit a logistic regression.

    Args:
        features: A row for each example.
        targets: Which are positive.
        inverse_penalty: Of the L2 penalty (scikit-learn's C).
        start: The fit to begin with; None: from zero.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=inverse_penalty, solver="lbfgs", max_iter=500, tol=1e-4, warm_start=True)
    if start is not None:
        model.coef_ = start.coefficients[None].copy()
        model.intercept_ = np.array([start.intercept])
        model.classes_ = np.array([False, True])
    with warnings.catch_warnings():
        # A fit that stops early is judged on validation like any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, targets)
    return LogisticResult(model.coef_[0].astype(np.float64), float(model.intercept_[0]), inverse_penalty)


def check_split(targets: Bool[np.ndarray, " examples"], split: str) -> None:
    """Raise UnfittedError unless a split holds both classes."""
    try:
        check_classes(targets, f"the {'training' if split == 'train' else split} split")
    except InputError as error:
        raise UnfittedError(error.problem, note(Unfitted.ONE_CLASS, {"in": split}), remedy=error.remedy) from None
