"""From settings to an exchange."""

from __future__ import annotations

from jax.sharding import Mesh

from ebox.collectives import Link
from ebox.config import ParallelConfig
from ebox.parallel.compression import Int8Exchange, TopKExchange
from ebox.parallel.devices import DATA_AXIS, DEVICE_AXIS, NODE_AXIS
from ebox.parallel.exchange import ExactExchange, Exchange, HalfExchange, HierarchicalExchange, VectorExchange
from ebox.parallel.lowrank import PowerExchange
from ebox.parallel.processes import is_on_loopback


def build_exchange(config: ParallelConfig, mesh: Mesh) -> Exchange:
    """Choose the exchange for a mesh.

    Between one device and itself nothing is compressed: the exchange is exact there.
    """
    nodes, node_devices = mesh.shape[NODE_AXIS], mesh.shape[DEVICE_AXIS]
    senders = nodes if config.hierarchical else mesh.size
    if senders == 1 or config.exchange == "exact":
        return ExactExchange(mesh.size, find_link(mesh))
    if config.exchange == "powersgd":
        return PowerExchange(mesh.size, config.rank, node_devices, config.hierarchical, find_link(mesh))
    link = Link(NODE_AXIS) if config.hierarchical else find_link(mesh)
    platform = mesh.devices.flat[0].platform
    between = _build_vector_exchange(config, senders, link, platform)
    return HierarchicalExchange(mesh.size, node_devices, between, find_link(mesh)) if config.hierarchical else between


def find_link(mesh: Mesh) -> Link:
    """That of all devices of a mesh: CPU processes of one device each swap, long vectors on one machine alone."""
    devices = mesh.devices.ravel().tolist()
    processes = {device.process_index for device in devices}
    swaps = devices[0].platform == "cpu" and 1 < len(processes) == len(devices)
    return Link(DATA_AXIS, swaps, on_one_machine=swaps and is_on_loopback())


def _build_vector_exchange(config: ParallelConfig, workers: int, link: Link, platform: str) -> VectorExchange:
    if config.exchange == "half":
        return HalfExchange(workers, platform != "cpu", link)
    if config.exchange == "int8":
        return Int8Exchange(workers, link)
    return TopKExchange(workers, link, config.top_fraction)
