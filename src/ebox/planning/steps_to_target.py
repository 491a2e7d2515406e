"""How many steps a training needs to a validation AUROC, as a function of its batch and of how it exchanges."""

from __future__ import annotations

from dataclasses import dataclass

from ebox.planning.estimates import Estimate
from ebox.planning.profiles import Profile


@dataclass(frozen=True)
class StepsModel:
    """Fitted to whole trainings and the gradient noise scale of a profile."""

    @classmethod
    def of(cls, profile: Profile) -> StepsModel | None:
        """Fit the trainings of a profile; None: it holds none."""
        raise NotImplementedError

    def steps(
        self,
        target_auroc: float,
        batch_size: int,
        *,
        sync: str = "every-step",
        exchange: str = "exact",
        workers: int = 1,
    ) -> Estimate | None:
        """Steps of a whole training that ends at a validation AUROC; None: no number of steps reaches it.

        Args:
            target_auroc: What the kept model should reach on validation.
            batch_size: Global batch.
            sync: As the setting `parallel.sync`.
            exchange: As the setting `parallel.exchange`.
            workers: Workers that share the batch, on which `local` depends.
        """
        raise NotImplementedError

    def reachable(self, batch_size: int, *, sync: str = "every-step", exchange: str = "exact") -> Estimate:
        """The greatest validation AUROC that more steps lead to."""
        raise NotImplementedError

    def useful_batch(self) -> Estimate | None:
        """The batch past which more devices buy nothing: steps are twice the least there; None: unknown."""
        raise NotImplementedError
