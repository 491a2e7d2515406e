"""When the devices meet: late, seldom, in pieces; and what must stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from ebox.errors import InputError
from ebox.mesh.devices import DATA_AXIS, find_devices, make_mesh
from ebox.mesh.lowrank import LowRankState
from ebox.models.architectures import build_model
from ebox.models.normalisation import Moments
from ebox.settings.reading import Config, ParallelConfig, make_config
from ebox.training.batches import Shares, iter_chunks, iter_plans
from ebox.training.communication import describe_communication
from ebox.training.sampling import make_order
from ebox.training.schedules import deal_moments, merge_moments, trained_weights
from ebox.training.state import TrainState, make_hyperparameters, move_average, place_state, rate_factor
from ebox.training.step import NUM_SIGNALS, STOP, build_run_chunk, even_group, make_plan

STEPS = 24
GROUPS = {"batch_statistics": "group", "group_examples": 8}


def _config(train: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **parallel: Any) -> Config:
    small = {"num_filters": 8, "filter_width_bp": 7, "dense_units": [8], "dilations": [2], "position_basis": 3}
    settings = {"batch_size": 32, "learning_rate": 1e-3, "max_steps": STEPS, "steps_per_dispatch": 8}
    return make_config(
        {"model": {**small, **(model or {})}, "train": {**settings, **(train or {})}, "parallel": parallel}
    )


@dataclass(frozen=True)
class Trained:
    states: list[TrainState]
    losses: np.ndarray
    signals: np.ndarray


def _train(
    config: Config,
    devices: int,
    signals: np.ndarray | None = None,
    steps: int = STEPS,
    *,
    chunk_steps: int = 1,
    whole_chunks: bool = False,
) -> Trained:
    """Some steps in dispatches that end after every `chunk_steps` and after step 6, and the state after each."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (200, 40), np.uint8)
    targets = (np.arange(200) % 2).astype(np.uint8)[:, None]
    codes[targets[:, 0] == 1, 10:16] = [1, 0, 2, 0, 3, 2]
    mesh = make_mesh(find_devices(ParallelConfig(devices=devices)), config.parallel.node_devices)
    plan = replace(make_plan(config, mesh), whole_chunks=whole_chunks)
    run = build_run_chunk(mesh, plan, chunk_steps)
    order = make_order(targets, seed=0, batch_size=config.train.batch_size, negatives_per_positive=None)
    hyper = make_hyperparameters(config.train, steps, 1.0)
    state = place_state(plan.schedule.start(build_model(config.model, 1, 40, np.random.default_rng(0))), mesh)
    told = jnp.zeros((devices, NUM_SIGNALS)) if signals is None else jnp.asarray(signals)
    states, losses = [], []
    plans = list(iter_plans(0, steps, chunk_steps, frozenset({6})))
    size = config.train.device_batch_size
    for one, chunk in iter_chunks(codes, targets, order, plans, chunk_steps, mesh, device_batch_size=size):
        state, metrics = run(state, chunk, told, hyper, jnp.asarray(one.count, jnp.int32))
        states.append(jax.tree.map(lambda leaf: np.array(leaf) if eqx.is_array(leaf) else leaf, state))
        losses += np.asarray(metrics.loss)[: one.count].tolist()
    return Trained(states, np.array(losses), np.asarray(metrics.signals))


def _difference(one: Any, other: Any) -> float:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max((float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)) for a, b in pairs), default=0.0)


def _directions(state: TrainState) -> Any:
    """Those of powersgd."""
    return state.carried.directions if isinstance(state.carried, LowRankState) else ()


def _without_directions(state: TrainState) -> TrainState:
    return state.with_carried(state.carried.left) if isinstance(state.carried, LowRankState) else state


def _rows_are_alike(tree: Any) -> bool:
    return all((row == leaf[0]).all() for leaf in jax.tree.leaves(tree) for row in leaf)


@pytest.mark.parametrize("exchange", ["half", "int8", "topk", "powersgd"])
@pytest.mark.slow
def test_compressed_training_stays_near_the_exact_one(exchange: str):
    exact = _train(_config(), 4)
    compressed = _train(_config(exchange=exchange, rank=2, top_fraction=0.1), 4)
    assert np.isfinite(compressed.losses).all()
    assert _difference(exact.states[-1].network, compressed.states[-1].network) > 0.0
    assert abs(exact.losses[-6:].mean() - compressed.losses[-6:].mean()) < 0.05


