"""The convolutional networks: layers, architectures, and how settings become a network.

Owns the mathematics from one-hot bases `(batch, length, 4)` to logits `(batch, track)`.
Knows nothing about devices, data folders or optimisers: a network is a pytree, a pass over it a pure function.
"""

from ebox.models.architectures import build_model, check_length, first_layer_filters, rescale_logits
from ebox.models.encoding import one_hot
from ebox.models.network import Network, apply_moments, count_parameters, is_trainable
from ebox.models.passes import Pass

__all__ = [
    "Network",
    "Pass",
    "apply_moments",
    "build_model",
    "check_length",
    "count_parameters",
    "first_layer_filters",
    "is_trainable",
    "one_hot",
    "rescale_logits",
]
