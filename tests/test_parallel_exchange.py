"""Every exchange: nothing is lost, all devices get the same, and the bytes are those that it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from ebox.mesh.build import EXCHANGES, build_exchange
from ebox.mesh.collectives import Axis
from ebox.mesh.compression import Int8Exchange, TopKExchange
from ebox.mesh.devices import DATA_AXIS, NODE_AXIS, find_devices, make_mesh
from ebox.mesh.exchange import (
    ExactExchange,
    Exchange,
    HierarchicalExchange,
    Message,
    count_numbers,
    half_message,
    sum_message,
    sum_over_nodes,
)
from ebox.mesh.lowrank import PowerExchange
from ebox.settings.reading import ParallelConfig
from ebox.workers.contract import Membership
from ebox.workers.processes import is_on_loopback

LIKE = {"matrix": np.zeros((96, 64), np.float32), "filters": np.zeros((5, 32, 48), np.float32), "vector": np.zeros(37)}
LIKE = {name: leaf.astype(np.float32) for name, leaf in LIKE.items()}
COMPRESSED = ("half", "int8", "topk", "powersgd")
SHAPES = [(1, 2), (1, 4), (1, 8)]


def _build(kind: str, nodes: int, node_devices: int, *, hierarchical: bool = False) -> tuple[Exchange, Any]:
    config = ParallelConfig(
        exchange=kind, devices=nodes * node_devices, node_devices=node_devices, hierarchical=hierarchical
    )
    mesh = make_mesh(find_devices(config), node_devices)
    return build_exchange(config, mesh), mesh


def _compile(exchange: Exchange, mesh: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
    """The exchange over rows of shares: gives every device's sum, and what each carries on."""
    rows = PartitionSpec(DATA_AXIS)

    def run(shares: Any, carried: Any) -> tuple[Any, Any]:
        total, carried = exchange.reduce(*jax.tree.map(lambda leaf: leaf[0], (shares, carried)))
        return jax.tree.map(lambda leaf: leaf[None], (total, carried))

    mapped = jax.shard_map(run, mesh=mesh, in_specs=(rows, rows), out_specs=(rows, rows), check_vma=False)
    return jax.jit(mapped)


def _shares(workers: int, seed: int, scale: float = 0.02) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: (scale * rng.standard_normal((workers, *leaf.shape))).astype(np.float32) for name, leaf in LIKE.items()
    }


CASES = [(kind, 1, workers, False) for kind in ("exact", *COMPRESSED) for _, workers in SHAPES]
CASES += [(kind, 4, 2, True) for kind in ("exact", *COMPRESSED)]


@pytest.mark.parametrize(("kind", "nodes", "node_devices", "hierarchical"), CASES)
def test_all_devices_get_the_same_sum(kind: str, nodes: int, node_devices: int, hierarchical: bool):
    exchange, mesh = _build(kind, nodes, node_devices, hierarchical=hierarchical)
    shares = _shares(mesh.size, 0)
    total, _ = _compile(exchange, mesh)(shares, exchange.start(LIKE))
    for name, leaf in total.items():
        for row in np.asarray(leaf)[1:]:
            np.testing.assert_array_equal(row, np.asarray(leaf)[0])
        if kind in ("exact", "half"):
            tolerance = 1e-6 if kind == "exact" else 2e-3
            np.testing.assert_allclose(leaf[0], shares[name].sum(axis=0), atol=tolerance * mesh.size * 0.1)


def test_every_choice_has_its_exchange_which_owes_where_it_carries_something():
    assert set(EXCHANGES) == set(get_args(ParallelConfig.model_fields["exchange"].annotation))
    for kind, made in EXCHANGES.items():
        exchange, _ = _build(kind, 1, 2)
        assert type(exchange) is made
        assert exchange.owes == bool(jax.tree.leaves(exchange.start(LIKE))), kind


