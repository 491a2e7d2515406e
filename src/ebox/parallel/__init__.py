"""Processes, devices and what passes between them.

Owns the group of processes and how it is started and looked after, the choice of devices and the mesh with its axis
`data`, the exchange of gradients over it in its exact and compressed forms, and the description of the machine that a
run keeps. Knows nothing of networks, data folders or the training loop.
"""

from ebox.parallel.choice import build_exchange
from ebox.parallel.devices import (
    DATA_AXIS,
    choose_convolution,
    find_devices,
    find_local_devices,
    make_mesh,
    put,
    replicate,
)
from ebox.parallel.environment import describe_environment
from ebox.parallel.exchange import Exchange, Message
from ebox.parallel.processes import is_chief, join_group
from ebox.parallel.supervision import GroupPlan, supervise

__all__ = [
    "DATA_AXIS",
    "Exchange",
    "GroupPlan",
    "Message",
    "build_exchange",
    "choose_convolution",
    "describe_environment",
    "find_devices",
    "find_local_devices",
    "is_chief",
    "join_group",
    "make_mesh",
    "put",
    "replicate",
    "supervise",
]
