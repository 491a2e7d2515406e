"""Operations of an example in a train step, counted by the shapes of the layers, the same way for every machine.

A compiler counts what it made of them: on a processor the products of a transformed convolution, a third fewer.
"""

from __future__ import annotations

from collections.abc import Iterator

from ebox.settings.reading import ModelConfig

# The width of the dilated layers of the body.
_DILATED_WIDTH = 3
# A product is needed forward, for the gradient of the weights and for that of the inputs; a product is two operations.
_FORWARD_AND_BACK, _OPERATIONS = 3, 2


def count_operations(model: ModelConfig, length_bp: int) -> float:
    """Operations of one example: those of all convolutions and dense layers.

    Args:
        model: The settings of the network.
        length_bp: Length of the examples.
    """
    strands = 2 if model.read_strands == "both" else 1
    # The first layer has no gradient of its inputs.
    first = (_FORWARD_AND_BACK - 1) * length_bp * model.filter_width_bp * 4 * model.num_filters * strands
    pooled, units = length_bp // model.pool_bp, model.num_features * len(model.pooling)
    products = pooled * sum(_count_layers(model))
    for more in (*model.dense_units, 1):
        products += units * more
        units = more
    return float(_OPERATIONS * (first + _FORWARD_AND_BACK * products))


def _count_layers(model: ModelConfig) -> Iterator[int]:
    """Products at each pooled position, layer by layer."""
    channels, filters = model.num_filters, model.num_features
    if model.architecture == "residual":
        for width in (model.body_width, *(_DILATED_WIDTH for _ in model.dilations)):
            yield width * channels * filters
            channels = filters
    elif model.architecture == "convnext":
        for _ in range(model.blocks):
            yield model.block_width * channels + model.expansion * channels * (channels + filters)
            channels = filters