@pytest.mark.parametrize(
    "parallel",
    [
        pytest.param({}, marks=pytest.mark.slow, id="every-step"),
        pytest.param({"exchange": "powersgd", "rank": 2}, id="powersgd"),
        pytest.param({"sync": "delayed"}, marks=pytest.mark.slow, id="delayed"),
        pytest.param({"sync": "local", "local_steps": 3}, marks=pytest.mark.slow, id="local"),
    ],
)
@pytest.mark.slow
def test_an_accelerator_that_runs_whole_chunks_drops_what_lies_past_their_end(parallel: dict[str, Any]):
    counted = _train(_config(**parallel), 2, steps=10, chunk_steps=4)
    whole = _train(_config(**parallel), 2, steps=10, chunk_steps=4, whole_chunks=True)
    assert len(counted.states) == len(whole.states) == 4
    for one, other in zip(counted.states, whole.states, strict=True):
        assert int(one.step) == int(other.step)
        # A step that was not dropped would move the weights by about the learning rate, 1e-3.
        assert _difference(_without_directions(one), _without_directions(other)) < 1e-5
        # It would turn the directions of powersgd, which hold the rounding of gradients, by half their length and more.
        assert _difference(_directions(one), _directions(other)) < 1e-4
    np.testing.assert_allclose(whole.losses, counted.losses, rtol=1e-5)


@pytest.mark.slow
def test_local_workers_part_and_meet():
    trained = _train(_config(sync="local", local_steps=6), 4)
    start = trained.states[0].network
    for done, state in enumerate(trained.states, start=1):
        met = done % 6 == 0
        assert _rows_are_alike(state.carried.network) is met
        if done < 6:
            assert _difference(start, state.network) == 0.0
        if met:
            rows = jax.tree.map(lambda leaf: leaf[0], state.carried.network)
            assert _difference(rows, state.network) == 0.0


@pytest.mark.slow
def test_a_meeting_of_plain_local_workers_is_the_mean_of_their_networks():
    apart, met = _train(_config(sync="local", local_steps=7), 4), _train(_config(sync="local", local_steps=6), 4)
    rows = apart.states[5].carried.network
    mean = trained_weights(jax.tree.map(lambda leaf: leaf.mean(axis=0), rows))
    assert _difference(mean, trained_weights(met.states[5].network)) < 2e-6
    for norm, merged in zip(rows.norms(), met.states[5].network.norms(), strict=True):
        spread = norm.running.variance.mean(axis=0) + norm.running.mean.var(axis=0)
        np.testing.assert_allclose(merged.running.variance, spread, rtol=1e-4)


@pytest.mark.slow
def test_local_workers_meet_at_the_end_whatever_the_number_of_steps():
    assert STEPS % 7
    assert _rows_are_alike(_train(_config(sync="local", local_steps=7), 2).states[-1].carried.network)


@pytest.mark.slow
def test_outer_momentum_goes_further_the_same_way():
    plain = _train(_config(sync="local", local_steps=4), 2)
    eager = _train(_config(sync="local", local_steps=4, outer_momentum=0.5), 2)
    start = trained_weights(plain.states[0].network)

    def distance(trained: Trained) -> float:
        weights = trained_weights(trained.states[-1].network)
        moved = jax.tree.map(lambda new, old: ((new - old) ** 2).sum(), weights, start)
        return float(sum(jax.tree.leaves(moved)))

    assert distance(eager) > 1.2 * distance(plain)


@pytest.mark.slow
def test_a_delayed_gradient_arrives_one_step_late():
    settings = {"weight_decay": 0.0, "ema_decay": 0.0}
    delayed, prompt = _train(_config(settings, sync="delayed"), 2), _train(_config(settings), 2)
    fresh = build_model(_config().model, 1, 40, np.random.default_rng(0))
    weights = [norm.scale for norm in fresh.norms()], fresh.motifs.convolution.weight
    first = delayed.states[0].network
    # Nothing has arrived after the first step, so the weights stand still.
    assert _difference(weights, ([norm.scale for norm in first.norms()], first.motifs.convolution.weight)) == 0.0
    gradient = jax.tree.map(lambda leaf: leaf.sum(axis=0), delayed.states[0].carried.gradient)
    moment = prompt.states[0].optimiser[1].mu
    scaled = jax.tree.map(lambda leaf: 0.1 * leaf, gradient)
    assert _difference(moment, scaled) < 1e-4


