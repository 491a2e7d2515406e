"""The exchange of gradients, built from the settings."""

from __future__ import annotations

from collections.abc import Mapping

from jax.sharding import Mesh

from ebox.mesh.collectives import Axis
from ebox.mesh.compression import Int8Exchange, TopKExchange
from ebox.mesh.devices import DATA_AXIS, DEVICE_AXIS, NODE_AXIS
from ebox.mesh.exchange import ExactExchange, Exchange, HalfExchange, HierarchicalExchange, VectorExchange
from ebox.mesh.lowrank import PowerExchange
from ebox.settings.reading import ParallelConfig
from ebox.workers.processes import is_on_loopback

# The exchange that each choice of `parallel.exchange` means.
EXCHANGES: Mapping[str, type[Exchange]] = {
    "exact": ExactExchange,
    "half": HalfExchange,
    "int8": Int8Exchange,
    "topk": TopKExchange,
    "powersgd": PowerExchange,
}


def build_exchange(config: ParallelConfig, mesh: Mesh) -> Exchange:
    """Choose the exchange for a mesh.

    With one device nothing is compressed: the exchange is exact.
    """
    nodes, node_devices = mesh.shape[NODE_AXIS], mesh.shape[DEVICE_AXIS]
    senders = nodes if config.hierarchical else mesh.size
    kind = ExactExchange if senders == 1 else EXCHANGES[config.exchange]
    if kind is ExactExchange:
        return ExactExchange(mesh.size, find_axis(mesh))
    if kind is PowerExchange:
        return PowerExchange(mesh.size, config.rank, node_devices, config.hierarchical, find_axis(mesh))
    axis = Axis(NODE_AXIS) if config.hierarchical else find_axis(mesh)
    platform = mesh.devices.flat[0].platform
    between = _build_vector_exchange(kind, config, senders, axis, platform)
    return HierarchicalExchange(mesh.size, node_devices, between, find_axis(mesh)) if config.hierarchical else between


def find_axis(mesh: Mesh) -> Axis:
    """The axis of all devices of a mesh: CPU processes with one device each swap, long vectors only on one machine."""
    devices = mesh.devices.ravel().tolist()
    processes = {device.process_index for device in devices}
    swaps = devices[0].platform == "cpu" and 1 < len(processes) == len(devices)
    return Axis(DATA_AXIS, swaps, on_one_machine=swaps and is_on_loopback())


def _build_vector_exchange(
    kind: type[Exchange], config: ParallelConfig, workers: int, axis: Axis, platform: str
) -> VectorExchange:
    if kind is HalfExchange:
        return HalfExchange(workers, platform != "cpu", axis)
    if kind is Int8Exchange:
        return Int8Exchange(workers, axis)
    return TopKExchange(workers, axis, config.top_fraction)
