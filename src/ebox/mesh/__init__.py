"""Devices on a mesh, and what passes between them.

Owns the choice of devices, the two-level axis `data`, sums over it, the exchange of gradients in its exact and
compressed forms, and what the processes of a group tell each other on the host. Knows no network and no loop.
"""

from ebox.mesh.build import build_exchange
from ebox.mesh.devices import (
    DATA_AXIS,
    choose_convolution,
    find_devices,
    find_local_devices,
    make_mesh,
    put,
    replicate,
)
from ebox.mesh.exchange import Exchange, Message

__all__ = [
    "DATA_AXIS",
    "Exchange",
    "Message",
    "build_exchange",
    "choose_convolution",
    "find_devices",
    "find_local_devices",
    "make_mesh",
    "put",
    "replicate",
]