@pytest.mark.parametrize("settings", [{"sync": "delayed"}, {"sync": "local", "local_steps": 6}, {}])
@pytest.mark.slow
def test_every_schedule_learns(settings: dict[str, Any]):
    quick = {"learning_rate": 1e-2, "warmup_fraction": 0.1, "dropout": 0.0, "filter_dropout": 0.0}
    plain = {"shift_bp": 0, "reverse_complement": False, "batch_statistics": "device"}
    losses = _train(_config({**quick, **plain}, **settings), 4, steps=120).losses
    assert losses[-12:].mean() < 0.6 * losses[:12].mean()


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_the_whole_batch():
    model = {"batch_norm": False, "activation": "relu"}
    whole = _train(_config(model=model), 2)
    pieces = _train(_config({"device_batch_size": 5}, model), 2)
    assert Shares(32, 2, 5).micro_batches == 4
    assert _difference(whole.states[-1].network, pieces.states[-1].network) < 2e-6


def test_pieces_of_a_batch_are_whole_and_equal():
    shares = Shares(50, 4, 5)
    assert shares.micro_batches == 3
    assert shares.padded_batch_size == 60
    own = [Shares(50, 4, 5, process, 2).own for process in range(2)]
    assert [(part.start, part.stop) for part in own] == [(0, 30), (30, 60)]


