"""A trained network of ebox as a PyTorch module, layer for layer, so that other programs can explain the same one."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from ebox.models import MotifNetwork, Network, ResidualNetwork
from ebox.models.layers import EXPONENT_LIMIT, Convolution
from ebox.models.normalisation import BATCH_NORM_EPSILON, BatchNorm
from ebox.models.trace import body_of, position_weights, scan_weight


class Exponential(nn.Module):
    """The exponential, cut as in ebox."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        return torch.exp(torch.clamp(inputs, max=EXPONENT_LIMIT))


class Update(nn.Module):
    """A body layer: convolution, normalisation, ReLU, and the sum where the shapes agree."""

    def __init__(self, convolution: Convolution, norm: BatchNorm | None) -> None:
        super().__init__()
        self.layers = nn.Sequential(*convolve(convolution.weight, convolution.dilation), *normalise(norm), nn.ReLU())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        update = self.layers(inputs)
        return inputs + update if update.shape == inputs.shape else update


class Pool(nn.Module):
    """The mean over positions with the learned weights, or the maximum."""

    def __init__(self, kinds: tuple[str, ...], weights: np.ndarray) -> None:
        super().__init__()
        self.kinds = kinds
        self.register_buffer("weights", torch.from_numpy(weights.T.copy()))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        parts = [inputs.amax(-1) if kind == "max" else (inputs * self.weights).mean(-1) for kind in self.kinds]
        return torch.cat(parts, dim=-1)


def export(network: Network, length_bp: int) -> nn.Sequential:
    """The network as a module over (batch, 4, length); one strand."""
    assert isinstance(network, MotifNetwork | ResidualNetwork)
    motifs = network.motifs
    assert not motifs.both_strands
    layers: list[nn.Module] = [*convolve(scan_weight(motifs), 1), nn.MaxPool1d(motifs.pool_bp), *normalise(motifs.norm)]
    layers.append({"exponential": Exponential, "relu": nn.ReLU}[motifs.activation]())
    layers += [Update(convolution, norm) for convolution, norm in body_of(network)]
    weights = np.asarray(position_weights(network.pooling, length_bp // motifs.pool_bp), np.float32)
    layers.append(Pool(network.pooling.kinds, weights))
    for dense, norm in network.head.hidden:
        layers += [connect(dense.weight, dense.bias), *normalise(norm), nn.ReLU()]
    layers.append(connect(network.head.output.weight, network.head.output.bias))
    return nn.Sequential(*layers).eval()


def convolve(weight: jnp.ndarray, dilation: int) -> list[nn.Module]:
    """A convolution with the padding of ebox."""
    width, channels, filters = weight.shape
    left = dilation * ((width - 1) // 2)
    layer = nn.Conv1d(channels, filters, width, dilation=dilation, bias=False)
    layer.weight.data = torch.from_numpy(np.asarray(weight, np.float32).transpose(2, 1, 0).copy())
    return [nn.ConstantPad1d((left, dilation * (width - 1) - left), 0.0), layer]


def normalise(norm: BatchNorm | None) -> list[nn.Module]:
    """A normalisation with its running moments."""
    if norm is None:
        return []
    layer = nn.BatchNorm1d(len(norm.scale), eps=BATCH_NORM_EPSILON)
    values = {"weight": norm.scale, "bias": norm.offset}
    values |= {"running_mean": norm.running.mean, "running_var": norm.running.variance}
    state = {name: torch.from_numpy(np.asarray(value, np.float32).copy()) for name, value in values.items()}
    layer.load_state_dict({**state, "num_batches_tracked": torch.tensor(0)})
    return [layer]


def connect(weight: jnp.ndarray, bias: jnp.ndarray | None) -> nn.Linear:
    """A dense layer."""
    layer = nn.Linear(weight.shape[0], weight.shape[1], bias=bias is not None)
    layer.weight.data = torch.from_numpy(np.asarray(weight, np.float32).T.copy())
    if bias is not None:
        layer.bias.data = torch.from_numpy(np.asarray(bias, np.float32).copy())
    return layer
