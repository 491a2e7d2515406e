"""A device's share of the gradient: augmentation, forward and backward pass over its part of the global batch."""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Float, UInt8

from ebox.datasets.folder import UNKNOWN_TARGET
from ebox.mesh.devices import DATA_AXIS
from ebox.models.network import Network, is_trainable
from ebox.models.normalisation import Moments, Statistics
from ebox.models.passes import ConvolutionMethod, Pass
from ebox.training.augmentation import AugmentationPlan, Partners, draw_own_shares, key_partners, mix, show
from ebox.training.distillation import distillation_loss_sum, teach
from ebox.training.state import Hyperparameters


class Batch(eqx.Module):
    """A device's part of a global batch; of the whole the known negatives of all tracks, and positives of each."""

    codes: UInt8[Array, "batch length"]
    targets: UInt8[Array, "batch track"]
    mask: Bool[Array, " batch"]
    known: Float[Array, " known"]
    partners: Partners | None = None


class Share(eqx.Module):
    """A device's share of the gradient and of the loss; their sums over the devices are those of the global batch."""

    gradient: Network
    loss: Float[Array, ""]
    moments: tuple[Moments, ...]
    num_examples: Float[Array, ""]  # of this device, padding left out


@dataclass(frozen=True)
class PassPlan:
    """What is constant in a compiled forward and backward pass.

    Args:
        augmentation: Which augmentations are made; their rates are data of the pass.
        method: How convolutions are computed.
        dtype: Of the products.
        micro_batches: Into how many pieces a device cuts its share.
        piece_size: Examples of a micro-batch on each device, padding included.
        statistics: Which examples are normalised together.
    """

    augmentation: AugmentationPlan
    method: ConvolutionMethod
    dtype: DTypeLike
    micro_batches: int
    piece_size: int
    statistics: Statistics

    def num_groups(self, workers: int) -> int:
        """How many groups of examples are normalised by their own statistics, in a pass of `workers` devices."""
        total = self.piece_size * workers
        return -(-total // (self.statistics.group_examples or total))


def masked_loss_sum(
    logits: Float[Array, "batch track"],
    targets: UInt8[Array, "batch track"],
    mask: Bool[Array, " batch"],
    rates: Hyperparameters,
    shares: Float[Array, " batch"] | None = None,
) -> Float[Array, ""]:
    """Weighted sum of the binary cross-entropy over the known targets of unmasked examples.

    Args:
        logits: What the network says.
        targets: 0, 1 or 255 (unknown).
        mask: False for padding.
        rates: Holds label smoothing and the weight of positives.
        shares: By what each example counts besides; none: 1.
    """
    label = (targets == 1).astype(jnp.float32)
    smooth = label * (1.0 - rates.label_smoothing) + 0.5 * rates.label_smoothing
    entropy = jnp.logaddexp(0.0, logits) - smooth * logits
    weights = _target_weights(targets, mask, rates)
    return ((weights if shares is None else weights * shares[:, None]) * entropy).sum()


def _target_weights(targets: Array, mask: Array, rates: Hyperparameters) -> Float[Array, "batch track"]:
    known = (targets != UNKNOWN_TARGET) & mask[:, None]
    weights = jnp.broadcast_to(rates.positive_weight, targets.shape)
    return known.astype(jnp.float32) * jnp.where(targets == 1, weights, 1.0)


def share_of_gradient(
    network: Network, batch: Batch, step: Array, rates: Hyperparameters, plan: PassPlan, *, alone: bool = False
) -> Share:
    """Pass over this device's part of the batch; call it under `shard_map` on the data axis.

    Args:
        network: The weights, equal on all devices unless `alone`.
        batch: This device's part.
        step: The step, counted from 0.
        rates: Rates and weights.
        plan: What is constant.
        alone: Give the gradient of this device's own mean loss, by its own statistics, not a share of the global one.
    """
    keys = _example_keys(rates.key, step, batch.codes.shape[0])
    if alone:
        total = _target_weights(batch.targets, batch.mask, rates).sum()
    else:
        positives = batch.known[1:]
        total = batch.known[0] + (jnp.broadcast_to(rates.positive_weight, positives.shape) * positives).sum()
    if plan.micro_batches == 1:
        return _pass(network, batch, keys, step, total, rates, plan)
    return _accumulate(network, batch, keys, step, total, rates, plan)


def _show(
    batch: Batch, keys: Array, step: Array, rates: Hyperparameters, plan: PassPlan
) -> tuple[Float[Array, "batch length 4"], Float[Array, " batch"] | None]:
    """The inputs of a pass, and the share of each example itself in them where examples are mixed."""
    augmentation = plan.augmentation
    inputs = show(batch.codes, keys, step, rates, augmentation, plan.dtype)
    if not augmentation.mixup:
        return inputs, None
    assert batch.partners is not None
    own_shares = draw_own_shares(keys, step, rates)
    others = show(batch.partners.codes, key_partners(keys), step, rates, augmentation, plan.dtype)
    return mix(inputs, others, own_shares), own_shares


def _pass(
    network: Network,
    batch: Batch,
    keys: Array,
    step: Array,
    total: Array,
    rates: Hyperparameters,
    plan: PassPlan,
) -> Share:
    """One forward and backward pass."""
    with jax.named_scope("augment"):
        inputs, own_shares = _show(batch, keys, step, rates, plan)
    guide = None if rates.teacher is None else teach(rates.teacher, inputs, plan.method, plan.dtype)
    weights, fixed = eqx.partition(network, is_trainable(network))
    a_pass = Pass(keys, batch.mask, rates.dropout, rates.filter_dropout, plan.statistics, plan.method, plan.dtype)

    def share_of_loss(weights: Network) -> tuple[Array, tuple[Moments, ...]]:
        logits, moments = eqx.combine(weights, fixed)(inputs, a_pass)
        if guide is not None:
            # The ensemble speaks of the sequence that is shown, also of one that is mixed of two.
            assert rates.spread_weight is not None
            weights_of = _target_weights(batch.targets, batch.mask, rates)
            loss = distillation_loss_sum(logits, guide, weights_of, rates.spread_weight)
            return loss / jnp.maximum(total, 1.0), moments
        loss = masked_loss_sum(logits, batch.targets, batch.mask, rates, own_shares)
        if batch.partners is not None and own_shares is not None:
            loss += masked_loss_sum(logits, batch.partners.targets, batch.mask, rates, 1.0 - own_shares)
        return loss / jnp.maximum(total, 1.0), moments

    (loss, moments), gradient = jax.value_and_grad(share_of_loss, has_aux=True)(weights)
    return Share(gradient, loss, moments, batch.mask.sum().astype(jnp.float32))


def _accumulate(
    network: Network,
    batch: Batch,
    keys: Array,
    step: Array,
    total: Array,
    rates: Hyperparameters,
    plan: PassPlan,
) -> Share:
    """Pass over the micro-batches one after another and add up; each is normalised by its own statistics."""

    def cut(values: Array) -> Array:
        return values.reshape(plan.micro_batches, -1, *values.shape[1:])

    def one(piece: tuple[Array, Array, Array, Partners | None, Array]) -> Share:
        codes, targets, mask, partners, piece_keys = piece
        part = Batch(codes, targets, mask, batch.known, partners)
        return _pass(network, part, piece_keys, step, total, rates, plan)

    shares = jax.lax.map(one, jax.tree.map(cut, (batch.codes, batch.targets, batch.mask, batch.partners, keys)))
    gradient, loss = jax.tree.map(lambda values: values.sum(axis=0), (shares.gradient, shares.loss))
    counts = shares.num_examples
    axis = plan.statistics.axis
    behind = counts if axis is None else axis.sum(counts)
    moments = tuple(_join(piece, behind) for piece in shares.moments)
    return Share(gradient, loss, moments, counts.sum())


def _join(moments: Moments, counts: Float[Array, " piece"]) -> Moments:
    """The moments of all pieces together, each weighted by its number of examples."""
    weights = (counts / jnp.maximum(counts.sum(), 1.0))[:, None]
    mean = (weights * moments.mean).sum(axis=0)
    spread = moments.variance + (moments.mean - mean[None]) ** 2
    return Moments(mean, (weights * spread).sum(axis=0))


def _example_keys(key: Array, step: Array, local_batch: int) -> Array:
    """One key per example, from the step and its place in the global batch."""
    step_key = jax.random.fold_in(jax.random.wrap_key_data(key), step)
    first = jax.lax.axis_index(DATA_AXIS) * local_batch
    return jax.vmap(lambda place: jax.random.fold_in(step_key, place))(first + jnp.arange(local_batch))