def test_moments_far_from_zero_are_merged_without_loss():
    rng, counts = np.random.default_rng(0), np.array([3.0, 5.0, 0.0, 8.0], np.float32)
    means = (1000.0 + 0.1 * rng.standard_normal((4, 6))).astype(np.float32)
    variances = rng.uniform(0.01, 0.02, (4, 6)).astype(np.float32)
    near = Moments(jnp.full(6, 1000.0), jnp.ones(6))

    def merge(mean: jax.Array, variance: jax.Array, count: jax.Array) -> Moments:
        return merge_moments((Moments(mean[0], variance[0]),), count[0], (near,))[0]

    rows, mesh = PartitionSpec(DATA_AXIS), make_mesh(find_devices(ParallelConfig(devices=4)))
    everywhere = PartitionSpec()
    merged = jax.shard_map(merge, mesh=mesh, in_specs=(rows, rows, rows), out_specs=everywhere, check_vma=False)(
        means, variances, counts
    )
    share = (counts / counts.sum()).astype(np.float64)[:, None]
    mean = (share * means.astype(np.float64)).sum(axis=0)
    spread = (share * (variances + (means.astype(np.float64) - mean) ** 2)).sum(axis=0)
    np.testing.assert_allclose(merged.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(merged.variance, spread, rtol=1e-5)


@pytest.mark.parametrize(
    ("statistics", "devices", "messages"),
    [({"batch_statistics": "device"}, 4, 1), (GROUPS, 4, 1), (GROUPS, 8, 9), ({"batch_statistics": "global"}, 4, 9)],
)
def test_a_step_sends_one_message_where_no_group_lies_on_two_devices(
    statistics: dict[str, Any], devices: int, messages: int
):
    config = _config(statistics)
    mesh = make_mesh(find_devices(ParallelConfig(devices=devices)))
    network = build_model(config.model, 1, 40, np.random.default_rng(0))
    assert len(make_plan(config, mesh).schedule.messages(network)[0]) == messages


# Batches of 30 are cut into groups of 6, which lie on two devices where there are 8, and don't where there
# are 5. Of 200 examples the last batch has 20.
@pytest.mark.slow
def test_groups_give_one_and_several_devices_the_same_model():
    config = _config({**GROUPS, "batch_size": 30})
    one = _train(config, 1).states[-1].network
    for devices in (5, 8):
        assert _difference(one, _train(config, devices).states[-1].network) < 2e-5


@pytest.mark.slow
def test_groups_give_pieces_of_a_batch_the_model_of_the_whole():
    whole = _train(_config(GROUPS), 2).states[-1].network
    pieces = _train(_config({**GROUPS, "device_batch_size": 8}), 2).states[-1].network
    assert _difference(whole, pieces) < 2e-5


def test_pieces_that_would_make_groups_depend_on_the_devices_are_refused():
    mesh = make_mesh(find_devices(ParallelConfig(devices=1)))
    with pytest.raises(InputError, match="11 examples at once, which are no whole groups of 8"):
        make_plan(_config({**GROUPS, "device_batch_size": 12}), mesh)


def test_moments_of_groups_are_dealt_out_with_what_lies_between_them():
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((count, 6)) + 5.0 * count for count in (3, 9, 4)]
    leaves = [np.array([*(getattr(part, of)(axis=0) for part in values), np.zeros(6)]) for of in ("mean", "var")]
    rows = jax.tree.unflatten(jax.tree.structure(Moments(jnp.zeros(1), jnp.ones(1))), leaves)
    dealt, everything = deal_moments(rows, np.array([3.0, 9.0, 4.0, 0.0]), 2), np.concatenate(values)
    for row in (0, 1):
        np.testing.assert_allclose(dealt.mean[row], everything.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(dealt.variance[row], everything.var(axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("batch", "most", "size"),
    [(64, 32, 32), (64, 16, 16), (100, 32, 25), (67, 32, 23), (20, 32, 20), (1, 32, 1), (200, 32, 25), (62, 32, 31)],
)
def test_a_batch_is_cut_into_even_groups(batch: int, most: int, size: int):
    assert even_group(batch, most) == size


@pytest.mark.parametrize("sync", ["every-step", "delayed", "local"])
@pytest.mark.slow
def test_other_numbers_of_devices_go_on_from_what_was_carried(sync: str):
    config = _config(sync=sync, exchange="int8", local_steps=5)
    state = _train(config, 4).states[12]
    mesh = make_mesh(find_devices(ParallelConfig(devices=2)))
    schedule = make_plan(config, mesh).schedule
    carried = schedule.regroup(state.carried, state.network)
    fresh = schedule.start(state.network).carried
    assert [leaf.shape for leaf in jax.tree.leaves(carried)] == [leaf.shape for leaf in jax.tree.leaves(fresh)]
    if sync == "delayed":
        assert _difference(schedule.regroup(carried, state.network).moments, carried.moments) < 1e-6
        before = jax.tree.map(lambda rows: rows.sum(axis=0), state.carried.gradient)
        after = jax.tree.map(lambda rows: rows.sum(axis=0), carried.gradient)
        assert _difference(before, after) < 1e-5


@pytest.mark.slow
def test_the_signals_of_all_devices_are_added():
    signals = np.zeros((4, NUM_SIGNALS), np.float32)
    signals[2, STOP] = 1.0
    assert _train(_config(), 4, signals).signals.tolist() == [1.0, 0.0]


def test_one_move_of_the_average_for_several_steps_is_as_far_as_several_moves():
    new, decay = build_model(_config().model, 1, 40, np.random.default_rng(0)), jnp.asarray(0.9)
    old, step = jax.tree.map(jnp.zeros_like, new), jnp.asarray(1000, jnp.int32)
    several = old
    for _ in range(5):
        several = move_average(several, new, step, decay)
    assert _difference(several, move_average(old, new, step, decay, steps=5)) < 1e-5


@pytest.mark.parametrize(("scaling", "factor"), [("constant", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_the_rate_grows_with_the_batch(scaling: str, factor: float):
    config = _config({"batch_size": 256, "rate_scaling": scaling}).train
    assert rate_factor(config) == factor
    assert float(make_hyperparameters(config, 100, 1.0).learning_rate) == pytest.approx(1e-3 * factor)


def _ratio(parallel: Sequence[tuple[str, Any]], devices: int) -> float:
    config = make_config({"parallel": dict(parallel), "train": {"batch_statistics": "device"}})
    mesh = make_mesh(find_devices(ParallelConfig(devices=devices)))
    network = build_model(config.model, 1, 200, np.random.default_rng(0))
    schedule = make_plan(config, mesh).schedule
    return describe_communication(schedule, config.parallel, network, mesh).ratio


@pytest.mark.parametrize("devices", [2, 8])
def test_the_residual_network_travels_in_few_bytes(devices: int):
    assert _ratio([("exchange", "int8")], devices) > 3.8
    assert _ratio([("exchange", "powersgd"), ("rank", 4)], devices) > 10.0
    assert _ratio([("exchange", "int8"), ("sync", "local"), ("local_steps", 16)], devices) > 60.0
    assert _ratio([], 1) == 1.0
