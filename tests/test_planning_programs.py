"""Reading compiled programs: every kind of collective, its bytes, and whether it runs in the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from ebox.mesh.devices import DATA_AXIS, make_mesh
from ebox.planning.collective_costs import Exchange, exchange_rounds, exchange_volume, sent_share
from ebox.planning.programs import Collective, read_collectives

CHIPS = 8
LENGTH = 1024


def compiled_text(step: Callable[[Any], Any], dtype: Any, *, turns: int | None) -> str:
    """Compile a collective on 8 CPU devices, inside a loop or alone."""

    def run(value: jax.Array, count: jax.Array) -> jax.Array:
        if turns is None:
            return step(value)
        return jax.lax.fori_loop(0, count, lambda _, carried: step(carried), value)

    mesh = make_mesh(jax.local_devices(backend="cpu")[:CHIPS])
    spec = PartitionSpec(DATA_AXIS)
    mapped = jax.shard_map(run, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec, check_vma=False)
    arguments = (jax.ShapeDtypeStruct((CHIPS * LENGTH,), dtype), jax.ShapeDtypeStruct((), jnp.int32))
    return jax.jit(mapped).lower(*arguments).compile().as_text() or ""


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1},{2,3}}", 2),
        ("[2,4]<=[8]", 4),
        ("mesh['node'=2,'device'=4] {'node','device'}", 8),
        ("mesh['node'=2,'device'=4] {'device'}", 4),
        ("{}", 0),
    ],
)
def test_groups_are_read_as_every_version_writes_them(groups: str, size: int):
    line = f"ROOT %r = f32[3]{{0}} all-reduce(%a), replica_groups={groups}, to_apply=%add"
    text = f"ENTRY %main (a: f32[3]) -> f32[3] {{\n  {line}\n}}\n"
    assert [one.group_size for one in read_collectives(text)] == [size]


def gather(value: jax.Array) -> jax.Array:
    return jax.lax.all_gather(value, DATA_AXIS).sum(axis=0).astype(value.dtype)


def scatter(value: jax.Array) -> jax.Array:
    return jnp.tile(jax.lax.psum_scatter(value, DATA_AXIS, tiled=True), CHIPS)


def exchange(value: jax.Array) -> jax.Array:
    return jax.lax.all_to_all(value.reshape(CHIPS, -1), DATA_AXIS, 0, 0, tiled=True).reshape(-1)


def shift(value: jax.Array) -> jax.Array:
    return jax.lax.ppermute(value, DATA_AXIS, [(place, (place + 1) % CHIPS) for place in range(CHIPS)])


@pytest.mark.parametrize(
    ("step", "kind", "size"),
    [
        (lambda value: jax.lax.psum(value, DATA_AXIS), "all-reduce", LENGTH),
        (gather, "all-gather", LENGTH * CHIPS),
        (scatter, "reduce-scatter", LENGTH),
        (exchange, "all-to-all", LENGTH),
        (shift, "collective-permute", LENGTH),
    ],
)
@pytest.mark.parametrize("turns", [None, 3])
def test_every_kind_is_found_with_its_bytes_in_and_outside_a_loop(
    step: Callable[[Any], Any], kind: str, size: int, turns: int | None
):
    (found,) = read_collectives(compiled_text(step, jnp.float32, turns=turns))
    assert (found.kind, found.dtype, found.count) == (kind, "f32", 1)
    assert found.num_bytes == found.largest_bytes == 4 * size
    assert found.in_step == (turns is not None)
    if kind != "collective-permute":
        assert found.group_size == CHIPS


def test_the_type_on_the_wire_is_that_of_the_compiled_program():
    def widened(value: jax.Array) -> jax.Array:
        return jax.lax.psum(value, DATA_AXIS)

    (half,) = read_collectives(compiled_text(widened, jnp.float16, turns=2))
    assert half.num_bytes == LENGTH * (2 if half.dtype == "f16" else 4)
    (whole,) = read_collectives(compiled_text(gather, jnp.int8, turns=2))
    assert (whole.dtype, whole.num_bytes) == ("s8", LENGTH * CHIPS)


def test_asynchronous_and_tuple_forms_count_once():
    text = """HloModule m

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: f32[4]) -> f32[4] {
  %g = (f32[2]{0}, f32[8]{0}) all-gather-start(%p), replica_groups=[2,4]<=[8], dimensions={0}
  %gd = f32[8]{0} all-gather-done(%g)
  %r = (f32[3,2]{1,0:T(4,128)S(1)}, /*index=1*/f32[]{:T(128)}) all-reduce(%a, %b), replica_groups={}, to_apply=%add
  %p1 = (bf16[4]{0}, bf16[4]{0}, u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1}}
  ROOT %c = f32[4]{0} call(%p), to_apply=%inner
}

%inner (q: f32[4]) -> f32[4] {
  ROOT %s = s8[5]{0} reduce-scatter(%q), replica_groups={{0,1},{2,3}}, to_apply=%add
}

%cond (p: f32[4]) -> pred[] {
  ROOT %t = pred[] constant(true)
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %once = pred[16]{0} all-reduce-start(%p), to_apply=%add
  ROOT %w = f32[4]{0} while(%p), condition=%cond, body=%body
}
"""
    assert read_collectives(text) == (
        Collective("all-gather", "f32", 1, 32, 32, 4, True),
        Collective("all-reduce", "f32", 1, 28, 28, 0, True),
        Collective("reduce-scatter", "s8", 1, 10, 10, 2, True),
        Collective("collective-permute", "bf16", 1, 8, 8, 0, True),
        Collective("all-reduce", "pred", 1, 16, 16, 0, False),
    )
    assert read_collectives("") == ()


def test_operands_in_a_tuple_of_their_own_are_not_counted():
    text = """HloModule m

ENTRY %main (p: f32[100], q: f32[6]) -> f32[100] {
  %one = ((f32[100]{0}), f32[100]{0}) all-reduce-start(%p), replica_groups={{0,1}}, to_apply=%add
  %two = ((f32[100]{0}, f32[6]{0}), (f32[100]{0}, f32[6]{0})) all-reduce-start(%p, %q), to_apply=%add
}
"""
    assert read_collectives(text) == (
        Collective("all-reduce", "f32", 1, 424, 424, 0, False),
        Collective("all-reduce", "f32", 1, 400, 400, 2, False),
    )


def test_a_ring_all_reduce_sends_the_bandwidth_optimal_share():
    assert Collective("all-reduce", "f32", 1, 800, 800, 4, True).sent_bytes(8) == 1200
    assert Collective("all-reduce", "f32", 1, 800, 800, 0, True).sent_bytes(8) == 1400
    assert sent_share("reduce-scatter", 4) + sent_share("all-gather", 4) == sent_share("all-reduce", 4) == 1.5


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 6, 8, 64, 256])
def test_the_algorithms_keep_their_bounds(workers: int):
    least = 2 * (workers - 1) / workers
    for exchange_name in get_args(Exchange):
        assert exchange_rounds(exchange_name, workers) >= (workers - 1).bit_length()
        if workers > 1 and exchange_name != "doubling":
            assert exchange_volume(exchange_name, workers) >= min(least, workers - 1)
    assert exchange_volume("ring", workers) == pytest.approx(least)
    assert exchange_rounds("ring", workers) == 2 * (workers - 1)
    if workers & (workers - 1) == 0 and workers > 1:
        assert exchange_volume("halving", workers) == pytest.approx(least)
        assert exchange_rounds("halving", workers) == 2 * exchange_rounds("doubling", workers)
