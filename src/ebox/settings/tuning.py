"""The settings of several trainings as one piece of work: ensembles, and the search for better settings."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ebox.settings.fields import NonNegative, PositiveInt, Seed, Settings, setting, shared_seed


class EnsembleConfig(Settings):
    """Several networks as one, and one network of them."""

    trains: ClassVar[bool] = True

    members: PositiveInt | None = setting(
        None,
        "Number of networks that are trained with the seeds from train.seed on; their mean is the model. none: one "
        "network.",
        flag="--ensemble",
    )
    distil: bool = setting(
        False,
        "Train one more network on the mean and the spread of the ensemble's logits, on augmented sequences "
        "(Zhou 2026). It is then the model, as quick as any single network; the ensemble is kept beside it.",
        flag="--distil",
    )
    spread_weight: NonNegative = setting(
        0.1, "Weight of the error of the spread beside that of the mean in the loss of a distilled network."
    )

    @model_validator(mode="after")
    def _check_members(self) -> EnsembleConfig:
        if self.members == 1:
            raise ValueError(
                "an ensemble of 1 is a plain training: leave members (--ensemble) out, or ask for 2 or more"
            )
        if self.distil and self.members is None:
            raise ValueError("there is no ensemble to distil: say how many members it has (--ensemble 5)")
        return self


class TuningConfig(Settings):
    """The search for better settings (`ebox tune`)."""

    seed: Seed = shared_seed()
    sampler: Literal["tpe", "random"] = setting(
        "tpe", "Where new trials come from: tpe learns from those before (Bergstra 2011); random does not."
    )
    rungs: Annotated[int, Field(ge=1, le=8)] = setting(
        3, "How many lengths of training there are: each is reduction times the one before, the last is the whole one."
    )
    reduction: Annotated[int, Field(ge=2, le=16)] = setting(
        3, "Of each rung, the best 1 / reduction of the trials go on to the next one."
    )
    shape_members: PositiveInt = setting(
        1,
        "Trials in a row that share one shape of network and differ in rates alone, so that an accelerator can train "
        "them together.",
    )

    @property
    def round_trials(self) -> int:
        """Trials of a whole round, of which one reaches the last rung."""
        return int(self.reduction ** (self.rungs - 1))
