"""Which examples make up the batch of step k: a pure function of the seed and k, independent of the devices."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from ebox.errors import InputError

PADDING_ROW = -1
# Shares of several packs are counted in parts of a negative, so that they add up exactly on every machine.
_PARTS = 2**20
# The golden ratio less 1, in such parts: its multiples fill a circle evenly, however many are taken.
_TURN = 648_055
# What random streams are for, beside the packs: the first pack has 1, the others what follows on the partners.
_MIXING, _PARTNERS = 0, 2


class Pack(NamedTuple):
    """Negatives that are known in the same tracks, and how many of them an epoch shows in the mean."""

    rows: Int64[np.ndarray, " negative"]
    per_epoch: float
    is_known: Bool[np.ndarray, " track"]


@dataclass(frozen=True, eq=False)
class ExampleOrder:
    """The order of the training examples, epoch by epoch.

    Every epoch shows all positives and, for each, `negatives_per_positive` negatives. Negatives are dealt from one
    shuffled pack after another, so that every negative is seen before any is seen twice. With several tracks each
    positive brings negatives of a track that it is positive in, so that a small track with negatives of its own has
    its share, and rows whose label is unknown everywhere are not shown. Negatives that are known in the same tracks
    make a pack of their own; a pack whose share of an epoch is no whole number has it over several epochs.

    Args:
        is_positive: For each training row, whether any of its tracks is 1.
        seed: Of the shuffles.
        batch_size: Examples per step; the last batch of an epoch may hold fewer.
        negatives_per_positive: How many negatives per positive; none, or more than there are: all in every epoch.
        targets: The labels by track; none: all are known, of one track.
        has_partners: Whether each example of a batch has a partner in it, to be mixed with.
    """

    is_positive: Bool[np.ndarray, " row"]
    seed: int
    batch_size: int
    negatives_per_positive: float | None = None
    targets: UInt8[np.ndarray, "row track"] | None = None
    has_partners: bool = False

    @cached_property
    def _labels(self) -> UInt8[np.ndarray, "row track"]:
        return self.is_positive.astype(np.uint8)[:, None] if self.targets is None else self.targets

    @cached_property
    def _positives(self) -> Int64[np.ndarray, " positive"]:
        return np.flatnonzero(self.is_positive)

    @cached_property
    def _packs(self) -> tuple[Pack, ...]:
        """The negatives by the tracks that they are known in."""
        negatives = np.flatnonzero(~self.is_positive & (self._labels == 0).any(axis=1))
        known, pack = np.unique(self._labels[negatives] == 0, axis=0, return_inverse=True)
        sizes = np.bincount(pack.ravel(), minlength=len(known))
        wanted = _round_total(np.minimum(self._share_negatives(known, sizes), sizes), sizes)
        return tuple(
            Pack(negatives[pack.ravel() == number], float(wanted[number]), is_known)
            for number, is_known in enumerate(known)
        )

    def _share_negatives(
        self, known: Bool[np.ndarray, "pack track"], sizes: Int64[np.ndarray, " pack"]
    ) -> Float64[np.ndarray, " pack"]:
        """How many negatives of each pack the positives of an epoch bring, spread over all that their tracks know."""
        if self.negatives_per_positive is None:
            return sizes.astype(np.float64)
        wanted = np.zeros(len(sizes))
        positive = self._labels[self._positives] == 1
        for tracks, num in zip(*np.unique(positive, axis=0, return_counts=True), strict=True):
            usable = np.where((known & tracks).any(axis=1), sizes, 0)
            wanted += self.negatives_per_positive * num * (usable / max(usable.sum(), 1))
        return wanted

    @cached_property
    def negatives_per_epoch(self) -> int:
        """Negatives that one epoch shows."""
        return int(self._pack_ends[-1]) // _PARTS if self._packs else 0

    @cached_property
    def _pack_ends(self) -> Int64[np.ndarray, " pack"]:
        """Where the share of each pack ends, if those of all are laid in a row."""
        return np.rint(np.cumsum([pack.per_epoch for pack in self._packs]) * _PARTS).astype(np.int64)

    def _count_dealt(self, num_epochs: int) -> Int64[np.ndarray, " pack"]:
        """How many negatives of each pack the first epochs show.

        An epoch shows those on which marks fall, one negative apart, in the row of all shares. The marks begin
        elsewhere in every epoch, so that a pack with half a negative has one in every other epoch.
        """
        begins = np.sort(np.arange(num_epochs) * _TURN % _PARTS)
        whole, rest = np.divmod(self._pack_ends, _PARTS)
        return np.diff(num_epochs * whole + np.searchsorted(begins, rest), prepend=0)

    def balance(self) -> Float64[np.ndarray, " track"]:
        """For each track the known negatives of an epoch, those that are positive in another one too, per positive."""
        labels = self._labels[self._positives]
        negatives = sum((pack.per_epoch * pack.is_known for pack in self._packs), (labels == 0).sum(axis=0))
        return negatives / np.maximum((labels == 1).sum(axis=0), 1)

    @property
    def examples_per_epoch(self) -> int:
        """Examples that one epoch shows."""
        return len(self._positives) + self.negatives_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch, the tail included."""
        return math.ceil(self.examples_per_epoch / self.batch_size)

    def count_steps(self, epochs: float, max_steps: int | None) -> int:
        """Steps of the whole training."""
        return max_steps if max_steps is not None else max(1, math.ceil(epochs * self.steps_per_epoch))

    def batch_rows(self, step: int) -> Int64[np.ndarray, " batch"]:
        """Rows of the global batch of `step`, counted from 0; `PADDING_ROW` fills the tail."""
        epoch, place = divmod(step, self.steps_per_epoch)
        rows = self._epoch_rows(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        padding = np.full(self.batch_size - len(rows), PADDING_ROW, np.int64)
        return np.concatenate([rows, padding])

    def partner_rows(self, step: int) -> Int64[np.ndarray, " batch"]:
        """Rows of the partners of a batch, place by place: the examples of the batch in a random order."""
        rows = self.batch_rows(step)
        is_example = rows != PADDING_ROW
        rows[is_example] = self._generator(_PARTNERS, step).permutation(rows[is_example])
        return rows

    @cached_property
    def _epoch_rows(self) -> Callable[[int], np.ndarray]:
        """The rows of an epoch in order; the last two epochs are remembered."""
        return lru_cache(maxsize=2)(self._shuffle_epoch)

    def _shuffle_epoch(self, epoch: int) -> Int64[np.ndarray, " example"]:
        firsts, ends = self._count_dealt(epoch), self._count_dealt(epoch + 1)
        dealt = [self._deal(number, int(firsts[number]), int(ends[number])) for number in range(len(self._packs))]
        rows = np.concatenate([self._positives, *dealt])
        return self._generator(_MIXING, epoch).permutation(rows)

    def _deal(self, number: int, first: int, end: int) -> Int64[np.ndarray, " negative"]:
        """Take the negatives from `first` to before `end` from the endless row of the shuffles of a pack."""
        rows = self._packs[number].rows
        if first == end:
            return rows[:0]
        shuffles = range(first // len(rows), (end - 1) // len(rows) + 1)
        purpose = number + 1 if number == 0 else number + _PARTNERS
        dealt = np.concatenate([self._generator(purpose, each).permutation(rows) for each in shuffles])
        offset = first - shuffles[0] * len(rows)
        return dealt[offset : offset + end - first]

    def _generator(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence((self.seed, purpose, number)))


def _round_total(
    wanted: Float64[np.ndarray, " pack"], sizes: Int64[np.ndarray, " pack"]
) -> Float64[np.ndarray, " pack"]:
    """The shares of the packs with a whole number as their sum, none above its size."""
    total = float(wanted.sum())
    missing = round(total) - total
    room = sizes - wanted if missing > 0.0 else wanted
    return wanted + missing * (room / max(float(room.sum()), 1e-300))


def make_order(
    targets: UInt8[np.ndarray, "row track"],
    *,
    seed: int,
    batch_size: int,
    negatives_per_positive: float | None,
    has_partners: bool = False,
) -> ExampleOrder:
    """Make the order of the training rows.

    Args:
        targets: 0, 1 or 255 (unknown); a row with a 1 is a positive.
        seed: Of the shuffles.
        batch_size: Examples per step.
        negatives_per_positive: How many negatives an epoch shows per positive; none: all.
        has_partners: Whether examples are mixed.

    Raises:
        InputError: there is nothing to train on.
    """
    is_positive = (targets == 1).any(axis=1)
    if not is_positive.any():
        what = "positives" if len(targets) else "examples"
        raise InputError(f"the train split holds no {what}", remedy="rebuild the dataset with another split")
    return ExampleOrder(is_positive, seed, batch_size, negatives_per_positive, targets, has_partners)
