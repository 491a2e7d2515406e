"""The settings of the network."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ebox.settings.fields import PositiveInt, Settings, setting


class ModelConfig(Settings):
    """The network."""

    trains: ClassVar[bool] = True

    architecture: Literal["motif", "residual", "convnext"] = setting(
        "residual",
        "motif: one layer of motif detectors; residual: layers above it that read their order and spacing; convnext: "
        "above it blocks that read a wide window of each detector by itself, and then all detectors at each position "
        "(Liu 2022).",
    )
    num_filters: PositiveInt = setting(128, "Filters of the first layer: the motif detectors.")
    filter_width_bp: PositiveInt = setting(15, "Bases that a filter reads.")
    activation: Literal["exponential", "relu", "gelu", "linear"] = setting(
        "exponential",
        "Activation after the first layer. Exponential filters look like motifs (Koo 2021); linear: for log_mean_exp.",
    )
    pool_bp: PositiveInt = setting(4, "Bases over which the maximum is taken after the first layer.")
    body_width: PositiveInt = setting(5, "Width of the first body convolution, in pooled positions (residual).")
    body_filters: PositiveInt | None = setting(
        None, "Filters of the body; none: the value of num_filters (residual, convnext)."
    )
    dilations: tuple[PositiveInt, ...] = setting((2, 4), "One residual layer of width 3 for each dilation (residual).")
    blocks: PositiveInt = setting(3, "Number of blocks (convnext).")
    block_width: PositiveInt = setting(11, "Pooled positions of the window that a block reads (convnext).")
    expansion: PositiveInt = setting(2, "How many times wider the middle of a block is than its input (convnext).")
    pooling: tuple[Literal["max", "mean", "log_mean_exp", "attention"], ...] = setting(
        ("mean",),
        "Global pooling; log_mean_exp adds up the evidence of all positions, as a likelihood ratio does; attention: a "
        "mean whose weights the network finds for each sequence.",
        min_length=1,
    )
    attention_heads: PositiveInt = setting(
        8, "Sets of weights over the positions, each for its own part of the features (attention)."
    )
    position_basis: Annotated[int, Field(ge=0)] = setting(
        8, "Number of smooth, learned position weights in the global mean; 0: position can't matter."
    )
    dense_units: tuple[PositiveInt, ...] = setting((64,), "Units of each dense layer before the logits.")
    strands: Literal["one", "both"] | None = setting(
        None,
        "both: every filter reads both strands with shared weights, and the better one counts. "
        "none: both for motif, one for residual and convnext.",
    )
    batch_norm: bool = setting(True, "Use batch normalisation.")

    @model_validator(mode="after")
    def _check_heads(self) -> ModelConfig:
        if "attention" in self.pooling and self.num_features % self.attention_heads:
            raise ValueError(
                f"attention_heads = {self.attention_heads} does not divide the {self.num_features} features that are "
                "pooled: the number of filters of the last layer must be a multiple of it"
            )
        return self

    @property
    def num_features(self) -> int:
        """Channels of the last layer before the global pooling."""
        has_body = self.architecture != "motif"
        return self.body_filters if has_body and self.body_filters is not None else self.num_filters

    @property
    def read_strands(self) -> Literal["one", "both"]:
        """The strands that a filter reads."""
        if self.strands is not None:
            return self.strands
        return "both" if self.architecture == "motif" else "one"

    def describe_network(self) -> dict[str, Any]:
        """The settings as JSON, without those of blocks and attention where the network has none."""
        unused = set() if self.architecture == "convnext" else {"blocks", "block_width", "expansion"}
        unused |= set() if "attention" in self.pooling else {"attention_heads"}
        return self.model_dump(mode="json", exclude=unused)
