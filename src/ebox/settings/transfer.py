"""The settings of a training that begins with a trained network."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ebox.settings.fields import Fraction, Positive, PositiveInt, Settings, setting


class TransferConfig(Settings):
    """Begin with a trained network instead of fresh weights (docs/transfer.md)."""

    trains: ClassVar[bool] = True

    source: str | None = setting(
        None,
        "Run folder of the trained network to begin with; none: fresh weights.",
        flag="--from",
        metavar="RUN",
        # The identity of a run holds the network itself.
        changes_result=False,
    )
    fresh: Literal["auto", "output", "head"] | None = setting(
        "auto",
        "Which layers are drawn anew: the output, the whole dense head, or none. auto: none where the tracks have the "
        "names of the source's, else the output.",
    )
    freeze: Literal["motifs", "body"] | None = setting(
        None,
        "Up to which layer the weights stay as they are: motifs: the first layer; body: all layers before the pooling; "
        "none: all are trained.",
        flag="--freeze",
    )
    rate: Positive = setting(1.0, "Rate of the layers that are taken over, as a share of learning_rate.")
    fresh_rate: Positive = setting(1.0, "Rate of the layers that are drawn anew, as a share of learning_rate.")
    rate_decay: Annotated[float, Field(gt=0.0, le=1.0)] = setting(
        1.0, "Factor of the rate from each layer to the one below it, towards the sequence (Howard 2018)."
    )
    unfreeze_share: Fraction = setting(
        0.0,
        "Share of the steps over which the layers join the training one after another, from the output to the first "
        "layer (Howard 2018); 0: all train from the first step.",
    )
    statistics: Literal["move", "keep", "estimate"] = setting(
        "move",
        "The running statistics of batch normalisation in the layers that are taken over. move: as in every training; "
        "keep: those of the source, in training too; estimate: those of the new training examples, in training too.",
    )
    min_steps: PositiveInt | None = setting(
        400,
        "The least number of steps, however few examples an epoch has, unless max_steps is set; none: no least, also "
        "where epochs are given and this is not.",
    )
    other_length: bool = setting(
        False,
        "Take over a network that was trained on sequences of another length: its weights by position are stretched.",
        flag="--other-length",
    )
    allow_seen: bool = setting(
        False,
        "Train even if test examples, or nearly the same ones, trained the source, or if that can't be known.",
        flag="--allow-seen",
        changes_result=False,
    )
    source_data: tuple[str, ...] | None = setting(
        None,
        "Dataset folders of the source, and of those before it, if they are no longer where they were.",
        flag="--source-data",
        metavar="FOLDER",
        changes_result=False,
    )

    @model_validator(mode="after")
    def _check_source(self) -> TransferConfig:
        if self.source is not None:
            return self
        for name, field in type(self).model_fields.items():
            if getattr(self, name) != field.default:
                raise ValueError(
                    f"{name} is for a training that begins with a trained network, so source must say which: --from RUN"
                )
        return self
