"""All checks of an explanation, on a few of its sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt8

from ebox.config import ExplanationConfig
from ebox.errors import InputError
from ebox.explanation.attribution import METHODS, Attributions, attribute
from ebox.explanation.choice import Truth
from ebox.explanation.discovery import Discovered
from ebox.explanation.files import EXPLANATION, MOTIFS
from ebox.explanation.proof import (
    check_agreement,
    check_randomised,
    compare_motifs,
    compare_planted,
    correlate_ranks,
    measure_recovery,
)
from ebox.models import Network
from ebox.sequences.motif_files import read_meme
from ebox.training.model_files import LoadedModel


def check_comparable(model: LoadedModel, other: LoadedModel, against: Path) -> None:
    """Raise InputError where another run is of another task."""
    if other.length_bp != model.length_bp or other.tracks != model.tracks:
        raise InputError(
            f"reads {other.length_bp} bp and gives {', '.join(other.tracks)}; this run reads "
            f"{model.length_bp} bp and gives {', '.join(model.tracks)}",
            file=against,
            remedy="give a run on the same data, trained with another seed",
        )


@dataclass(frozen=True)
class Checks:
    """What the checks are made with."""

    model: LoadedModel
    config: ExplanationConfig
    track: int
    mesh: Mesh
    progress: Callable[[str, int, int], None] | None

    def run(
        self,
        codes: UInt8[np.ndarray, "example length"],
        names: Sequence[str],
        found: Attributions,
        motifs: Sequence[Discovered],
        truth: Truth,
        other: LoadedModel | None,
        against: Path | None,
    ) -> dict[str, Any]:
        """Make every check; one that can't be made is null."""
        random = np.random.default_rng(self.config.seed)
        rows = np.sort(random.choice(len(codes), min(self.config.num_checked, len(codes)), replace=False))
        few = codes[rows]
        by_method = {method: self._explain(few, self.model.network, method) for method in METHODS}
        own = by_method[self.config.method]
        return {
            "num_sequences": len(few),
            "recovery": self._recover(codes, names, found, truth, by_method, rows),
            "planted_motifs": compare_planted(motifs, truth.motifs) if truth.motifs else None,
            "randomised": check_randomised(
                self.model.network,
                lambda network, method: self._explain(few, network, method),
                self.config.method,
                own,
                self.config.seed,
            ),
            "agreement": check_agreement(by_method, self.config.seed),
            "seeds": None if other is None else self._compare(few, own, motifs, other, against),
        }

    def _explain(self, codes: np.ndarray, network: Network, method: str) -> np.ndarray:
        return attribute(
            network, codes, self.config, self.track, method=method, mesh=self.mesh, progress=self.progress
        ).contributions()

    def _recover(
        self,
        codes: np.ndarray,
        names: Sequence[str],
        found: Attributions,
        truth: Truth,
        by_method: dict[str, np.ndarray],
        rows: np.ndarray,
    ) -> list[dict[str, Any]] | None:
        """Recovery of the planted bases, by the method of the explanation on all, by the others on a few."""
        mask = truth.mark(names, codes.shape[1])
        if mask is None:
            return None
        results = [{"method": self.config.method, **measure_recovery(found.contributions(), mask, self.config.seed)}]
        if mask[rows].any():
            results += [
                {"method": method, **measure_recovery(values, mask[rows], self.config.seed)}
                for method, values in by_method.items()
                if method != self.config.method
            ]
        return results

    def _compare(
        self,
        codes: np.ndarray,
        own: np.ndarray,
        motifs: Sequence[Discovered],
        other: LoadedModel,
        against: Path | None,
    ) -> dict[str, Any]:
        """How like the explanation of another network of the same task is."""
        assert against is not None
        theirs = self._explain(codes, other.network, self.config.method)
        meme = against / EXPLANATION / MOTIFS
        motifs_alike = compare_motifs(motifs, read_meme(meme)) if meme.exists() and motifs else None
        return {"run": against.resolve().name, **correlate_ranks(own, theirs, self.config.seed), "motifs": motifs_alike}
