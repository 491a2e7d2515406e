"""Asynchronous training: workers of unequal speed compute gradients, and one server takes them as they come.

The server hands out the batches in order, each with the present weights, and makes a step with every gradient that
comes back. By then the weights have moved on by some steps: the gradient's staleness, which never exceeds a bound. No
more batches are under way than the bound allows, and a gradient waits if a step with it would make an older one too
late (bounded staleness: Ho 2013). The batch of a lost worker goes to another. The result depends on the speed of each
worker, so it is not the same twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, final, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from ebox.mesh.devices import DATA_AXIS
from ebox.mesh.exchange import Message, count_numbers
from ebox.models.network import Network
from ebox.models.normalisation import Moments
from ebox.settings.reading import Config
from ebox.training.batches import ChunkPlan, Shares, make_chunk
from ebox.training.communication import CommunicationResult
from ebox.training.gradients import Batch, share_of_gradient
from ebox.training.inputs import TrainingData, TrainingInputs
from ebox.training.schedules import merge_moments, running_moments, trained_weights
from ebox.training.state import Hyperparameters, TrainState
from ebox.training.step import DispatchMetrics, compiler_options, make_plan

Leaves = list[np.ndarray]


@dataclass(frozen=True)
class GradientResult:
    """What a worker returns: the gradient and the moments of its batch as leaves, and the loss."""

    gradient: Leaves
    moments: Leaves
    loss: float


@runtime_checkable
class WorkerPool(Protocol):
    """Workers that compute gradients; a lost one is replaced, or missing from then on."""

    def workers(self) -> Sequence[int]:
        """The numbers of the present workers."""

    def share(self, leaves: Leaves) -> Any:
        """Make weights known to all workers, and return what stands for them."""

    def submit(self, worker: int, ticket: int, weights: Any) -> None:
        """Let a free worker compute the gradient of a batch."""

    def wait(self) -> Sequence[tuple[int, GradientResult | None]]:
        """Wait until workers are done: the number and the result of each, None where the worker was lost.

        A new worker ends the waiting too, without a result.

        Raises:
            WorkersFailedError: too few are left.
        """


class GradientComputer:
    """A worker's side: the gradient of any batch of the order at given weights."""

    def __init__(self, data: TrainingData, config: Config, mesh: Mesh) -> None:
        """Take the dataset, the settings, and this worker's devices."""
        self._inputs, self._mesh = TrainingInputs.of(data, config), mesh
        self._shares = Shares.of(mesh, config.train.batch_size, config.train.device_batch_size)
        arrays, self._static = eqx.partition(self._inputs.fresh, eqx.is_array)
        self._structure = jax.tree.structure(arrays)
        self._plan = make_plan(config, mesh)
        self._compute = jax.jit(self._build(), compiler_options=compiler_options(mesh))

    def _build(self) -> Callable[..., Any]:
        pass_plan = self._plan.schedule.pass_plan

        def local(arrays: Any, shares: tuple[Any, ...], known: Array, step: Array, rates: Hyperparameters) -> Any:
            network = eqx.combine(arrays, self._static)
            codes, targets, mask, partners = jax.tree.map(lambda rows: rows[0], shares)
            batch = Batch(codes, targets, mask, known[0], partners)
            with self._plan.precision():
                share = share_of_gradient(network, batch, step, rates, pass_plan)
            gradient, loss = jax.lax.psum((share.gradient, share.loss), DATA_AXIS)
            moments = share.moments
            if self._plan.schedule.are_moments_apart:
                moments = merge_moments(moments, share.num_examples, running_moments(network))
            return jax.tree.leaves(gradient), jax.tree.leaves(moments), loss

        sharded, everywhere = PartitionSpec(None, DATA_AXIS), PartitionSpec()
        return jax.shard_map(
            local,
            mesh=self._mesh,
            in_specs=(everywhere, sharded, everywhere, everywhere, everywhere),
            out_specs=everywhere,
            check_vma=False,
        )

    def compute(self, ticket: int, weights: Leaves) -> GradientResult:
        """The gradient of batch `ticket`."""
        inputs = self._inputs
        chunk = make_chunk(inputs.codes, inputs.targets, inputs.order, ChunkPlan(ticket, 1), 1, self._shares)
        arrays, step = jax.tree.unflatten(self._structure, weights), jnp.asarray(ticket, jnp.int32)
        shares = (chunk.codes, chunk.targets, chunk.mask, chunk.partners)
        gradient, moments, loss = self._compute(arrays, shares, chunk.known, step, inputs.hyper)
        return GradientResult(
            [np.asarray(leaf) for leaf in gradient], [np.asarray(leaf) for leaf in moments], float(loss)
        )


@dataclass(eq=False)
class _Ticket:
    """A batch under way: its number, the step of the weights it was given, and its gradient once it is known."""

    number: int
    version: int
    result: GradientResult | None = None