def test_sums_inside_and_then_between_nodes_are_those_of_all():
    _, mesh = _build("exact", 4, 2)
    levels, shares = HierarchicalExchange(8, 2, ExactExchange(4, Axis(NODE_AXIS))), _shares(8, 0)
    total, _ = _compile(levels, mesh)(shares, levels.start(LIKE))
    for name, leaf in total.items():
        np.testing.assert_allclose(leaf, np.broadcast_to(shares[name].sum(axis=0), leaf.shape), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "nodes", "node_devices", "hierarchical"), [c for c in CASES if c[0] not in ("exact", "half")]
)
def test_what_is_not_sent_now_is_sent_later(kind: str, nodes: int, node_devices: int, hierarchical: bool):
    exchange, mesh = _build(kind, nodes, node_devices, hierarchical=hierarchical)
    run, carried = _compile(exchange, mesh), exchange.start(LIKE)
    wanted = {name: np.zeros(leaf.shape) for name, leaf in LIKE.items()}
    sent = {name: np.zeros(leaf.shape) for name, leaf in LIKE.items()}
    missing = []
    same = _shares(mesh.size, 0)
    for _ in range(120):
        total, carried = run(same, carried)
        for name in LIKE:
            wanted[name] += same[name].sum(axis=0)
            sent[name] += np.asarray(total[name])[0]
        missing.append(max(np.abs(wanted[name] - sent[name]).max() for name in LIKE))
    # What is owed stays bounded while what was wanted grows without end.
    assert missing[-1] < 1.5 * max(missing[:60])
    assert missing[-1] < 0.9 * max(np.abs(wanted[name]).max() for name in LIKE)


@pytest.mark.parametrize("kind", ["int8", "topk", "powersgd"])
@pytest.mark.parametrize("workers", [2, 8])
def test_other_numbers_of_devices_take_over_what_was_owed(kind: str, workers: int):
    exchange, mesh = _build(kind, 1, 4)
    other, other_mesh = _build(kind, 1, workers)
    nothing = {name: np.zeros((workers, *leaf.shape), np.float32) for name, leaf in LIKE.items()}
    shares = _shares(4, 0)
    total, carried = _compile(exchange, mesh)(shares, exchange.start(LIKE))
    owed = {name: shares[name].sum(axis=0) - np.asarray(total[name])[0] for name in LIKE}
    run, carried = _compile(other, other_mesh), other.regroup(jax.tree.map(np.asarray, carried), LIKE)
    paid = {name: np.zeros(leaf.shape) for name, leaf in LIKE.items()}
    for _ in range(250):
        total, carried = run(nothing, carried)
        for name in LIKE:
            paid[name] += np.asarray(total[name])[0]
    for name in LIKE:
        np.testing.assert_allclose(paid[name], owed[name], atol=2e-3)


@pytest.mark.parametrize("kind", ["exact", *COMPRESSED])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_does_not_pass_unseen(kind: str, value: float):
    exchange, mesh = _build(kind, 1, 4)
    shares = _shares(4, 0)
    shares["matrix"][2, 5, 7] = value
    total, _ = _compile(exchange, mesh)(shares, exchange.start(LIKE))
    assert not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(total))


@pytest.mark.parametrize("workers", [2, 3, 5, 8])
def test_a_sum_past_the_range_of_float16_is_cut_and_not_infinite(workers: int):
    exchange, mesh = _build("half", 1, workers)
    shares = {name: np.full((workers, *leaf.shape), 500.0, np.float32) for name, leaf in LIKE.items()}
    total, _ = _compile(exchange, mesh)(shares, None)
    assert all(np.isfinite(leaf).all() and (np.asarray(leaf) > 50.0).all() for leaf in jax.tree.leaves(total))


@pytest.mark.parametrize("workers", [2, 4])
def test_swaps_round_what_is_computed_just_before_alike_everywhere(workers: int):
    # A product and a sum in one instruction round once; the partner adds the rounded product.
    mesh, rows = make_mesh(find_devices(ParallelConfig(devices=workers))), PartitionSpec(DATA_AXIS)
    axis = Axis(DATA_AXIS, swaps=True)
    values = np.random.default_rng(0).standard_normal((workers, 3000)).astype(np.float32)
    makers = [lambda a: a * 3.3, lambda a: a * a, lambda a: jnp.concatenate([a[0] * 0.3, jnp.ones(1)])[None]]
    for make in makers:
        mapped = jax.shard_map(
            lambda a, make=make: axis.sum(make(a)), mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False
        )
        found = np.asarray(jax.jit(mapped)(values))
        for row in found[1:]:
            np.testing.assert_array_equal(row, found[0])


@pytest.mark.parametrize(
    ("workers", "numbers", "rounds"),
    [(2, 5, 1), (2, 40_000, 0), (3, 5, 0), (4, 5, 2), (4, 40_000, 0), (8, 5, 3), (8, 40_000, 0)],
)
def test_short_vectors_are_swapped(workers: int, numbers: int, rounds: int):
    _check_swaps(Axis(DATA_AXIS, swaps=True), workers, numbers, rounds)


