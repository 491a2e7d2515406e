"""The baselines on known motifs: the best hit of one, and a logistic regression on the best hits of several."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float

from ebox.evaluation.baselines import (
    MAX_TRAIN_EXAMPLES,
    BaselineResult,
    Codes,
    Fitted,
    LabelledCodes,
    Logits,
    Unfitted,
    UnfittedError,
    check_split,
    fit_logistic,
    measure_background,
    search_penalty,
)
from ebox.evaluation.metrics import auroc
from ebox.sequences.motifs import Motif, scan_scores
from ebox.storage.notes import note

# Of more motifs those are judged on validation that are best on a sample of training, half of it of each class.
MAX_JUDGED = 24
NUM_SCREENED = 300
# Motifs times validation examples that are scanned to choose one motif; that motif is scanned in all examples.
MAX_MOTIF_SCANS = 1_000_000
# A motif whose hits correlate more with those of a better one adds nothing.
MAX_CORRELATION = 0.8
NUM_FEATURES = 16
MAX_HIT_EXAMPLES = 20_000


class Screen:
    """Motifs that fit into the training sequences, and how well their hits tell its classes apart on a sample.

    Raises:
        UnfittedError: no motif fits into the sequences, or the training split holds one class only.
    """

    def __init__(self, train: LabelledCodes, motifs: Sequence[Motif], seed: int = 0) -> None:
        check_split(train.targets, "train")
        length = train.codes.shape[1]
        self.motifs = [motif for motif in motifs if motif.width <= length]
        if not self.motifs:
            raise UnfittedError(
                f"none of {len(motifs)} motifs fits into sequences of {length} bp",
                note(Unfitted.NO_MOTIF_FITS, {"num_motifs": len(motifs), "length_bp": length}),
                remedy="name a motif in evaluation.motifs or give a motif file, or leave the baselines on motifs out of"
                " evaluation.baselines",
            )
        self.background = measure_background(train.sample(MAX_TRAIN_EXAMPLES, seed).codes)
        self._sample = _draw_balanced(train, NUM_SCREENED, seed)

    @cached_property
    def hits(self) -> Float[np.ndarray, "example motif"]:
        """Best hits of the motifs in the sample."""
        return np.stack([self.scan(self._sample.codes, motif) for motif in self.motifs], axis=1)

    @cached_property
    def qualities(self) -> Float[np.ndarray, " motif"]:
        """AUROC of the hits of each motif in the sample."""
        return np.array([auroc(self._sample.targets, column) for column in self.hits.T])

    def scan(self, codes: Codes, motif: Motif) -> Logits:
        """The best hit of a motif in each sequence."""
        return scan_scores(codes, motif, self.background).astype(np.float64)

    def best(self, number: int) -> list[Motif]:
        """The motifs of the highest AUROC in the sample; all, without a look at it, where they are few."""
        if len(self.motifs) <= number:
            return self.motifs
        return [self.motifs[place] for place in np.argsort(-self.qualities, kind="stable")[:number]]

    def choose_different(self, number: int) -> list[Motif]:
        """Motifs that tell the classes apart in either direction, without those too like a better one."""
        correlation = np.abs(np.corrcoef(self.hits.T + 1e-9 * np.arange(len(self.hits))))
        chosen: list[int] = []
        for place in np.argsort(-np.abs(self.qualities - 0.5), kind="stable").tolist():
            if not chosen or correlation[place, chosen].max() < MAX_CORRELATION:
                chosen.append(place)
            if len(chosen) == number:
                break
        return [self.motifs[place] for place in chosen]


def _draw_balanced(train: LabelledCodes, size: int, seed: int) -> LabelledCodes:
    """At most `size` examples, half of each class where there are enough."""
    random = np.random.Generator(np.random.Philox(seed))
    drawn = [
        random.permutation(np.flatnonzero(train.targets == target))[: max(size // 2, 1)] for target in (True, False)
    ]
    rows = np.sort(np.concatenate(drawn))
    return LabelledCodes(train.codes[rows], train.targets[rows])


def fit_best_pwm(
    train: LabelledCodes,
    validation: LabelledCodes,
    screen: Screen,
    *,
    seed: int = 0,
) -> BaselineResult:
    """Score a sequence by its best log-odds hit of one motif on either strand.

    The motif is that of the highest AUROC on validation, of many the best 24 on a sample of training; the background is
    the composition of the training sequences; a logistic regression on training turns the hit into a logit (Platt 1999)
    and never reverses the order.

    Args:
        train: Examples of the training split.
        validation: Examples of the validation split.
        screen: The motifs to choose from, of the same training examples.
        seed: For the samples of large splits.

    Raises:
        UnfittedError: the validation split holds one class only.
    """
    check_split(validation.targets, "validation")
    fitting = screen.best(MAX_JUDGED)
    train = train.sample(MAX_TRAIN_EXAMPLES, seed)
    judged = validation.sample(max(2000, MAX_MOTIF_SCANS // len(fitting)), seed)
    qualities = [auroc(judged.targets, screen.scan(judged.codes, motif)) for motif in fitting]
    motif = fitting[int(np.argmax(qualities))]
    hits = screen.scan(train.codes, motif)
    mean, deviation = float(hits.mean()), max(float(hits.std()), 1e-9)
    fit = fit_logistic(((hits - mean) / deviation)[:, None], train.targets)
    slope = max(float(fit.coefficients[0]), 1e-3)

    def predict(codes: Codes) -> Logits:
        return slope * (screen.scan(codes, motif) - mean) / deviation + fit.intercept

    number = len(screen.motifs)
    settings = {"motif": motif.name, "num_motifs": number, "num_train": len(train.targets)}
    about = {"motif": motif.name, "alt_name": motif.alt_name, "source": motif.source, "num_motifs": number}
    return BaselineResult("best_pwm", note(Fitted.BEST_PWM, about), settings, predict)


def fit_motif_logistic(
    train: LabelledCodes,
    validation: LabelledCodes,
    screen: Screen,
    *,
    seed: int = 0,
) -> BaselineResult:
    """Logistic regression on the best hits of up to 16 motifs that differ; the penalty is chosen on validation.

    The motifs are those whose hits tell the classes of a sample of training best apart, each less like the others than
    a correlation of 0.8; at most 20,000 examples are fitted.

    Args:
        train: Examples of the training split.
        validation: Examples of the validation split.
        screen: The motifs to choose from, of the same training examples.
        seed: For the samples of large splits.

    Raises:
        UnfittedError: the validation split holds one class only.
    """
    chosen = screen.choose_different(NUM_FEATURES)
    num_all = len(train.targets)
    train = train.sample(MAX_HIT_EXAMPLES, seed)
    raw = np.stack([screen.scan(train.codes, motif) for motif in chosen], axis=1)
    mean, deviation = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-9)

    def describe(codes: Codes) -> Float[np.ndarray, "examples motifs"]:
        return (np.stack([screen.scan(codes, motif) for motif in chosen], axis=1) - mean) / deviation

    known = describe(validation.codes)
    fit = search_penalty((raw - mean) / deviation, train.targets, lambda w: known @ w, validation.targets)

    def predict(codes: Codes) -> Logits:
        return describe(codes) @ fit.coefficients + fit.intercept

    names = [motif.name for motif in chosen]
    settings = {"motifs": names, "inverse_penalty": fit.inverse_penalty, "num_train": len(train.targets)}
    about = {"num_chosen": len(names), "num_motifs": len(screen.motifs)}
    sizes = {"num_train": len(train.targets), "num_all": num_all}
    return BaselineResult("motif_logistic", note(Fitted.MOTIF_LOGISTIC, about | sizes), settings, predict)