@final
@dataclass
class Ledger:
    """Which batches are under way, and whose gradient may be taken, so that staleness keeps to its bound.

    The tickets under way are in order of their version, and the one of rank r is taken at most r steps from now. So
    `applied + r - version <= bound` must hold for all: no more are handed out than the bound allows, and no gradient is
    taken that would break it for an older one. The oldest can always be taken, so nothing gets stuck.
    """

    bound: int
    applied: int
    under_way: list[_Ticket] = field(default_factory=list)
    staleness: dict[int, int] = field(default_factory=dict)

    def can_hand_out(self) -> bool:
        """Whether one more batch may be under way."""
        return len(self.under_way) <= self.bound

    def hand_out(self, number: int) -> _Ticket:
        """Put a batch under way with the present weights."""
        ticket = _Ticket(number, self.applied)
        self.under_way.append(ticket)
        return ticket

    def give_up(self, ticket: _Ticket) -> None:
        """Drop a batch that will not come back."""
        self.under_way.remove(ticket)

    def drop_from(self, number: int) -> list[_Ticket]:
        """Drop the batches from this number on, and return them."""
        dropped = [ticket for ticket in self.under_way if ticket.number >= number]
        self.under_way = [ticket for ticket in self.under_way if ticket.number < number]
        return dropped

    def take(self, latest: int) -> _Ticket | None:
        """Take the next gradient that may be taken now, of a batch before `latest`; none where there is none."""
        for rank, ticket in enumerate(self.under_way):
            if ticket.result is not None and ticket.number < latest:
                self.under_way.pop(rank)
                late = self.applied - ticket.version
                self.staleness[late] = self.staleness.get(late, 0) + 1
                self.applied += 1
                return ticket
            # Younger gradients must wait if one more step would make this one too late.
            if self.applied + 1 + rank - ticket.version > self.bound:
                return None
        return None


@final
class AsyncEngine:
    """The server: makes the steps of a training with the gradients of a pool."""

    def __init__(self, pool: WorkerPool, config: Config, mesh: Mesh, num_steps: int) -> None:
        """Prepare the steps; nothing is handed out yet.

        Args:
            pool: The workers.
            config: The settings.
            mesh: This process's devices.
            num_steps: Number of steps of the whole training.
        """
        self._pool, self._bound, self._num_steps = pool, config.parallel.most_staleness, num_steps
        self._num_workers = config.parallel.workers
        self._schedule = make_plan(config, mesh).schedule
        self._advance = jax.jit(self._make_step, donate_argnums=0)
        self._ledger = Ledger(self._bound, 0)
        self._next: int | None = None
        self._again: list[int] = []
        self._busy: dict[int, _Ticket] = {}
        self._counts: dict[int, int] = {}
        self._weights: tuple[int, Any] = (-1, None)

    def _make_step(
        self, state: TrainState, gradient: list[Array], moments: list[Array], rates: Hyperparameters
    ) -> tuple[TrainState, Array, Array]:
        total = jax.tree.unflatten(jax.tree.structure(trained_weights(state.network)), gradient)
        pairs = zip(moments[::2], moments[1::2], strict=True)
        return self._schedule.advance(state, total, tuple(Moments(mean, variance) for mean, variance in pairs), rates)

    def run(
        self, plan: ChunkPlan, rates: Hyperparameters, signals: np.ndarray, state: TrainState
    ) -> tuple[TrainState, DispatchMetrics]:
        """Make the steps of a plan; batches after it may be under way already when this returns.

        Args:
            plan: Which steps.
            rates: Rates and weights.
            signals: `(signal,)`; they are handed on with the metrics.
            state: Where to start from; its memory is used again.
        """
        if self._next is None:
            self._next = self._ledger.applied = plan.first
        facts: list[tuple[float, Any, Any]] = []
        while len(facts) < plan.count:
            self._hand_out(state)
            ticket = self._ledger.take(plan.first + plan.count)
            if ticket is None:
                if self._busy or not self._pool.workers():
                    self._wait()
                else:
                    # Batches of later plans may not be taken yet, and block one that was handed out again.
                    self._again += [later.number for later in self._ledger.drop_from(plan.first + plan.count)]
                continue
            assert ticket.result is not None
            state, norm, rate = self._advance(state, ticket.result.gradient, ticket.result.moments, rates)
            facts.append((ticket.result.loss, norm, rate))
        losses, norms, taken = (jnp.asarray([float(one[place]) for one in facts]) for place in range(3))
        return state, DispatchMetrics(losses, norms, taken, jnp.asarray(signals))

    def _hand_out(self, state: TrainState) -> None:
        """Give every free worker a batch, while the bound allows it."""
        for worker in self._pool.workers():
            if worker in self._busy or not self._ledger.can_hand_out():
                continue
            if self._again:
                # The oldest first: it is the one that others wait for.
                number = min(self._again)
                self._again.remove(number)
            elif self._next is not None and self._next < self._num_steps:
                number, self._next = self._next, self._next + 1
            else:
                return
            if self._weights[0] != self._ledger.applied:
                arrays = eqx.filter(state.network, eqx.is_array)
                self._weights = (
                    self._ledger.applied,
                    self._pool.share([np.asarray(leaf) for leaf in jax.tree.leaves(arrays)]),
                )
            self._busy[worker] = self._ledger.hand_out(number)
            self._pool.submit(worker, number, self._weights[1])

    def _wait(self) -> None:
        for worker, result in self._pool.wait():
            ticket = self._busy.pop(worker)
            if result is None:
                self._ledger.give_up(ticket)
                self._again.append(ticket.number)
            else:
                ticket.result = result
                self._counts[worker] = self._counts.get(worker, 0) + 1

    def facts(self, network: Network) -> dict[str, Any]:
        """What passed between server and workers since this start of the training, for `training.json`."""
        weights = 4 * count_numbers(network)
        gradient = 4 * count_numbers(trained_weights(network))
        messages = (
            Message("weights", weights, 0.0),
            Message("gradient", gradient, float(gradient)),
        )
        # One worker sends its gradient for each step, the others nothing.
        each = gradient / self._num_workers
        sent = CommunicationResult(self._num_workers, "exact", "async", float(self._num_workers), messages, each, each)
        taken = self._ledger.staleness
        total = max(1, sum(taken.values()))
        return {
            **sent.facts(),
            "staleness": {
                "bound": self._bound,
                "mean": sum(late * count for late, count in taken.items()) / total,
                "max": max(taken, default=0),
            },
            "gradients_by_worker": [count for _, count in sorted(self._counts.items())],
        }