@pytest.mark.parametrize(("workers", "rounds"), [(2, 1), (4, 0)])
def test_two_on_one_machine_swap_long_vectors_too(workers: int, rounds: int):
    _check_swaps(Axis(DATA_AXIS, swaps=True, on_one_machine=True), workers, 40_000, rounds)


def test_only_processes_that_meet_on_loopback_are_taken_to_be_on_one_machine(monkeypatch: pytest.MonkeyPatch):
    assert not is_on_loopback()
    for address, on_one in (("127.0.0.1:1234", True), ("10.0.0.1:1234", False)):
        for name, value in Membership(address, 0, 2).variables().items():
            monkeypatch.setenv(name, value)
        assert is_on_loopback() is on_one


def _check_swaps(axis: Axis, workers: int, numbers: int, rounds: int) -> None:
    """Every device gets the same bits, in this number of rounds or by one all-reduce."""
    mesh, rows = make_mesh(find_devices(ParallelConfig(devices=workers))), PartitionSpec(DATA_AXIS)
    run = jax.jit(jax.shard_map(axis.sum, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False))
    values = np.random.default_rng(0).standard_normal((workers, numbers)).astype(np.float32)
    found, text = np.asarray(run(values)), run.lower(values).compile().as_text()
    np.testing.assert_allclose(found[0], values.sum(axis=0), atol=1e-5)
    for row in found[1:]:
        np.testing.assert_array_equal(row, found[0])
    # One more is from each device to itself.
    assert len(re.findall(r" collective-permute\(", text)) == rounds + bool(rounds)
    assert len(re.findall(r" all-reduce\(", text)) == (0 if rounds else 1)


@pytest.mark.parametrize(("kind", "nodes", "node_devices", "hierarchical"), CASES)
def test_what_travels_beside_is_summed_exactly(kind: str, nodes: int, node_devices: int, hierarchical: bool):
    exchange, mesh = _build(kind, nodes, node_devices, hierarchical=hierarchical)
    shares, rows = _shares(mesh.size, 0), PartitionSpec(DATA_AXIS)
    beside = np.random.default_rng(1).standard_normal((mesh.size, 11)).astype(np.float32)

    def run(*args: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[None], exchange.reduce_beside(*jax.tree.map(lambda leaf: leaf[0], args)))

    mapped = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False))
    args = (shares, exchange.start(LIKE), beside)
    total, _, summed = mapped(*args)
    plain, _ = _compile(exchange, mesh)(*args[:2])
    for row in np.asarray(summed):
        np.testing.assert_allclose(row, beside.sum(axis=0), atol=1e-5)
    for name in LIKE:
        np.testing.assert_allclose(total[name], plain[name], atol=1e-5)
    said = sum(message.payload_bytes for message in exchange.messages_beside(LIKE, 11))
    assert said == sum(message.payload_bytes for message in exchange.messages(LIKE)) + 44


def _wire_bytes(text: str) -> int:
    """Bytes of the results of all collectives of a compiled program, the payload once."""
    sizes = {"f32": 4, "f16": 2, "bf16": 2, "u8": 1, "s8": 1, "s32": 4}
    total = 0
    for line in text.splitlines():
        found = re.search(r"= (.*?) (all-reduce|all-gather|all-to-all|reduce-scatter)\(", line)
        if found:
            for dtype, shape in re.findall(r"(f32|f16|bf16|u8|s8|s32)\[([\d,]*)\]", found.group(1)):
                total += sizes[dtype] * int(np.prod([int(side) for side in shape.split(",") if side] or [1]))
    return total


@pytest.mark.parametrize("kind", ["exact", *COMPRESSED])
@pytest.mark.parametrize("workers", [2, 8])
def test_the_compiled_program_sends_the_bytes_that_the_exchange_says(kind: str, workers: int):
    exchange, mesh = _build(kind, 1, workers)
    text = _compile(exchange, mesh).lower(_shares(workers, 0), exchange.start(LIKE)).compile().as_text()
    said = sum(message.payload_bytes for message in exchange.messages(LIKE))
    assert abs(_wire_bytes(text) - said) <= 0.01 * said


