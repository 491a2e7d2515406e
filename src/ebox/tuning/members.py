"""Which settings of a training are data of the compiled step, so that members of one population may differ in them."""

from __future__ import annotations

from typing import Any

from ebox.settings.reading import Config

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


def describe_shape(config: Config) -> dict[str, Any]:
    """What members of one population have in common, by `section.name`: trainings with equal ones can be members."""
    settings = {
        f"{section}.{name}": value for section, values in config.identity().items() for name, value in values.items()
    }
    shape = {key: value for key, value in settings.items() if key.removeprefix("train.") not in MEMBER_SETTINGS}
    return shape | {f"train.{name} > 0": getattr(config.train, name) > 0.0 for name in SWITCHES}
