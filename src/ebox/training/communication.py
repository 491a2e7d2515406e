"""What passes between the workers of a training: bytes for each step, and how many an exact exchange would send."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from jax.sharding import Mesh

from ebox.mesh.exchange import ExactExchange, Message
from ebox.models.network import Network
from ebox.settings.reading import ParallelConfig
from ebox.training.schedules import Schedule, trained_weights


@dataclass(frozen=True)
class CommunicationResult:
    """The messages of one meeting of the workers, and what a worker sends for each step on average.

    `sent_bytes_a_step` counts the payload of the ring algorithms, without the headers of the network;
    `exact_bytes_a_step` is what an exact exchange of the gradients at every step would send.
    """

    workers: int
    exchange: str
    sync: str
    steps_a_meeting: float
    messages: tuple[Message, ...]
    sent_bytes_a_step: float
    exact_bytes_a_step: float

    @property
    def ratio(self) -> float:
        """How many times fewer bytes than an exact exchange at every step; 1 where nothing is sent."""
        return self.exact_bytes_a_step / self.sent_bytes_a_step if self.sent_bytes_a_step else 1.0

    def facts(self) -> dict[str, Any]:
        """As JSON, with the ratio."""
        return {**asdict(self), "messages": [asdict(message) for message in self.messages], "ratio": self.ratio}


def describe_communication(
    schedule: Schedule, config: ParallelConfig, network: Network, mesh: Mesh
) -> CommunicationResult:
    """Add up what a schedule sends between the devices of a mesh.

    Args:
        schedule: When the devices meet, and how.
        config: The settings of the exchange.
        network: The network that is trained.
        mesh: The devices.
    """
    messages, steps = schedule.messages(network)
    exact = ExactExchange(mesh.size, schedule.exchange.axis).messages(trained_weights(network))
    alone = mesh.size == 1
    return CommunicationResult(
        workers=mesh.size,
        exchange=config.exchange,
        sync=config.sync,
        steps_a_meeting=steps,
        messages=() if alone else messages,
        sent_bytes_a_step=0.0 if alone else sum(message.sent_bytes for message in messages) / steps,
        exact_bytes_a_step=sum(message.sent_bytes for message in exact),
    )