@pytest.mark.parametrize(("kind", "least"), [("half", 2.0), ("int8", 3.9), ("topk", 20.0), ("powersgd", 10.0)])
def test_compressed_bytes_are_few_and_do_not_grow_with_the_workers(kind: str, least: float):
    # As many numbers as the residual network has; in a small tree the padding of int8's blocks counts.
    large = {"matrix": np.zeros((1540, 128), np.float32), "vector": np.zeros(1280, np.float32)}
    for workers in (2, 4, 8):
        exchange, _ = _build(kind, 1, workers)
        exact, _ = _build("exact", 1, workers)
        sent = sum(message.sent_bytes for message in exchange.messages(large))
        whole = sum(message.sent_bytes for message in exact.messages(large))
        assert whole / sent >= least
        assert sent <= 2 * 4 * count_numbers(large) / least


def test_between_nodes_a_device_sends_its_piece_alone():
    exchange, _ = _build("int8", 4, 2, hierarchical=True)
    flat, _ = _build("int8", 1, 8)
    assert sum(m.sent_bytes for m in exchange.messages(LIKE)) < 0.6 * sum(m.sent_bytes for m in flat.messages(LIKE))


def test_half_sends_sixteen_bits():
    exchange, mesh = _build("half", 1, 2)
    text = _compile(exchange, mesh).lower(_shares(2, 0), None).compile().as_text()
    assert re.search(r"f16\[\d+\]\S* all-reduce", text)


def test_powersgd_sends_small_trees_whole():
    like = {"matrix": np.zeros((7, 5), np.float32), "vector": np.zeros(9, np.float32)}
    exchange, mesh = _build("powersgd", 1, 4)
    shares = {name: np.ones((4, *leaf.shape), np.float32) for name, leaf in like.items()}
    total, _ = _compile(exchange, mesh)(shares, exchange.start(like))
    assert all((np.asarray(leaf) == 4.0).all() for leaf in jax.tree.leaves(total))
    assert sum(message.payload_bytes for message in exchange.messages(like)) == 4 * (35 + 9)


@pytest.mark.parametrize(
    ("count", "num_bytes", "swaps", "on_one_machine", "expected"),
    [
        (2, 16_384, True, False, True),
        (2, 16_385, True, False, False),
        (2, 16_385, True, True, True),
        (4, 16_385, True, True, False),
        (4, 16_384, True, False, True),
        (2, 4, False, True, False),
        (1, 4, True, True, False),
        (3, 4, True, True, False),
        (6, 4, True, False, False),
        (8, 4, True, False, True),
    ],
)
def test_short_vectors_of_powers_of_two_are_swapped_where_swaps_are_allowed(
    count: int, num_bytes: int, swaps: bool, on_one_machine: bool, expected: bool
):
    assert Axis(DATA_AXIS, swaps, on_one_machine).is_swapped(count, num_bytes) is expected


def test_messages_cost_what_rings_and_swaps_of_them_send():
    assert sum_message(1000, 4) == Message("all-reduce", 1000, 1500.0)
    assert sum_message(1000, 1) == Message("all-reduce", 1000, 0.0)
    assert sum_message(1000, 8, Axis(DATA_AXIS, swaps=True)) == Message("swaps", 1000, 3000.0)
    assert half_message("all-gather", 1000, 4) == Message("all-gather", 1000, 750.0)


@pytest.mark.parametrize(
    ("kind", "nodes", "node_devices", "hierarchical", "payloads"),
    [
        # 13,861 numbers; powersgd sends 96 x 4 and 160 x 4 and the vector, then 64 x 4 and 48 x 4.
        ("exact", 1, 4, False, [("all-reduce", 55_444)]),
        ("half", 4, 2, True, [("all-reduce", 2 * 6_931)]),
        ("half", 1, 4, False, [("all-reduce", 27_722)]),
        ("int8", 1, 4, False, [("all-to-all", 4 * 7 * 516), ("all-gather", 4 * 7 * 516)]),
        ("topk", 1, 4, False, [("all-to-all", 4 * 35 * 8), ("all-gather", 4 * 35 * 8)]),
        ("powersgd", 1, 4, False, [("all-reduce", 4 * 1061), ("all-reduce", 4 * 448)]),
        ("powersgd", 4, 2, True, [("all-reduce", 2122), ("all-reduce", 896)]),
    ],
)
def test_an_exchange_says_which_messages_it_sends(
    kind: str, nodes: int, node_devices: int, hierarchical: bool, payloads: list[tuple[str, int]]
):
    exchange, _ = _build(kind, nodes, node_devices, hierarchical=hierarchical)
    assert [(message.collective, message.payload_bytes) for message in exchange.messages(LIKE)] == payloads


