"""The settings of a dataset: how examples are cut, made, cleaned, split."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ebox.settings.fields import Fraction, Positive, PositiveInt, Seed, Settings, setting, shared_seed

NegativeKind = Literal["given", "shuffled", "matched"]


class DataConfig(Settings):
    """How sequences become clean examples with labels and splits."""

    track: str = setting("bound", "Name of what the positives have in common.", min_length=1)
    label_columns: tuple[str, ...] | None = setting(
        None,
        "Columns of labels of a table, each a track; an empty label was not measured. none: the column label.",
        flag="--label-columns",
        min_length=1,
    )
    length_bp: PositiveInt | None = setting(
        None,
        "Length of every example; none: the most common length that 19 of 20 sequences reach, 200 for peaks.",
        flag="--length",
    )
    negatives: tuple[NegativeKind, ...] | None = setting(
        None,
        "Kinds of negatives; none: given if a file is given, matched if a genome is given, else shuffled.",
        flag="--negative-kinds",
    )
    negative_ratio: Positive = setting(1.0, "Shuffled or matched negatives made for each positive.")
    balance_given: bool = setting(False, "Draw one given negative for each positive; false: keep all given negatives.")
    drop_near_positives: bool = setting(
        True, "Drop given negatives that share half their place, or more than half their 16-mers, with a positive."
    )
    max_n_fraction: Fraction = setting(0.1, "Examples with a larger share of N than this are dropped.")
    gc_tolerance: Fraction = setting(0.02, "Greatest difference in GC of a matched negative.")
    min_peak_distance_bp: Annotated[int, Field(ge=0)] = setting(
        500, "Least distance of a matched negative from any peak."
    )
    match_repeats: bool | None = setting(
        None,
        "Matched negatives take the share of repeats of the positives, too, by the lower-case letters of the genome "
        "or by --repeats; none: if --repeats is given.",
        flag="--match-repeats",
    )
    repeat_tolerance: Fraction = setting(0.1, "Greatest difference in the share of repeats of a matched negative.")
    split: Literal["auto", "random", "chromosome"] = setting(
        "auto",
        "How the splits are made; auto: by chromosome if every example has coordinates, else random and stratified.",
        flag="--split",
    )
    split_fractions: tuple[Positive, Positive, Positive] = setting(
        (0.7, 0.2, 0.1), "Train, validation and test shares of a random split."
    )
    validation_chroms: tuple[str, ...] = setting(("chr2", "chr10"), "Chromosomes of the validation split.")
    test_chroms: tuple[str, ...] = setting(("chr1", "chr8", "chr9"), "Chromosomes of the test split.")
    max_similarity: Fraction = setting(
        0.5,
        "Sequences that share more than this of their k-mers are kept on one side of a random split; 1: none are, "
        "relatives neither.",
    )
    keep_families: bool = setting(
        True,
        "Keep relatives (80 % identity over half the window) on one side of a random split, and count them as one "
        "where an interval is estimated.",
    )
    clean_given_splits: bool = setting(
        False,
        "If the splits are given: drop from train what is repeated, or is also in validation or test.",
    )
    seed: Seed = shared_seed()

    @model_validator(mode="after")
    def _check_tracks(self) -> DataConfig:
        columns = self.label_columns or ()
        twice = [name for name in columns if columns.count(name) > 1 or name in ("", "sequence")]
        if twice:
            raise ValueError(f"{twice[0]!r} is in label_columns twice, or is no column of labels")
        return self

    @model_validator(mode="after")
    def _check_split(self) -> DataConfig:
        if abs(sum(self.split_fractions) - 1.0) > 1e-6:
            raise ValueError(f"split_fractions sum to {sum(self.split_fractions):g}, not to 1")
        both = sorted(set(self.validation_chroms) & set(self.test_chroms))
        if both:
            raise ValueError(f"{', '.join(both)} is in validation_chroms and in test_chroms")
        return self
