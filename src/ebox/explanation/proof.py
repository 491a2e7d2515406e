"""How far an explanation can be trusted: against the truth, against spoiled networks, other methods, other seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Bool, Float

from ebox.explanation.discovery import Discovered
from ebox.explanation.experiments import describe_mean
from ebox.explanation.filters import find_resemblance
from ebox.models import MotifNetwork, Network, ResidualNetwork
from ebox.models.network import is_trainable
from ebox.sequences.matrices import Motif

NUM_RESAMPLES = 200
NUM_HEAD_DRAWS = 10
Contributions = Float[np.ndarray, "example length"]
Explain = Callable[[Network, str], Contributions]


def measure_recovery(
    contributions: Contributions, planted: Bool[np.ndarray, "example length"], seed: int = 0
) -> dict[str, Any]:
    """How well |contribution| tells planted bases from others: AUROC and AUPRC over all bases, with intervals.

    The intervals are from drawing the sequences again; sequences without a planted base are left out.
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
    """For each planted motif the discovered one that is most like it: its rank, correlation and q-value."""
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
    network: Network, explain: Explain, method: str, contributions: Contributions, seed: int = 0
) -> list[dict[str, Any]]:
    """Explain networks whose weights were shuffled, and compare with the explanation of the real one (Adebayo 2018).

    An explanation that does not change when the network forgets what it learned shows the input, not the network.
    Shuffled last layers keep the places that the first layers find and draw their signs anew, so one draw is a toss of
    a coin: there both correlations are of |contribution|, means over sequences, with the interval over the draws.
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
    """Rank correlation of the contributions that each two methods give."""
    return [
        {"methods": [one, two], **correlate_ranks(by_method[one], by_method[two], seed)}
        for one, two in combinations(by_method, 2)
    ]


def correlate_ranks(one: Contributions, two: Contributions, seed: int = 0) -> dict[str, Any]:
    """Spearman's correlation of |contributions| over the bases of a sequence, mean over sequences, with interval.

    `pearson` is the mean correlation of the contributions themselves, in which the few strong bases count most.
    """
    from scipy.stats import rankdata

    ranks = (rankdata(np.abs(values), axis=1) for values in (one, two))
    spearman, pearson = _correlate(*ranks), _correlate(one, two)
    return {"spearman": describe_mean(spearman, seed), "pearson": describe_mean(pearson, seed)}


def compare_motifs(motifs: Sequence[Discovered], others: Sequence[Motif]) -> list[dict[str, Any]]:
    """For each discovered motif the most alike of another network's."""
    rows = []
    for motif in motifs:
        like = find_resemblance(motif.probabilities, others)
        rows.append(
            {
                "motif": motif.name,
                "like": None if like is None else like.id,
                "correlation": None if like is None else like.correlation,
            }
        )
    return rows


def shuffle_weights(network: Network, seed: int, *, head_only: bool = False) -> Network:
    """The network with the entries of every weight array in another order: as large, and without what was learned."""
    assert isinstance(network, MotifNetwork | ResidualNetwork)
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