def test_eight_bits_hold_whole_steps_of_the_greatest_number_exactly():
    exchange = Int8Exchange(1, block=256)
    steps = np.arange(-127, 129, dtype=np.float32).clip(-127, 127)
    pieces = jnp.asarray(np.stack([0.5 * steps, np.zeros_like(steps), -4.0 * steps]))
    message = exchange.encode(pieces)
    assert message.shape == (3, exchange.encoded_bytes(256)) == (3, 260)
    np.testing.assert_array_equal(exchange.decode(message, 256), pieces)
    rest = np.random.default_rng(0).standard_normal((2, 512)).astype(np.float32)
    error = np.abs(np.asarray(exchange.decode(exchange.encode(jnp.asarray(rest)), 512)) - rest).reshape(4, 256)
    assert (error.max(axis=1) <= np.abs(rest).reshape(4, 256).max(axis=1) / 254.0 * 1.0001).all()


def test_a_block_that_is_not_finite_stays_so_and_spoils_no_other():
    exchange = Int8Exchange(1, block=4)
    decoded = np.asarray(
        exchange.decode(exchange.encode(jnp.asarray([[1.0, np.nan, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]])), 8)
    )
    assert np.isnan(decoded[0, :4]).all()
    np.testing.assert_array_equal(decoded[0, 4:], 2.0)


def test_the_greatest_numbers_are_sent_exactly_and_in_their_places():
    exchange = TopKExchange(1, fraction=0.25)
    pieces = np.array(
        [[1.0, -9.0, 0.5, 3.0, -2.0, 0.0, 8.0, 7.0], [0.0, 0.0, 0.0, 0.0, 0.0, 1e-6, 0.0, -5.0]], np.float32
    )
    message = exchange.encode(jnp.asarray(pieces))
    assert message.shape == (2, exchange.encoded_bytes(8)) == (2, 16)
    expected = np.zeros_like(pieces)
    expected[0, [1, 6]] = [-9.0, 8.0]
    expected[1, [5, 7]] = [1e-6, -5.0]
    np.testing.assert_array_equal(exchange.decode(message, 8), expected)
    assert TopKExchange(1, fraction=0.01).encoded_bytes(8) == 8


def test_matrices_are_compressed_where_that_halves_them_at_least():
    exchange = PowerExchange(2, rank=2)
    like = {
        "a": np.zeros((8, 8), np.float32),
        "b": np.zeros((8, 7), np.float32),
        "c": np.zeros(64, np.float32),
        "d": np.zeros((2, 4, 9), np.float32),
    }
    # 2 x 16 of 64 numbers are half, 2 x 15 of 56 are more; 2 x 17 of 72 are less.
    state = exchange.start(like)
    assert [left.shape for left in state.left] == [(2, 8, 8), (2, 8, 9)]
    assert [directions.shape for directions in state.directions] == [(2, 8, 2), (2, 9, 2)]


@pytest.mark.parametrize(("nodes", "node_devices"), [(4, 2), (2, 4), (8, 1)])
def test_over_nodes_each_device_sums_one_piece(nodes: int, node_devices: int):
    mesh = make_mesh(find_devices(ParallelConfig(devices=8)), node_devices)
    values = np.random.default_rng(0).standard_normal((nodes, 37)).astype(np.float32)
    mapped = jax.shard_map(
        lambda row: sum_over_nodes(row[0], node_devices)[None],
        mesh=mesh,
        in_specs=PartitionSpec(NODE_AXIS),
        out_specs=PartitionSpec(DATA_AXIS),
        check_vma=False,
    )
    found, text = np.asarray(jax.jit(mapped)(values)), jax.jit(mapped).lower(values).compile().as_text()
    np.testing.assert_allclose(found, np.broadcast_to(values.sum(axis=0), (8, 37)), atol=1e-5)
    pieces = [int(size) for size in re.findall(r"f32\[(\d+)\]\S* all-reduce\(", text)]
    assert pieces == [-(-37 // node_devices)]
    assert len(re.findall(r" all-gather\(", text)) == (0 if node_devices == 1 else 1)
