"""Every setting of ebox by section: typed, frozen, with its default and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

NegativeKind = Literal["given", "shuffled", "matched"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
# Far past any use, and short of what arrays can count.
PositiveInt = Annotated[int, Field(gt=0, le=10**9)]


class Settings(BaseModel):
    """A frozen section of the settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values: Any) -> Any:
        """TOML has no null, so the files say "none"."""
        if not isinstance(values, Mapping):
            return values
        return {key: None if value == "none" else value for key, value in values.items()}


class DataConfig(Settings):
    """How sequences become cleaned, labelled, split examples."""

    track: str = Field("bound", min_length=1, description="Name of what the positives have in common.")
    length_bp: PositiveInt | None = Field(
        None,
        description="Length of every example; none: the most common one that 19 of 20 sequences reach, 200 for peaks.",
    )
    negatives: tuple[NegativeKind, ...] | None = Field(
        None,
        description="Kinds of negatives; none: given where a file is given, matched where a genome is, else shuffled.",
    )
    negative_ratio: Positive = Field(1.0, description="Shuffled or matched negatives made for each positive.")
    balance_given: bool = Field(
        False, description="Draw as many given negatives as there are positives; false: keep all of them."
    )
    max_n_fraction: Fraction = Field(0.1, description="Examples with more N than this are dropped.")
    gc_tolerance: Fraction = Field(0.02, description="Greatest difference in GC of a matched negative.")
    min_peak_distance_bp: Annotated[int, Field(ge=0)] = Field(
        500, description="Least distance of a matched negative from any peak."
    )
    split: Literal["auto", "random", "chromosome"] = Field(
        "auto",
        description="auto: by chromosome when every example has coordinates, else random and stratified.",
    )
    split_fractions: tuple[Positive, Positive, Positive] = Field(
        (0.7, 0.2, 0.1), description="Train, validation and test shares of a random split."
    )
    validation_chroms: tuple[str, ...] = ("chr2", "chr10")
    test_chroms: tuple[str, ...] = ("chr1", "chr8", "chr9")
    max_similarity: Fraction = Field(
        0.5,
        description="Sequences that share more than this of their k-mers are kept on one side of a random split.",
    )
    clean_given_splits: bool = Field(
        False,
        description="Where the splits are given: drop from train what repeats or stands in validation or test.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _check_split(self) -> DataConfig:
        if abs(sum(self.split_fractions) - 1.0) > 1e-6:
            raise ValueError(f"split_fractions sum to {sum(self.split_fractions):g}, not to 1")
        both = sorted(set(self.validation_chroms) & set(self.test_chroms))
        if both:
            raise ValueError(f"{', '.join(both)} stands in validation_chroms and in test_chroms")
        return self


class ModelConfig(Settings):
    """The network."""

    architecture: Literal["motif", "residual"] = "residual"
    num_filters: PositiveInt = Field(128, description="Filters of the first layer: the motif detectors.")
    filter_width_bp: PositiveInt = 15
    activation: Literal["exponential", "relu", "gelu", "linear"] = Field(
        "exponential",
        description="After the first layer. Exponential filters read as motifs (Koo 2021); linear: for log_mean_exp.",
    )
    pool_bp: PositiveInt = Field(4, description="Maximum over so many bases after the first layer.")
    body_width: PositiveInt = Field(
        5, description="Width of the first body convolution, in pooled positions (residual)."
    )
    body_filters: PositiveInt | None = Field(None, description="Filters of the body; none: num_filters (residual).")
    dilations: tuple[PositiveInt, ...] = Field((2, 4), description="One residual layer of width 3 for each (residual).")
    pooling: tuple[Literal["max", "mean", "log_mean_exp"], ...] = Field(
        ("mean",),
        min_length=1,
        description="Global pooling; log_mean_exp adds up the evidence of all places, as a likelihood ratio does.",
    )
    position_basis: Annotated[int, Field(ge=0)] = Field(
        8, description="Smooth position weights in the global mean, learned from none; 0: position can't matter."
    )
    dense_units: tuple[PositiveInt, ...] = (64,)
    strands: Literal["one", "both"] | None = Field(
        None,
        description="both: every filter reads both strands with shared weights and the better one counts. "
        "none: both for motif, one for residual.",
    )
    batch_norm: bool = True

    @property
    def read_strands(self) -> Literal["one", "both"]:
        """The strands that a filter reads."""
        if self.strands is not None:
            return self.strands
        return "both" if self.architecture == "motif" else "one"


class TrainConfig(Settings):
    """The loop: optimiser, schedule, augmentation, checkpoints."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    batch_size: PositiveInt = Field(64, description="Examples a step over all devices.")
    device_batch_size: PositiveInt | None = Field(
        None,
        description="The most examples that a device takes at once; gradients of more are accumulated, and batch "
        "normalisation then works by what all devices take at once, or by groups of it. none: the whole share.",
    )
    batch_statistics: Literal["global", "group", "device"] = Field(
        "global",
        description="What batch normalisation normalises by: the whole batch; groups of it, which need no message "
        "between devices that hold whole ones; or each device its own share, which saves two small messages a layer "
        "and makes the result depend on the number of devices.",
    )
    group_examples: PositiveInt = Field(
        32, description="The most examples of a group, where batch_statistics is group; the batch is cut evenly."
    )
    rate_scaling: Literal["constant", "linear", "sqrt"] = Field(
        "constant", description="How learning_rate grows with batch_size / rate_batch_size."
    )
    rate_batch_size: PositiveInt = Field(64, description="The batch size that learning_rate is meant for.")
    epochs: Positive = Field(12, description="Passes over the training examples; ignored where max_steps is set.")
    max_steps: PositiveInt | None = None
    learning_rate: Positive = 8e-3
    final_rate_fraction: Fraction = Field(0.001, description="Rate at the end, as a share of learning_rate.")
    warmup_fraction: Rate = Field(0.25, description="Share of the steps in which the rate rises.")
    weight_decay: NonNegative = 1e-2
    beta1: Rate = 0.9
    beta2: Rate = 0.99
    clip_norm: Positive | None = Field(None, description="Greatest norm of the gradient; none: not clipped.")
    dropout: Rate = Field(0.3, description="In the dense head.")
    filter_dropout: Rate = Field(0.1, description="Whole filters of the first layer.")
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    ema_decay: Rate = Field(
        0.998, description="Moving average of the weights, which is the model that is kept; 0: off."
    )
    negatives_per_positive: Positive | None = Field(
        2.0,
        description="Fresh negatives drawn each epoch for each positive; none, or fewer at hand: all of them.",
    )
    positive_weight: Positive | Literal["balanced"] = Field(
        1.0, description="Weight of positives in the loss; balanced: negatives / positives of an epoch."
    )
    reverse_complement: bool = Field(True, description="Show a random strand of each example.")
    shift_bp: Annotated[int, Field(ge=0)] = Field(8, description="Shift each example by up to so many bases.")
    mutation_rate: Rate = Field(0.0, description="Share of bases replaced by random ones.")
    validations: PositiveInt = Field(6, description="How often the validation split is looked at.")
    monitor: Literal["auroc", "auprc", "loss"] = Field("auroc", description="What makes one validation better.")
    patience: PositiveInt | None = Field(
        None, description="Stop after so many validations without a better one; none: run to the end."
    )
    keep: Literal["best", "last"] = Field("best", description="Which validated model is kept.")
    calibrate: bool = Field(
        True,
        description="Scale and shift the logits of the kept model on the validation split, so that probabilities mean "
        "what they say there (Platt 1999); ranking stays.",
    )
    steps_per_dispatch: PositiveInt = Field(16, description="Steps compiled into one call to the device.")
    log_every_steps: PositiveInt = 64
    checkpoint_every_seconds: Positive = 60.0
    checkpoint_every_steps: PositiveInt | None = Field(None, description="Instead of by time.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of the compute; parameters and sums stay float32. auto: float32 on CPU, bfloat16 elsewhere.",
    )


class ParallelConfig(Settings):
    """Which devices and processes work, and what passes between them."""

    platform: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    devices: PositiveInt | None = Field(
        None, description="How many devices of each process; none: all of the platform."
    )
    processes: PositiveInt = Field(1, description="Processes to start on this machine, which share its cores or GPUs.")
    cluster: str | None = Field(
        None,
        description="Train on a Ray cluster: auto (that of this machine), its address, or local (one for the time "
        "being, of this machine alone); none: no Ray.",
    )
    workers: PositiveInt = Field(1, description="How many workers on the Ray cluster.")
    worker_cpus: PositiveInt | None = Field(
        None, description="CPUs that Ray keeps for a worker; none: its share of all that the cluster has."
    )
    worker_gpus: Annotated[int, Field(ge=0)] | None = Field(
        None, description="GPUs that Ray keeps for a worker; none: one each, where the cluster has as many."
    )
    node_devices: PositiveInt | None = Field(
        None, description="Devices of one node, between which the wire is fast; none: those of one process."
    )
    exchange: Literal["exact", "half", "int8", "topk", "powersgd"] = Field(
        "exact", description="How gradients travel; all but exact compress them, and change the result a little."
    )
    hierarchical: bool = Field(False, description="Exact inside a node, compressed between nodes.")
    rank: PositiveInt = Field(4, description="Rank of the matrices that powersgd sends.")
    top_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.01, description="Share of the numbers that topk sends."
    )
    sync: Literal["every-step", "delayed", "local", "async"] = Field(
        "every-step",
        description="every-step; delayed: gradients arrive one step late, while an accelerator computes the next (a "
        "processor waits for them all the same); "
        "local: workers train alone for local_steps, then meet; async: a server takes the gradients of Ray workers as "
        "they come, each of a whole batch, which suits workers of unequal speed.",
    )
    staleness: Annotated[int, Field(ge=0)] | None = Field(
        None, description="By how many steps a gradient may be late (async); none: twice the number of workers."
    )
    local_steps: PositiveInt = Field(16, description="Steps between two meetings (local).")
    outer_rate: Positive = Field(1.0, description="Share of the mean change that a meeting takes over (local).")
    outer_momentum: Rate = Field(0.0, description="Nesterov momentum of the meetings (local; DiLoCo: 0.9, rate 0.7).")
    max_restarts: Annotated[int, Field(ge=0)] = Field(
        3, description="How often a failed group of workers starts again from its last checkpoint."
    )
    min_workers: PositiveInt | None = Field(
        None,
        description="Go on with fewer workers, down to so many, where one fails again and again; none: all (async: 1).",
    )
    stall_seconds: Positive = Field(25.0, description="A worker that makes no step for so long counts as hung.")

    @model_validator(mode="after")
    def _check_workers(self) -> ParallelConfig:
        if self.cluster is None and self.workers > 1:
            raise ValueError("workers are those of a Ray cluster, so cluster must say which; on one machine: processes")
        if self.cluster is not None and self.processes > 1:
            raise ValueError("processes are those of this machine; with cluster, workers says how many")
        if self.sync == "async" and self.cluster is None:
            raise ValueError("sync = async has workers on a Ray cluster, so cluster must say which: auto, or local")
        if self.sync == "async" and (self.exchange != "exact" or self.hierarchical):
            raise ValueError("with sync = async gradients travel whole: exchange must be exact, and not hierarchical")
        if self.sync == "async" and self.most_staleness < self.workers - 1:
            raise ValueError(
                f"staleness = {self.staleness} lets {self.most_staleness + 1} workers compute at a time, and there are "
                f"{self.workers}: set it to {self.workers - 1} or more"
            )
        return self

    @property
    def most_staleness(self) -> int:
        """By how many steps a gradient may be late, with sync = async; one more batch may be under way."""
        return 2 * self.workers if self.staleness is None else self.staleness

    @property
    def starts_workers(self) -> bool:
        """Whether ebox starts a group of workers itself, here or on a Ray cluster, and looks after it."""
        return self.sync != "async" and (self.cluster is not None or self.processes > 1)

    @property
    def num_started(self) -> int:
        """How many it starts."""
        return self.processes if self.cluster is None else self.workers


# Settings of `parallel` that change the result, and so belong to the identity of a run. How late gradients are is not
# the same twice, and hangs on the workers: a resumed run may have others.
RESULT_SETTINGS = (
    "exchange",
    "hierarchical",
    "node_devices",
    "rank",
    "top_fraction",
    "sync",
    "local_steps",
    "outer_rate",
    "outer_momentum",
)


class EvaluationConfig(Settings):
    """What is measured, and against what."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    num_bootstrap: Annotated[int, Field(ge=100)] = 1000
    both_strands: bool = Field(True, description="Average the logits of both strands.")
    threshold: Literal["accuracy", "balanced_accuracy", "mcc"] = Field(
        "accuracy", description="What the decision threshold maximises on the validation split."
    )
    baselines: tuple[Literal["best_pwm", "gc_logistic", "kmer_logistic"], ...] = (
        "best_pwm",
        "gc_logistic",
        "kmer_logistic",
    )
    kmer: Annotated[int, Field(ge=1, le=8)] = 6
    motifs: tuple[str, ...] = Field(("MA0091.2", "MA0140.3"), description="JASPAR ids for the best PWM hit.")
    batch_size: PositiveInt = 512


class ExplanationConfig(Settings):
    """What the network learned, and how far that can be trusted (docs/explanation.md)."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    method: Literal["deeplift", "saturation", "integrated", "gradient"] = "deeplift"
    track: str | None = Field(None, description="Which track is explained; none: the first.")
    sequences: Literal["called", "positive", "all"] = Field(
        "called", description="Test sequences to explain: those called at the threshold, all positives, or all."
    )
    max_sequences: PositiveInt | None = Field(2000, description="At most so many are drawn; none: all of them.")
    both_strands: bool = Field(True, description="Explain the logit averaged over both strands, as it is reported.")
    num_references: PositiveInt = Field(10, description="Dinucleotide shuffles that a sequence is compared with.")
    num_steps: PositiveInt = Field(16, description="Points on the way from a reference (integrated).")
    batch_size: PositiveInt = 64
    discover: bool = Field(True, description="Find motifs in the contributions; needs ebox[explain].")
    max_seqlets: PositiveInt = Field(5000, description="Stretches of high contribution that discovery groups.")
    leiden_runs: PositiveInt = Field(2, description="Random starts of the grouping.")
    hit_p_value: Rate = Field(1e-4, description="A hit of a motif scores as high as this share of random sites.")
    grammar: bool = Field(True, description="Experiments: motifs put in, moved apart, destroyed.")
    num_backgrounds: Annotated[int, Field(ge=2)] = Field(
        200, description="Shuffled sequences that motifs are put into."
    )
    pair: tuple[str, str] | None = Field(
        None, description="Two motifs or words to move apart; none: the two discovered ones that matter most."
    )
    max_gap_bp: PositiveInt = 30
    proof: bool = Field(True, description="Check the explanation against other methods, networks and the truth.")
    num_checked: Annotated[int, Field(ge=10)] = Field(100, description="Sequences that the checks are made on.")


class Config(Settings):
    """All settings, by section."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    parallel: ParallelConfig = ParallelConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    explanation: ExplanationConfig = ExplanationConfig()
