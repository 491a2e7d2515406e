"""One network of an ensemble: what it says of each augmented sequence, and the loss of a network that learns that.

The network learns the mean of the members' logits and their spread (Zhou 2026), so it keeps much of what the ensemble
gains and can say how sure it is. The ensemble reads the sequences as they were augmented for this step, so that it also
labels sequences that stand in no dataset.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from ebox.models.ensemble import Ensemble
from ebox.models.passes import ConvolutionMethod, Pass

# Members that agree to this number of logits agree; it also keeps the logarithm finite.
LEAST_SPREAD = 1e-2


class Guide(eqx.Module):
    """What the ensemble says of a batch: the mean of the members' logits, and the logarithm of their spread."""

    mean: Float[Array, "batch track"]
    log_spread: Float[Array, "batch track"]


def teach(
    teacher: Ensemble, inputs: Float[Array, "batch length 4"], method: ConvolutionMethod, dtype: DTypeLike
) -> Guide:
    """What an ensemble says of a batch; no gradient flows into it.

    Args:
        teacher: The ensemble.
        inputs: One-hot bases, as augmented.
        method: How convolutions are computed.
        dtype: Of the products.
    """
    with jax.named_scope("teach"):
        logits = jax.lax.stop_gradient(teacher.logits_of_members(inputs, Pass(method=method, dtype=dtype)))
        return Guide(logits.mean(axis=0), jnp.log(jnp.maximum(logits.std(axis=0, ddof=1), LEAST_SPREAD)))


def distillation_loss_sum(
    outputs: Float[Array, "batch output"],
    guide: Guide,
    weights: Float[Array, "batch track"],
    spread_weight: Float[Array, ""],
) -> Float[Array, ""]:
    """Weighted sum of the cross-entropy to the ensemble's probabilities, and of the squared error of the log spread.

    The cross-entropy is that of Hinton 2015: where the ensemble is unsure the network may be unsure too. Its minimum,
    the entropy of the ensemble's probabilities, is subtracted, so the loss of a network that agrees is 0.

    Args:
        outputs: A logit for each track, then the logarithm of the spread for each track.
        guide: What the ensemble says.
        weights: Of each target; 0 where it is unknown or padding.
        spread_weight: How much the error of the spread counts.
    """
    logits, log_spread = jnp.split(outputs, 2, axis=1)
    aims = jax.nn.sigmoid(guide.mean)
    excess = _cross_entropy(logits, aims) - _cross_entropy(guide.mean, aims)
    return (weights * (excess + spread_weight * (log_spread - guide.log_spread) ** 2)).sum()


def _cross_entropy(logits: Float[Array, "batch track"], aims: Float[Array, "batch track"]) -> Array:
    return jnp.logaddexp(0.0, logits) - aims * logits
