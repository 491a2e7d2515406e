"""Devices and what passes between them.

Owns the choice of devices and the mesh with its one axis `data`, the exchange of gradients over it, and the
description of the machine that a run keeps. Knows nothing of networks, data folders or the training loop.
"""

from ebox.parallel.devices import DATA_AXIS, choose_convolution, find_devices, make_mesh, replicate
from ebox.parallel.environment import describe_environment
from ebox.parallel.exchange import exchange_gradients

__all__ = [
    "DATA_AXIS",
    "choose_convolution",
    "describe_environment",
    "exchange_gradients",
    "find_devices",
    "make_mesh",
    "replicate",
]
