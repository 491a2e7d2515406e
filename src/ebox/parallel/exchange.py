"""The exchange of gradients between the devices of a mesh axis: the one place where it happens."""

from __future__ import annotations

from typing import TypeVar

import jax

Tree = TypeVar("Tree")


def exchange_gradients(gradients: Tree, axis_name: str) -> Tree:
    """Sum the devices' shares of the gradient over `axis_name`, exactly: an All-Reduce in float32.

    Each device brings the gradient of its masked sum divided by the global count, so the sum is the gradient of
    the mean over the global batch. To be called under `shard_map`.
    """
    return jax.lax.psum(gradients, axis_name)
