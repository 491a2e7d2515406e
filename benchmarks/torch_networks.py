"""A network of ebox as a PyTorch module, operation for operation, so that other programs can train or explain it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from ebox.models.layers import (
    EXPONENT_LIMIT,
    Activation,
    BetterStrand,
    Convolution,
    Dense,
    Depthwise,
    Drop,
    MaxPool,
    Offset,
)
from ebox.models.network import Network
from ebox.models.normalisation import BATCH_NORM_EPSILON, BatchNorm
from ebox.models.pooling import GlobalPooling, position_bumps
from ebox.models.trace import Operation, Update


class Exponential(nn.Module):
    """The exponential, cut as in ebox."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        return torch.exp(torch.clamp(inputs, max=EXPONENT_LIMIT))


class StrandsConv1d(nn.Conv1d):
    """A convolution by the filters, and beside them by their reverse complements."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        return self._conv_forward(inputs, torch.cat([self.weight, self.weight.flip(1, 2)]), None)


class BetterHalf(nn.Module):
    """The greater of the scores on both strands."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        return torch.maximum(*inputs.chunk(2, dim=1))


class Add(nn.Module):
    """A number added to each channel."""

    def __init__(self, offset: Offset) -> None:
        super().__init__()
        self.values = nn.Parameter(tensor(offset.values)[:, None])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        return inputs + self.values


class Residual(nn.Module):
    """A body layer, added to its input where the shapes agree."""

    def __init__(self, update: Update) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(translate(one) for one in (*update.linear, update.activation, *update.project)))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        update = self.layers(inputs)
        return inputs + update if update.shape == inputs.shape else update


class Pool(nn.Module):
    """The kinds of global pooling side by side."""

    def __init__(self, pooling: GlobalPooling, length: int) -> None:
        super().__init__()
        self.kinds = pooling.kinds
        self.position = None if pooling.position is None else nn.Parameter(tensor(pooling.position).T.contiguous())
        self.attention = None if pooling.attention is None else nn.Parameter(tensor(pooling.attention))
        count = 1 if pooling.position is None else len(pooling.position)
        self.register_buffer("bumps", tensor(position_bumps(length, count)).T.contiguous())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        parts = [self.pool(inputs, kind) for kind in self.kinds]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def pool(self, inputs: torch.Tensor, kind: str) -> torch.Tensor:
        """One kind."""
        if kind == "max":
            return inputs.amax(-1)
        if kind == "log_mean_exp":
            return inputs.logsumexp(-1) - math.log(inputs.shape[-1])
        if kind == "attention":
            return self.attend(inputs)
        return (inputs if self.position is None else inputs * (1.0 + self.position @ self.bumps)).mean(-1)

    def attend(self, inputs: torch.Tensor) -> torch.Tensor:
        """The mean with weights by scores, a set of them for each head."""
        scores = torch.einsum("bcl,ch->bhl", inputs, self.attention) / math.sqrt(inputs.shape[1])
        features = inputs.reshape(len(inputs), scores.shape[1], -1, inputs.shape[2])
        return (scores.softmax(-1)[:, :, None] * features).sum(-1).flatten(1)


def make_twin(network: Network, length_bp: int, *, dropout: float = 0.0, filter_dropout: float = 0.0) -> nn.Sequential:
    """A module with the weights of a network, in training mode.

    Args:
        network: Any network of ebox.
        length_bp: Length of the sequences that it will read, one-hot as (batch, 4, length).
        dropout: Rate of the units of the head.
        filter_dropout: Rate of the motif filters.
    """
    stages = network.stages()
    first = [translate(one, filter_dropout) for one in (stages.scan, *stages.motifs)]
    body = [Residual(update) for update in stages.body]
    pool = Pool(stages.pooling, length_bp // network.motifs.pool_bp)
    return nn.Sequential(*first, *body, pool, *(translate(one, dropout) for one in stages.head))


def translate(operation: Operation, rate: float = 0.0) -> nn.Module:
    """The module that does what an operation does; `rate` is that of dropout."""
    match operation:
        case Convolution():
            return convolve(operation)
        case Depthwise():
            return slide(operation)
        case BatchNorm():
            return normalise(operation)
        case Dense():
            return connect(operation)
        case Offset():
            return Add(operation)
        case BetterStrand():
            return BetterHalf()
        case MaxPool(width=width):
            return nn.MaxPool1d(width)
        case Drop(of_filters=of_filters):
            return nn.Dropout1d(rate) if of_filters else nn.Dropout(rate)
        case Activation(kind="gelu"):
            return nn.GELU(approximate="tanh")
        case Activation(kind=kind):
            return {"exponential": Exponential, "relu": nn.ReLU, "linear": nn.Identity}[kind]()
    raise TypeError(f"no module for {operation}")


def convolve(convolution: Convolution) -> nn.Module:
    """A convolution with the padding of ebox."""
    width, channels, filters = convolution.weight.shape
    left, right = convolution.padding
    is_even = left == right
    kind = StrandsConv1d if convolution.both_strands else nn.Conv1d
    layer = kind(channels, filters, width, padding=left * is_even, dilation=convolution.dilation, bias=False)
    layer.weight.data = tensor(convolution.weight).permute(2, 1, 0).contiguous()
    return layer if is_even else nn.Sequential(nn.ConstantPad1d((left, right), 0.0), layer)


def slide(depthwise: Depthwise) -> nn.Module:
    """A convolution of each channel by itself, with the padding of ebox."""
    width, channels = depthwise.weight.shape
    layer = nn.Conv1d(channels, channels, width, groups=channels, bias=False)
    layer.weight.data = tensor(depthwise.weight).T[:, None].contiguous()
    return nn.Sequential(nn.ConstantPad1d(depthwise.padding, 0.0), layer)


def normalise(norm: BatchNorm) -> nn.Module:
    """A normalisation with its running moments."""
    layer = nn.BatchNorm1d(len(norm.scale), eps=BATCH_NORM_EPSILON)
    values = {"weight": norm.scale, "bias": norm.offset}
    values |= {"running_mean": norm.running.mean, "running_var": norm.running.variance}
    state = {name: tensor(value) for name, value in values.items()}
    layer.load_state_dict({**state, "num_batches_tracked": torch.tensor(0)})
    return layer


def connect(dense: Dense) -> nn.Linear:
    """A dense layer."""
    layer = nn.Linear(*dense.weight.shape, bias=dense.bias is not None)
    layer.weight.data = tensor(dense.weight).T.contiguous()
    if dense.bias is not None:
        layer.bias.data = tensor(dense.bias)
    return layer


def tensor(values: Any) -> torch.Tensor:
    """A copy in float32."""
    return torch.from_numpy(np.array(values, np.float32))
