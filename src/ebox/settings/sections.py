"""Every setting of ebox by section (that on data is in `data`): typed, frozen, with its default and its meaning."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from ebox.settings.data import DataConfig
from ebox.settings.fields import (
    Fraction,
    NonNegative,
    Positive,
    PositiveInt,
    Rate,
    Seed,
    Settings,
    setting,
    shared_seed,
)
from ebox.settings.network import ModelConfig
from ebox.settings.transfer import TransferConfig
from ebox.settings.tuning import EnsembleConfig, TuningConfig

Platform = Literal["auto", "cpu", "gpu", "tpu"]


class TrainConfig(Settings):
    """The loop: optimiser, schedule, augmentation, checkpoints."""

    trains: ClassVar[bool] = True

    seed: Seed = shared_seed()
    batch_size: PositiveInt = setting(64, "Examples in a step, over all devices.")
    device_batch_size: PositiveInt | None = setting(
        None,
        "The most examples that a device computes at once; gradients of more are accumulated, and batch "
        "normalisation then uses what all devices compute at once, or groups of it. none: the whole share.",
    )
    batch_statistics: Literal["global", "group", "device"] = setting(
        "global",
        "Whose statistics batch normalisation uses: the whole batch; groups of it, which need no message "
        "between devices with whole groups; or each device its own share, which saves two small messages in each "
        "layer and makes the result depend on the number of devices.",
    )
    group_examples: PositiveInt = setting(
        32, "The most examples of a group, if batch_statistics is group; the batch is divided evenly."
    )
    rate_scaling: Literal["constant", "linear", "sqrt"] = setting(
        "constant", "How learning_rate grows with batch_size / rate_batch_size."
    )
    rate_batch_size: PositiveInt = setting(64, "The batch size that learning_rate is meant for.")
    epochs: Positive = setting(
        12,
        "Passes over the training examples; ignored if max_steps is set. With --from and no epochs given, at least "
        "transfer.min_steps steps.",
        flag="--epochs",
    )
    max_steps: PositiveInt | None = setting(None, "Total number of steps; none: the steps of all epochs.")
    learning_rate: Positive = setting(8e-3, "Greatest rate of the one-cycle schedule.")
    final_rate_fraction: Fraction = setting(0.001, "Rate at the end, as a share of learning_rate.")
    warmup_fraction: Rate = setting(0.25, "Share of the steps in which the rate rises.")
    weight_decay: NonNegative = setting(1e-2, "Decay of the weights (AdamW).")
    beta1: Rate = setting(0.9, "Decay of the mean of the gradient (AdamW).")
    beta2: Rate = setting(0.99, "Decay of the mean square of the gradient (AdamW).")
    clip_norm: Positive | None = setting(None, "Greatest norm of the gradient; none: not clipped.")
    dropout: Rate = setting(0.3, "Dropout rate in the dense head.")
    filter_dropout: Rate = setting(0.1, "Dropout rate of whole filters of the first layer.")
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = setting(
        0.0, "Share by which the targets 0 and 1 move towards each other."
    )
    ema_decay: Rate = setting(0.998, "Decay of the moving average of the weights, which is the saved model; 0: off.")
    negatives_per_positive: Positive | None = setting(
        2.0,
        "Negatives drawn anew in each epoch for each positive; none, or if there are fewer: all of them.",
    )
    positive_weight: Positive | Literal["balanced"] = setting(
        1.0, "Weight of positives in the loss; balanced: negatives / positives in an epoch, of each track by itself."
    )
    reverse_complement: bool = setting(True, "Show a random strand of each example.")
    shift_bp: Annotated[int, Field(ge=0)] = setting(8, "The most bases by which each example is shifted.")
    mutation_rate: Rate = setting(0.0, "Share of bases replaced by random ones.")
    deletion_rate: Fraction = setting(
        0.0, "Share of examples that lose a stretch; random bases at both ends keep the length (Lee 2023)."
    )
    insertion_rate: Fraction = setting(
        0.0, "Share of examples with random bases put in; as many are cut off at both ends (Lee 2023)."
    )
    translocation_rate: Fraction = setting(
        0.0, "Share of examples that are rotated: what leaves at one end comes back at the other (Lee 2023)."
    )
    inversion_rate: Fraction = setting(
        0.0, "Share of examples with a stretch read on the other strand in its place (Lee 2023)."
    )
    noise: NonNegative = setting(
        0.0, "Standard deviation of normal noise that is added to the one-hot bases (Lee 2023)."
    )
    change_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = setting(
        0.1,
        "Greatest length of a deletion, insertion, translocation or inversion, as a share of the sequence; all lengths "
        "from 1 bp to it are equally likely.",
    )
    max_augmentations: PositiveInt = setting(
        2,
        "The most of these that an example gets at once, drawn from deletion, insertion, translocation, inversion, "
        "mutation and noise; of more, a random choice is made (Lee 2023).",
    )
    mixup_alpha: NonNegative = setting(
        0.0,
        "Each example is mixed with another one of its batch, bases and targets alike, in a share drawn from "
        "Beta(alpha, alpha) (Zhang 2018); 0: off.",
    )
    originals_fraction: Rate = setting(
        0.0,
        "Share of the steps, at the end, with none of the augmentations from mutation_rate to mixup_alpha: a second "
        "stage on the original sequences, on random strands and shifted as before (Lee 2023).",
    )
    validations: PositiveInt = setting(6, "How many times the validation split is scored.")
    monitor: Literal["auroc", "auprc", "loss"] = setting("auroc", "What makes one validation better.")
    patience: PositiveInt | None = setting(
        None, "Stop after this number of validations without a better one; none: run to the end."
    )
    keep: Literal["best", "last"] = setting("best", "Which validated model is kept.")
    calibrate: bool = setting(
        True,
        "Calibrate the kept model on the validation split, so that its probabilities agree with the observed shares "
        "there; the ranking stays the same.",
        changes_result=False,
    )
    calibrate_by: Literal["auto", "temperature", "platt", "isotonic"] = setting(
        "auto",
        "How to calibrate: temperature scales the logits; platt moves them as well (Platt 1999); isotonic adds a "
        "rising curve; auto: platt, unless cross-validation on the validation split finds isotonic better.",
        changes_result=False,
    )
    steps_per_dispatch: PositiveInt = setting(16, "Steps compiled into one call to the device.")
    log_every_steps: PositiveInt = setting(64, "Steps between two entries of the log.", changes_result=False)
    checkpoint_every_seconds: Positive = setting(60.0, "Time between two checkpoints.", changes_result=False)
    checkpoint_every_steps: PositiveInt | None = setting(
        None, "Steps between two checkpoints; none: by time.", changes_result=False
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "Number type of the compute; parameters and sums stay float32. auto: float32 on CPU, bfloat16 elsewhere.",
    )


class ParallelConfig(Settings):
    """Which devices and processes work, and what passes between them."""

    trains: ClassVar[bool] = True

    platform: Platform = setting(
        "auto", "What computes; auto: the best on this machine.", flag="--platform", changes_result=False
    )
    devices: PositiveInt | None = setting(
        None, "Devices of each process; none: all of the platform.", flag="--devices", changes_result=False
    )
    processes: PositiveInt = setting(
        1,
        "Processes to start on this machine, which share its cores or GPUs.",
        flag="--processes",
        changes_result=False,
    )
    cluster: str | None = setting(
        None,
        "Train on a Ray cluster: auto (the one of this machine), its address, or local (a temporary one on this "
        "machine only); none: no Ray.",
        flag="--cluster",
        metavar="ADDRESS",
        changes_result=False,
    )
    workers: PositiveInt = setting(1, "Number of workers on the Ray cluster.", flag="--workers", changes_result=False)
    worker_cpus: PositiveInt | None = setting(
        None, "CPUs that Ray reserves for a worker; none: its share of all CPUs of the cluster.", changes_result=False
    )
    worker_gpus: Annotated[int, Field(ge=0)] | None = setting(
        None, "GPUs that Ray reserves for a worker; none: one each, if the cluster has any.", changes_result=False
    )
    node_devices: PositiveInt | None = setting(
        None, "Number of devices of a node, with fast links between them; none: those of one process."
    )
    exchange: Literal["exact", "half", "int8", "topk", "powersgd"] = setting(
        "exact",
        "How gradients are sent; all except exact compress them, and change the result a little.",
        flag="--exchange",
    )
    hierarchical: bool = setting(False, "Sum gradients exactly inside a node, and compress them only between nodes.")
    rank: PositiveInt = setting(4, "Rank of the matrices that powersgd sends.", flag="--rank")
    top_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = setting(0.01, "Share of the numbers that topk sends.")
    sync: Literal["every-step", "delayed", "local", "async"] = setting(
        "every-step",
        "When workers exchange: every-step; delayed: gradients arrive one step late, while an accelerator computes "
        "the next one (a processor waits for them anyway); local: workers train alone for local_steps, then meet; "
        "async: a server takes the gradients of Ray workers when they arrive, each of a whole batch, which suits "
        "workers of unequal speed.",
        flag="--sync",
    )
    staleness: Annotated[int, Field(ge=0)] | None = setting(
        None,
        "The most steps by which a gradient may be late (async); none: twice the number of workers.",
        changes_result=False,
    )
    local_steps: PositiveInt = setting(16, "Steps between two meetings (local).", flag="--local-steps")
    outer_rate: Positive = setting(1.0, "Share of the mean change that a meeting takes over (local).")
    outer_momentum: Rate = setting(0.0, "Nesterov momentum of the meetings (local; DiLoCo: 0.9, rate 0.7).")
    max_restarts: Annotated[int, Field(ge=0)] = setting(
        3, "How many times a failed group of workers starts again from its last checkpoint.", changes_result=False
    )
    min_workers: PositiveInt | None = setting(
        None,
        "Continue with fewer workers, at least this number, if one fails again and again; none: all (async: 1).",
        flag="--min-workers",
        changes_result=False,
    )
    stall_seconds: Positive = setting(
        25.0, "A worker that makes no step in this time counts as hung.", changes_result=False
    )

    @model_validator(mode="after")
    def _check_workers(self) -> ParallelConfig:
        if self.cluster is None and self.workers > 1:
            raise ValueError("workers are for a Ray cluster, so cluster must say which; on one machine use processes")
        if self.cluster is not None and self.processes > 1:
            raise ValueError("processes are for this machine; with cluster, workers says how many")
        if self.sync == "async" and self.cluster is None:
            raise ValueError("sync = async needs workers on a Ray cluster, so cluster must say which: auto, or local")
        if self.sync == "async" and (self.exchange != "exact" or self.hierarchical):
            raise ValueError("with sync = async gradients are sent whole: exchange must be exact, and not hierarchical")
        if self.sync == "async" and self.most_staleness < self.workers - 1:
            raise ValueError(
                f"staleness = {self.staleness} lets {self.most_staleness + 1} workers compute at a time, and there are "
                f"{self.workers}: set it to {self.workers - 1} or more"
            )
        return self

    @property
    def most_staleness(self) -> int:
        """The most steps by which a gradient may be late with sync = async; one more batch may be in work."""
        return 2 * self.workers if self.staleness is None else self.staleness

    @property
    def starts_workers(self) -> bool:
        """Whether ebox itself starts and supervises a group of workers, here or on a Ray cluster."""
        return self.sync != "async" and (self.cluster is not None or self.processes > 1)

    @property
    def num_started(self) -> int:
        """How many workers it starts."""
        return self.processes if self.cluster is None else self.workers


BaselineName = Literal[
    "best_pwm",
    "motif_logistic",
    "gc_logistic",
    "confound_logistic",
    "kmer_logistic",
    "gapped_kmer_logistic",
]


class EvaluationConfig(Settings):
    """What is measured, and what it is compared with."""

    seed: Seed = shared_seed()
    num_bootstrap: Annotated[int, Field(ge=100)] = setting(
        1000, "How many times the examples are drawn again for an interval."
    )
    both_strands: bool = setting(True, "Average the logits of both strands.")
    threshold: Literal["accuracy", "balanced_accuracy", "mcc"] = setting(
        "accuracy", "What the decision threshold maximises on the validation split."
    )
    prevalence: Annotated[float, Field(gt=0.0, lt=1.0)] | None = setting(
        None,
        "Share of positives where the network will be used, such as 0.001 in a genome; none: not stated.",
        flag="--prevalence",
    )
    target_fdr: Annotated[float, Field(gt=0.0, lt=1.0)] = setting(
        0.1, "Greatest share of false calls at the threshold for a prevalence.", flag="--target-fdr"
    )
    set_coverage: Annotated[float, Field(gt=0.0, lt=1.0)] = setting(
        0.9, "Share of the sequences of each class whose set of answers holds the right one (conformal sets)."
    )
    baselines: tuple[BaselineName, ...] = setting(get_args(BaselineName), "What the network is compared with.")
    kmer: Annotated[int, Field(ge=1, le=8)] = setting(6, "Length of the words of the k-mer baseline.")
    motifs: tuple[str, ...] | None = setting(
        None,
        "JASPAR ids for the baselines on motifs; none: all that come with ebox, and where pyjaspar is installed all of"
        " vertebrates.",
    )
    batch_size: PositiveInt = setting(512, "Sequences that are scored at once.")


class ExplanationConfig(Settings):
    """What the network learned, and how far that can be trusted (docs/explanation.md)."""

    seed: Seed = setting(0, "Seed of the random numbers of the explanation.")
    method: Literal["deeplift", "saturation", "integrated", "gradient"] = setting(
        "deeplift", "How contributions are computed (docs/explanation.md).", flag="--method"
    )
    track: str | None = setting(None, "Which track is explained; none: the first.", flag="--track")
    sequences: Literal["called", "positive", "all"] = setting(
        "called", "Test sequences to explain: those called at the threshold, all positives, or all."
    )
    max_sequences: PositiveInt | None = setting(2000, "The most sequences that are drawn; none: all of them.")
    both_strands: bool = setting(True, "Explain the logit averaged over both strands, as it is reported.")
    num_references: PositiveInt = setting(10, "Dinucleotide shuffles that a sequence is compared with.")
    num_steps: PositiveInt = setting(16, "Points on the way from a reference (integrated).")
    batch_size: PositiveInt = setting(64, "Sequences that are explained at once.")
    discover: bool = setting(True, "Find motifs in the contributions; needs the extra `explain`.")
    max_seqlets: PositiveInt = setting(5000, "Stretches of high contribution that discovery groups.")
    leiden_runs: PositiveInt = setting(2, "Random starts of the grouping.")
    hit_p_value: Rate = setting(1e-4, "The share of random sites that score as high as a hit of a motif.")
    grammar: bool = setting(True, "Experiments: motifs put in, moved apart, destroyed.")
    num_backgrounds: Annotated[int, Field(ge=2)] = setting(200, "Shuffled sequences that motifs are put into.")
    pair: tuple[str, str] | None = setting(
        None, "Two motifs or words to move apart; none: the two most important discovered motifs."
    )
    max_gap_bp: PositiveInt = setting(30, "Greatest gap between the two motifs.")
    proof: bool = setting(True, "Check the explanation against other methods, networks and the truth.")
    num_checked: Annotated[int, Field(ge=10)] = setting(100, "Sequences that the checks are made on.")


class Config(Settings):
    """All settings, by section."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    transfer: TransferConfig = TransferConfig()
    parallel: ParallelConfig = ParallelConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    explanation: ExplanationConfig = ExplanationConfig()
    tuning: TuningConfig = TuningConfig()

    @classmethod
    def list_sections(cls) -> dict[str, type[Settings]]:
        """The sections by their names, in order."""
        return {name: type(field.default) for name, field in cls.model_fields.items()}

    def identity(self) -> dict[str, dict[str, Any]]:
        """The settings that define a training, by section: with another value it is another training."""
        return {
            section: {
                name: value for name, value in values.items() if changes_result(type(getattr(self, section)), name)
            }
            for section, values in self.model_dump(mode="json").items()
            if getattr(self, section).trains
        }


def changes_result(section: type[Settings], name: str) -> bool:
    """Whether a setting is part of the identity of a training."""
    more = section.model_fields[name].json_schema_extra
    return section.trains and isinstance(more, dict) and bool(more["changes_result"])
