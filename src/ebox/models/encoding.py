"""Base codes to one-hot on the device, and the augmentations of single examples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, UInt8

from ebox.sequences.codes import N_CODE, NUM_BASES


def one_hot(codes: UInt8[Array, "*batch length"], dtype: DTypeLike = jnp.float32) -> Float[Array, "*batch length 4"]:
    """Turn base codes into one-hot rows; N becomes four zeros."""
    bases = jnp.arange(NUM_BASES, dtype=codes.dtype).reshape((1,) * codes.ndim + (NUM_BASES,))
    return (codes[..., None] == bases).astype(dtype)


def reverse_complement(codes: UInt8[Array, "*batch length"]) -> UInt8[Array, "*batch length"]:
    """Read the other strand; N stays N."""
    complement = jnp.where(codes < NUM_BASES, (NUM_BASES - 1 - codes).astype(codes.dtype), codes)
    return complement[..., ::-1]


def shift(codes: UInt8[Array, " length"], offset: jax.Array) -> UInt8[Array, " length"]:
    """Move one sequence by `offset` bases, to the right when positive; N fills the gap."""
    length = codes.shape[0]
    source = jnp.arange(length) - offset
    inside = (source >= 0) & (source < length)
    return jnp.where(inside, codes[jnp.clip(source, 0, length - 1)], jnp.uint8(N_CODE))


def mutate(codes: UInt8[Array, " length"], rate: jax.Array | float, key: jax.Array) -> UInt8[Array, " length"]:
    """Replace each base by a different one with probability `rate`; N stays N."""
    where, which = jax.random.split(key)
    hit = jax.random.uniform(where, codes.shape) < rate
    step = jax.random.randint(which, codes.shape, 1, NUM_BASES, dtype=jnp.uint8)
    changed = (codes + step) % jnp.uint8(NUM_BASES)
    return jnp.where(hit & (codes < NUM_BASES), changed, codes)
