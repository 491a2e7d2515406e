"""Operations of an example in a train step, counted by the shapes of the layers, the same way for every machine.

A compiler counts what it made of them: on a processor the products of a transformed convolution, a third fewer.
"""

from __future__ import annotations

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
    pooled, channels, products = length_bp // model.pool_bp, model.num_filters, 0
    if model.architecture == "residual":
        filters = channels if model.body_filters is None else model.body_filters
        for width in (model.body_width, *(_DILATED_WIDTH for _ in model.dilations)):
            products += pooled * width * channels * filters
            channels = filters
    units = channels * len(model.pooling)
    for more in (*model.dense_units, 1):
        products += units * more
        units = more
    return float(_OPERATIONS * (first + _FORWARD_AND_BACK * products))
