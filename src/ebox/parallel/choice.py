"""From settings to an exchange."""

from __future__ import annotations

from jax.sharding import Mesh

from ebox.config import ParallelConfig
from ebox.parallel.compression import Int8Exchange, TopKExchange
from ebox.parallel.devices import DATA_AXIS, DEVICE_AXIS, NODE_AXIS
from ebox.parallel.exchange import AxisName, ExactExchange, Exchange, HalfExchange, HierarchicalExchange, VectorExchange
from ebox.parallel.lowrank import PowerExchange


def build_exchange(config: ParallelConfig, mesh: Mesh) -> Exchange:
    """Choose the exchange for a mesh.

    Between one device and itself nothing is compressed: the exchange is exact there.
    """
    nodes, node_devices = mesh.shape[NODE_AXIS], mesh.shape[DEVICE_AXIS]
    senders = nodes if config.hierarchical else mesh.size
    if senders == 1 or config.exchange == "exact":
        return ExactExchange(mesh.size)
    if config.exchange == "powersgd":
        return PowerExchange(mesh.size, config.rank, node_devices, config.hierarchical)
    axis: AxisName = NODE_AXIS if config.hierarchical else DATA_AXIS
    platform = mesh.devices.flat[0].platform
    between = _build_vector_exchange(config, senders, axis, platform)
    return HierarchicalExchange(nodes, node_devices, between) if config.hierarchical else between


def _build_vector_exchange(config: ParallelConfig, workers: int, axis: AxisName, platform: str) -> VectorExchange:
    if config.exchange == "half":
        return HalfExchange(workers, platform != "cpu", axis)
    if config.exchange == "int8":
        return Int8Exchange(workers, axis)
    return TopKExchange(workers, axis, config.top_fraction)
