"""How reliable an explanation is: compared with the truth, shuffled networks, other methods and other seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, UInt8

from ebox.errors import InputError
from ebox.explanation.attribution import METHODS, Attributions, attribute
from ebox.explanation.discovery import Discovered
from ebox.explanation.experiments import describe_mean
from ebox.explanation.filters import find_resemblance
from ebox.explanation.subject import Truth
from ebox.models.ensemble import AnyNetwork, Ensemble
from ebox.models.files import LoadedModel
from ebox.models.network import Network, is_trainable
from ebox.progress import Progress
from ebox.sequences.matrices import Motif
from ebox.sequences.motif_files import read_meme
from ebox.settings.reading import ExplanationConfig
from ebox.storage.run_folder import EXPLANATION, MOTIFS

NUM_RESAMPLES = 200
NUM_HEAD_DRAWS = 10
Contributions = Float[np.ndarray, "example length"]
Explain = Callable[[AnyNetwork, str], Contributions]


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
    """The network and the settings of the checks."""

    model: LoadedModel
    config: ExplanationConfig
    track: int
    mesh: Mesh
    progress: Progress

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
        """Make every check; the result of a check that can't be made is None.

        Args:
            codes: The explained sequences.
            names: Their names.
            found: Their explanation.
            motifs: The discovered motifs.
            truth: What was planted, where that is known.
            other: A network of another seed; None: it is not compared.
            against: The run folder of `other`.
        """
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

    def _explain(self, codes: np.ndarray, network: AnyNetwork, method: str) -> np.ndarray:
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
        """Recovery of the planted bases: by the method of the explanation on all rows, by the others on a few."""
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
        self, codes: np.ndarray, own: np.ndarray, motifs: Sequence[Discovered], other: LoadedModel, against: Path | None
    ) -> dict[str, Any]:
        """How similar the explanation of another network of the same task is."""
        assert against is not None
        theirs = self._explain(codes, other.network, self.config.method)
        meme = against / EXPLANATION / MOTIFS
        motifs_alike = compare_motifs(motifs, read_meme(meme)) if meme.exists() and motifs else None
        return {"run": against.resolve().name, **correlate_ranks(own, theirs, self.config.seed), "motifs": motifs_alike}


def measure_recovery(
    contributions: Contributions, planted: Bool[np.ndarray, "example length"], seed: int = 0
) -> dict[str, Any]:
    """How well |contribution| separates planted bases from others: AUROC and AUPRC over all bases, with intervals.

    The intervals are from resampled sequences; sequences without a planted base are left out.
    """
    from ebox.evaluation.metrics import compute_metrics

    kept = planted.any(axis=1)
    strength, truth = np.abs(contributions[kept]), planted[kept]
    random = np.random.default_rng(seed)
    draws = [np.arange(len(strength))]
    draws += [random.integers(0, len(strength), len(strength)) for _ in range(NUM_RESAMPLES)]
    found = [compute_metrics(truth[rows].ravel(), strength[rows].ravel()) for rows in draws]
    values = np.array([[metrics[name] for name in ("auroc", "auprc")] for metrics in found])
    low, high = np.percentile(values[1:], [2.5, 97.5], axis=0)
    return {
        name: {"value": round(float(values[0, k]), 6), "low": round(float(low[k]), 6), "high": round(float(high[k]), 6)}
        for k, name in enumerate(("auroc", "auprc"))
    } | {"num_sequences": int(kept.sum()), "share_planted": round(float(truth.mean()), 6)}


def compare_planted(motifs: Sequence[Discovered], planted: Sequence[Motif]) -> list[dict[str, Any]]:
    """For each planted motif the most similar discovered motif: its rank, correlation and q-value."""
    rows = []
    for motif in planted:
        best: tuple[float, int] | None = None
        for number, found in enumerate(motifs):
            like = find_resemblance(found.probabilities, [motif])
            if like is not None and (best is None or like.correlation > best[0]):
                best = like.correlation, number
        q_values = []
        if best is not None:
            q_values = [match.q_value for match in motifs[best[1]].matches if match.id == motif.name]
        rows.append(
            {
                "planted": motif.name,
                "name": motif.alt_name if motif.alt_name else motif.name,
                "discovered": None if best is None else motifs[best[1]].name,
                "rank": None if best is None else best[1] + 1,
                "correlation": None if best is None else round(best[0], 4),
                "q_value": min(q_values) if q_values else None,
            }
        )
    return rows


def check_randomised(
    network: AnyNetwork, explain: Explain, method: str, contributions: Contributions, seed: int = 0
) -> list[dict[str, Any]]:
    """Explain networks with shuffled weights, and compare with the explanation of the real network (Adebayo 2018).

    An explanation that does not change when the learned weights are lost shows the input, not the network. Shuffled
    last layers keep the places that the first layers find and give them random signs, so the correlation of one draw is
    random: there both correlations are of |contribution|, means over sequences, with the interval over the draws.

    Args:
        network: The trained network.
        explain: Gives the contributions of a network by a method.
        method: The method of the explanation.
        contributions: Those of the trained network.
        seed: For the shuffles.
    """
    draws = []
    for number in range(NUM_HEAD_DRAWS):
        other = shuffle_weights(network, seed + number, head_only=True)
        draws.append(_correlate_strengths(contributions, explain(other, method)))
    spearman, pearson = np.array(draws).T
    head = {"spearman": describe_mean(spearman, seed), "pearson": describe_mean(pearson, seed)}
    everything = explain(shuffle_weights(network, seed), method)
    return [{"shuffled": "head", **head}, {"shuffled": "all", **correlate_ranks(contributions, everything, seed)}]


def _correlate_strengths(one: Contributions, two: Contributions) -> tuple[float, float]:
    """Spearman's and Pearson's correlation of |contribution|, means over sequences."""
    from scipy.stats import rankdata

    strengths = [np.abs(values) for values in (one, two)]
    ranks = [rankdata(values, axis=1) for values in strengths]
    return float(_correlate(*ranks).mean()), float(_correlate(*strengths).mean())


def check_agreement(by_method: Mapping[str, Contributions], seed: int = 0) -> list[dict[str, Any]]:
    """Rank correlation of the contributions by each pair of methods."""
    return [
        {"methods": [one, two], **correlate_ranks(by_method[one], by_method[two], seed)}
        for one, two in combinations(by_method, 2)
    ]


def correlate_ranks(one: Contributions, two: Contributions, seed: int = 0) -> dict[str, Any]:
    """Spearman's correlation of |contributions| over the bases of a sequence, mean over sequences, with interval.

    `pearson` is the mean correlation of the contributions themselves, in which a few strong bases have most weight.
    """
    from scipy.stats import rankdata

    ranks = (rankdata(np.abs(values), axis=1) for values in (one, two))
    spearman, pearson = _correlate(*ranks), _correlate(one, two)
    return {"spearman": describe_mean(spearman, seed), "pearson": describe_mean(pearson, seed)}


def compare_motifs(motifs: Sequence[Discovered], others: Sequence[Motif]) -> list[dict[str, Any]]:
    """For each discovered motif the most similar motif of another network."""
    alike = ((motif.name, find_resemblance(motif.probabilities, others)) for motif in motifs)
    return [
        {
            "motif": name,
            "like": None if like is None else like.id,
            "correlation": None if like is None else like.correlation,
        }
        for name, like in alike
    ]


def shuffle_weights(network: AnyNetwork, seed: int, *, head_only: bool = False) -> AnyNetwork:
    """The network with the entries of every weight array in random order: as large, but nothing learned is left.

    Of an ensemble the weights of each member are shuffled, in the same order.
    """
    if isinstance(network, Ensemble):
        return Ensemble.of([_shuffle_one(member, seed, head_only) for member in network.members])
    return _shuffle_one(network, seed, head_only)


def _shuffle_one(network: Network, seed: int, head_only: bool) -> Network:
    random = np.random.default_rng(seed)

    def shuffle(leaf: Any) -> Any:
        values = np.asarray(leaf)
        return jax.numpy.asarray(random.permutation(values.ravel()).reshape(values.shape))

    if head_only:
        weights = [dense.weight for dense, _ in network.head.hidden] + [network.head.output.weight]
        return eqx.tree_at(
            lambda tree: [dense.weight for dense, _ in tree.head.hidden] + [tree.head.output.weight],
            network,
            [shuffle(weight) for weight in weights],
        )
    trained, rest = eqx.partition(network, is_trainable(network))
    return eqx.combine(jax.tree.map(shuffle, trained), rest)


def _correlate(one: Float[np.ndarray, "example length"], two: Float[np.ndarray, "example length"]) -> np.ndarray:
    """Pearson's correlation of each row; 0 where one of the two does not vary."""
    first = one.astype(np.float64) - one.mean(axis=1, keepdims=True)
    second = two.astype(np.float64) - two.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    safe = np.where(norms > 0, norms, 1.0)
    return np.where(norms > 0, (first * second).sum(axis=1) / safe, 0.0)
