"""Which settings of a training are data of the compiled step, so that members of one population may differ in them."""

from __future__ import annotations

MEMBER_SETTINGS = frozenset(
    {
        "seed",
        "learning_rate",
        "final_rate_fraction",
        "warmup_fraction",
        "weight_decay",
        "dropout",
        "filter_dropout",
        "label_smoothing",
        "positive_weight",
        "ema_decay",
        "mutation_rate",
        "deletion_rate",
        "insertion_rate",
        "translocation_rate",
        "inversion_rate",
        "noise",
        "change_fraction",
        "max_augmentations",
        "mixup_alpha",
        "originals_fraction",
    }
)
# Of these a step is compiled with a part of its own where they are above 0, so all members have it or none has.
SWITCHES = frozenset(
    {
        "mutation_rate",
        "deletion_rate",
        "insertion_rate",
        "translocation_rate",
        "inversion_rate",
        "noise",
        "mixup_alpha",
    }
)
