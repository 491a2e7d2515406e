"""Beginning with a trained network: what is taken over, how its layers are trained, and what it has seen."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ebox
import processes
from ebox.datasets.build import build_dataset
from ebox.datasets.folder import Dataset
from ebox.datasets.seen import find_seen
from ebox.datasets.sources import DatasetSources, read_sources
from ebox.errors import InputError
from ebox.mesh.devices import find_devices, make_mesh
from ebox.models.architectures import build_model
from ebox.models.ensemble import Ensemble, split_outputs
from ebox.models.files import load_model, save_model
from ebox.models.network import Network
from ebox.reporting.languages import english
from ebox.reporting.reading import RunFiles
from ebox.reporting.sections import transfer as section
from ebox.settings.flags import list_flags, read_flags
from ebox.settings.reading import (
    Config,
    DataConfig,
    ParallelConfig,
    format_config,
    make_config,
    read_config,
    read_config_text,
)
from ebox.storage import run_folder
from ebox.storage.publishing import read_json, write_json
from ebox.storage.seen import count_seen
from ebox.storage.stamps import TRANSFER, write_stamped
from ebox.training.checkpoints import RunIdentity, check_identity
from ebox.training.fine_tuning import is_frozen, list_layers, rate_layers
from ebox.training.inputs import TrainingInputs
from ebox.tuning.population import Population
from ebox.verbs.evaluate import describe as describe_evaluation
from ebox.verbs.evaluated import find_evaluated
from ebox.verbs.transferred import describe_transfer, fit_settings, mark_seen, take_settings
from groups import weights
from planted import fit_small, largest_difference, named_arrays, planted, small_config

LENGTH_BP = 60
SMALL: dict[str, Any] = {
    "num_filters": 4,
    "filter_width_bp": 5,
    "dense_units": [4],
    "dilations": [2],
    "position_basis": 2,
}
FROZEN = ("motifs", "body")


def make_run(
    folder: Path,
    data: Dataset | None = None,
    *,
    tracks: tuple[str, ...] = ("bound",),
    length_bp: int = LENGTH_BP,
    config: Config | None = None,
    seed: int = 5,
) -> Path:
    """A run folder as a finished training leaves it, whose network was only drawn."""
    config = make_config({"model": SMALL}) if config is None else config
    network = build_model(config.model, len(tracks), length_bp, np.random.default_rng(seed))
    # Statistics that differ from those of a fresh network.
    moved = jax.tree.map(lambda leaf: leaf + 0.25 if eqx.is_inexact_array(leaf) and leaf.ndim == 1 else leaf, network)
    save_model(folder, moved, config, tracks, length_bp)
    write_json(folder / run_folder.TRAINING, {"steps": 1})
    if data is not None:
        write_json(folder / run_folder.DATASET, {"path": str(data.path), **data.manifest})
    return folder


def from_source(source: Path, parallel: Mapping[str, Any] | None = None, **settings: Any) -> Config:
    """The small training of `planted`, begun with a run."""
    train = {"max_steps": 12, "checkpoint_every_steps": 4, **settings.pop("train", {})}
    chosen = small_config(parallel, **train).model_dump(mode="json")
    transfer = {"source": str(source), "fresh": "none", **settings}
    return make_config({**{key: chosen[key] for key in ("model", "train", "parallel")}, "transfer": transfer})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for the sequences of `planted`."""
    return make_run(tmp_path_factory.mktemp("source") / "run", length_bp=48, config=small_config())


def arrays_of(network: Network, part: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of the parts of a network, by their names."""
    return {
        name: array for name, array in named_arrays(network).items() if name.startswith(tuple(f".{p}" for p in part))
    }


# --- Settings


def test_the_flag_of_the_source_is_a_word_of_python():
    (flag,) = [flag for flag in list_flags(("transfer",)) if flag.name == "--from"]
    given = {one.parameter: None for one in list_flags(("transfer",))} | {flag.parameter: "runs/a"}
    assert flag.parameter == "from_"
    assert read_config(None, (), read_flags(list_flags(("transfer",)), given)).transfer.source == "runs/a"


@pytest.mark.parametrize("setting", ["freeze='motifs'", "rate=0.5", "allow_seen=true"])
def test_settings_of_transfer_without_a_source_are_refused(setting: str):
    with pytest.raises(InputError, match=rf"{setting.split('=')[0]} is for a training .*--from RUN"):
        read_config(None, [f"transfer.{setting}"])


# --- Layers and rates


def small_network() -> Network:
    return build_model(make_config({"model": SMALL}).model, 1, LENGTH_BP, np.random.default_rng(0))


def test_layers_are_listed_from_the_sequence_to_the_output():
    layers = list_layers(small_network())
    assert layers == [
        ("motifs",),
        ("body", "0"),
        ("body", "1"),
        ("pooling",),
        ("head", "hidden", "0"),
        ("head", "output"),
    ]
    assert [layer[0] for layer in layers if is_frozen(layer, "body")] == ["motifs", "body", "body"]
    assert [layer[0] for layer in layers if is_frozen(layer, "motifs")] == ["motifs"]
    assert not any(is_frozen(layer, None) for layer in layers)


def rates_at(step: int, **transfer: Any) -> list[float]:
    """The factor of each layer's first array in a step of 100."""
    settings = make_config({"transfer": {"source": "s", "fresh": "none", **transfer}}).transfer
    network = small_network()
    factors = rate_layers(network, settings, 100).at(jnp.asarray(step, jnp.int32))
    first = {}
    for path, factor in jax.tree_util.tree_leaves_with_path(factors):
        names = [str(getattr(key, "name", getattr(key, "idx", ""))) for key in path]
        key = ".".join(names[: 3 if names[1] == "hidden" else 2 if names[0] in ("body", "head") else 1])
        assert first.setdefault(key, float(factor)) == float(factor)
    return list(first.values())


def test_rates_fall_by_layer_towards_the_sequence():
    found = rates_at(0, rate=0.5, rate_decay=0.5)
    np.testing.assert_allclose(found, [0.5 * 0.5**depth for depth in (5, 4, 3, 2, 1, 0)])
    assert rates_at(0, rate=0.5, freeze="body", fresh="output", fresh_rate=2.0) == [0.0, 0.0, 0.0, 0.5, 0.5, 2.0]
    assert rates_at(0, rate=0.5, fresh="head") == [0.5, 0.5, 0.5, 0.5, 1.0, 1.0]


def test_layers_join_one_after_another_from_the_output():
    assert rates_at(0, rate=1.0, unfreeze_share=0.5) == [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert rates_at(10, rate=1.0, unfreeze_share=0.5) == [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    assert rates_at(50, rate=1.0, unfreeze_share=0.5) == [1.0] * 6
    # A layer that stays as it is never joins.
    assert rates_at(99, rate=1.0, unfreeze_share=0.5, freeze="motifs") == [0.0, *[1.0] * 5]


# --- Trainings


@pytest.mark.slow
def test_frozen_layers_and_kept_statistics_stay_to_the_bit(source: Path, tmp_path: Path):
    config = from_source(source, freeze="body", statistics="keep", fresh="output", train={"clip_norm": 0.1})
    before, after = load_model(source).network, fit_small(tmp_path, config).network
    for name, array in arrays_of(before, FROZEN).items():
        np.testing.assert_array_equal(array, named_arrays(after)[name], err_msg=name)
    changed = {
        name for name, array in named_arrays(before).items() if not np.array_equal(array, named_arrays(after)[name])
    }
    assert {name.split(".")[1] for name in changed} == {"pooling", "head"}
    # Those of the layers that are trained stay too.
    assert not any("running" in name for name in changed)


def test_a_network_taken_over_whole_is_the_one_of_the_source(source: Path):
    inputs = TrainingInputs.of(planted(), from_source(source))
    assert largest_difference(load_model(source).network, inputs.fresh) == 0.0
    anew = TrainingInputs.of(planted(), from_source(source, fresh="head")).fresh
    assert largest_difference(arrays_of(inputs.fresh, FROZEN), arrays_of(anew, FROZEN)) == 0.0
    assert not np.array_equal(inputs.fresh.head.output.weight, anew.head.output.weight)


@pytest.mark.slow
def test_members_of_a_population_begin_with_the_same_network_and_keep_what_is_frozen(source: Path):
    members = [
        from_source(source, freeze="body", statistics="keep", fresh="output", train={"seed": seed}) for seed in (3, 4)
    ]
    mesh = make_mesh(find_devices(ParallelConfig(devices=1)))
    trained = Population(planted(), members, mesh, validate=lambda network: {}, side_by_side=True)
    assert trained.train_to(12)
    for place in (0, 1):
        alone = TrainingInputs.of(planted(), members[place]).fresh
        after = trained.network(place)
        assert largest_difference(arrays_of(alone, FROZEN), arrays_of(load_model(source).network, FROZEN)) == 0.0
        assert largest_difference(arrays_of(after, FROZEN), arrays_of(alone, FROZEN)) == 0.0
        assert largest_difference(arrays_of(after, ("head",)), arrays_of(alone, ("head",))) > 0.0
    assert largest_difference(trained.network(0), trained.network(1)) > 0.0


def test_a_network_that_learns_from_an_ensemble_begins_with_the_logits_of_the_source(source: Path):
    found = load_model(source).network
    teacher = Ensemble.of([found, found])
    inputs = TrainingInputs.of(planted(), from_source(source), teacher)
    logits, spread = split_outputs(inputs.fresh, 1)
    assert inputs.hyper.layers is not None
    assert largest_difference(logits, found) == 0.0
    assert not np.array_equal(spread.head.output.weight, found.head.output.weight)
    assert TrainingInputs.of(planted(), from_source(source, fresh="output"), teacher).fresh.num_outputs == 2


def test_a_training_has_at_least_the_steps_that_were_asked_for(source: Path):
    few = {"max_steps": None, "epochs": 1.0}
    assert TrainingInputs.of(planted(), from_source(source, train=few)).num_steps == 400
    assert TrainingInputs.of(planted(), from_source(source, train=few, min_steps=None)).num_steps == 7
    assert TrainingInputs.of(planted(), from_source(source, train=few, min_steps=40)).num_steps == 40
    assert TrainingInputs.of(planted(), from_source(source, min_steps=40)).num_steps == 12


@pytest.mark.parametrize(
    ("train", "least", "expected"),
    [({}, None, 400), ({"epochs": 1}, None, 7), ({"epochs": 1}, 40, 40), ({"max_steps": 9}, None, 9)],
)
def test_epochs_that_were_given_are_trained_and_a_settings_file_keeps_that(
    train: dict[str, Any], least: int | None, expected: int, source: Path, tmp_path: Path
):
    transfer = {"source": str(source), "fresh": "none"} | ({} if least is None else {"min_steps": least})
    chosen = small_config().train
    asked = make_config({"train": {"batch_size": chosen.batch_size, **train}, "transfer": transfer})
    taken = take_settings(asked, tmp_path / "out")
    again = take_settings(read_config_text(format_config(taken)), tmp_path / "out")
    for config in (taken, again):
        assert TrainingInputs.of(planted(), config).num_steps == expected
    assert again.identity() == taken.identity()


def test_estimated_statistics_are_those_of_the_training_examples(source: Path):
    fixed = TrainingInputs.of(
        planted(), from_source(source, statistics="estimate", train={"reverse_complement": False})
    )
    network, data = fixed.fresh, planted()
    assert not network.norms()
    weight = np.asarray(network.motifs.convolution.weight)
    one_hot = np.eye(5, 4, dtype=np.float32)[data.codes[data.rows("train")]]
    width = weight.shape[0]
    padded = np.pad(one_hot, ((0, 0), ((width - 1) // 2, width - 1 - (width - 1) // 2), (0, 0)))
    scores = sum(padded[:, at : at + one_hot.shape[1]] @ weight[at] for at in range(width))
    pooled = scores.reshape(len(scores), -1, 4, scores.shape[-1]).max(axis=2)
    np.testing.assert_allclose(network.motifs.norm.running.mean, pooled.mean(axis=(0, 1)), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(network.motifs.norm.running.variance, pooled.var(axis=(0, 1)), rtol=0.05)


@pytest.mark.slow
def test_an_interrupted_transfer_goes_on_to_the_same_model(source: Path, tmp_path: Path):
    config = from_source(source, unfreeze_share=0.5, statistics="estimate", rate_decay=0.5)

    def stop(entry: Mapping[str, Any], num_steps: int) -> None:
        raise KeyboardInterrupt

    whole = fit_small(tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        fit_small(tmp_path / "parted", config, on_entry=stop)
    assert any((tmp_path / "parted" / "checkpoints").glob("step-*"))
    parted = fit_small(tmp_path / "parted", config, resume=True)
    assert largest_difference(whole.network, parted.network) == 0.0


@pytest.mark.slow
def test_one_and_two_devices_begin_and_end_with_the_same_model(source: Path, tmp_path: Path):
    config = from_source(source, freeze="motifs", statistics="estimate")
    one, two = (fit_small(tmp_path / str(devices), config, devices) for devices in (1, 2))
    assert largest_difference(one.network, two.network) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [{"sync": "local", "local_steps": 4}, {"exchange": "int8"}], ids=str)
def test_frozen_layers_stay_with_every_way_to_exchange(source: Path, tmp_path: Path, parallel: dict[str, Any]):
    config = from_source(source, parallel, freeze="body", statistics="keep")
    after = fit_small(tmp_path, config, 2).network
    for name, array in arrays_of(load_model(source).network, FROZEN).items():
        np.testing.assert_array_equal(array, named_arrays(after)[name], err_msg=name)


def test_another_source_is_another_training(source: Path, tmp_path: Path):
    other = make_run(tmp_path / "other", length_bp=48, config=small_config(), seed=6)
    begun = RunIdentity.of(from_source(source), "data")
    kept = json.loads(json.dumps({"settings": begun.settings, "fingerprint": "data", "source": begun.source}))
    check_identity(tmp_path, kept, begun)
    with pytest.raises(InputError, match=r"begun with the network .*, not with the network .*\n.*--from"):
        check_identity(tmp_path, kept, RunIdentity.of(from_source(other), "data"))
    with pytest.raises(InputError, match=r"begun with the network .*, not with fresh weights"):
        check_identity(tmp_path, kept, RunIdentity(begun.settings, "data"))
    # A run of before transfer says nothing of a source.
    check_identity(tmp_path, {"settings": {}, "fingerprint": "data"}, RunIdentity({}, "data"))


# --- Refusals


def draw(num: int, seed: int, length: int = LENGTH_BP) -> list[str]:
    return ["".join(row) for row in np.random.default_rng(seed).choice(list("ACGT"), (num, length))]


def write_fasta(path: Path, sequences: list[str]) -> Path:
    path.write_text("".join(f">{path.stem}{number}\n{each}\n" for number, each in enumerate(sequences)))
    return path


def build(folder: Path, positives: list[str], negatives: list[str], **settings: Any) -> Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    files = write_fasta(folder / "p.fa", positives), write_fasta(folder / "n.fa", negatives)
    config = DataConfig(**{"split_fractions": (0.4, 0.2, 0.4), **settings})
    return build_dataset(config, folder / "dataset", DatasetSources(positives=files[0], negatives=(files[1],)))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build(tmp_path_factory.mktemp("target"), draw(50, 1), draw(50, 2))


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset with nothing of the target."""
    return build(tmp_path_factory.mktemp("strange"), draw(40, 3), draw(40, 4))


@pytest.fixture(scope="module")
def seen(target: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset whose positives are those of the target's test split, which fall into any of its splits."""
    rows = target.rows("test")
    letters = ["".join("ACGTN"[code] for code in row) for row in np.asarray(target.codes[rows])]
    positives = [each for each, is_positive in zip(letters, target.is_positive()[rows], strict=True) if is_positive]
    return build(tmp_path_factory.mktemp("seen"), positives, draw(40, 5), split_fractions=(0.8, 0.1, 0.1))


def settings_for(run: Path, data: Dataset, out: Path, **transfer: Any) -> Config:
    """The settings of a training on `data` that begins with a run, after all checks of them."""
    config = make_config({"transfer": {"source": str(run), **transfer}})
    return fit_settings(take_settings(config, out), data)


def test_the_shape_of_the_network_is_that_of_the_source(target: Dataset, tmp_path: Path):
    run = make_run(tmp_path / "run")
    config = settings_for(run, target, tmp_path / "out")
    assert config.model == make_config({"model": SMALL}).model
    assert config.transfer.source == str(run.resolve())
    with pytest.raises(
        InputError, match=r"model\.num_filters = 4, and the settings ask for 128\n.*leave model\.num_filters"
    ):
        take_settings(make_config({"model": {"num_filters": 128}, "transfer": {"source": str(run)}}), tmp_path / "out")
    same = make_config({"model": {"num_filters": 4}, "transfer": {"source": str(run)}})
    assert take_settings(same, tmp_path / "out").model == config.model


def test_an_output_is_kept_for_tracks_of_the_same_name_and_else_drawn_anew(target: Dataset, tmp_path: Path):
    assert settings_for(make_run(tmp_path / "a"), target, tmp_path / "out").transfer.fresh is None
    other = make_run(tmp_path / "b", tracks=("TAL1",))
    assert settings_for(other, target, tmp_path / "out").transfer.fresh == "output"
    assert settings_for(other, target, tmp_path / "out", fresh="none").transfer.fresh is None
    two = make_run(tmp_path / "c", tracks=("bound", "other"))
    assert settings_for(two, target, tmp_path / "out").transfer.fresh == "output"
    with pytest.raises(InputError, match=r"gives the tracks bound, other, .* has bound\n.*transfer\.fresh=output"):
        settings_for(two, target, tmp_path / "out", fresh="none")


def test_a_source_of_another_length_is_refused_unless_the_user_insists(target: Dataset, tmp_path: Path):
    run = make_run(tmp_path / "run", length_bp=101)
    with pytest.raises(InputError, match=r"sequences of 101 bp, .* have 60 bp\n.*--length 101.*--other-length"):
        settings_for(run, target, tmp_path / "out")
    assert settings_for(run, target, tmp_path / "out", other_length=True).model == make_config({"model": SMALL}).model


def test_a_source_of_another_base_order_is_refused(target: Dataset, tmp_path: Path):
    run = make_run(tmp_path / "run")
    place = run / "model" / run_folder.TENSOR_FACTS
    facts = read_json(place)
    assert facts["bases"] == "ACGT"
    write_json(place, {**facts, "bases": "AGCT"})
    with pytest.raises(InputError, match="in the order AGCT, and ebox writes them as ACGT"):
        settings_for(run, target, tmp_path / "out")
    write_json(place, {key: value for key, value in facts.items() if key != "bases"})
    assert settings_for(run, target, tmp_path / "out").transfer.source == str(run.resolve())


def test_a_source_that_has_not_ended_or_would_be_overwritten_is_refused(target: Dataset, tmp_path: Path):
    run = make_run(tmp_path / "run")
    for out in (run, tmp_path):
        with pytest.raises(InputError, match=r"lies in the folder to write\n.*another --out"):
            settings_for(run, target, out)
    with pytest.raises(InputError, match="there is no such run folder"):
        settings_for(tmp_path / "none", target, tmp_path / "out")
    (run / run_folder.TRAINING).unlink()
    with pytest.raises(InputError, match=r"training has not ended\n.*--resume"):
        settings_for(run, target, tmp_path / "out")


# --- What a source has seen


def test_what_was_seen_is_told_from_relatives(target: Dataset, seen: Dataset, strange: Dataset):
    rows = target.rows("test")
    found = find_seen(seen, target, rows)
    assert 0 < found.same.sum() <= target.is_positive()[rows].sum()
    assert (found.related >= found.same).all()
    assert not found.same[~target.is_positive()[rows]].any()
    nothing = find_seen(strange, target, rows)
    assert not nothing.same.any()
    np.testing.assert_array_equal(found.partner >= 0, found.related)
    for row in np.flatnonzero(found.same):
        np.testing.assert_array_equal(seen.codes[found.partner[row]], target.codes[rows.start + row])
        assert found.partner[row] < seen.rows("train").stop


def test_what_was_seen_at_another_length_is_found(target: Dataset, tmp_path: Path):
    rows = target.rows("test")
    letters = ["".join("ACGTN"[code] for code in row) for row in np.asarray(target.codes[rows])]
    # The first five in the middle of longer sequences, the next five cut to their first 30 bases.
    flanks = draw(5, 9, 25)
    longer = build(
        tmp_path / "long",
        [f + s + f[::-1] for f, s in zip(flanks, letters[:5], strict=True)] + draw(35, 10, 110),
        draw(40, 11, 110),
        split_fractions=(0.9, 0.05, 0.05),
        split="random",
    )
    trained = {"".join("ACGTN"[code] for code in row) for row in np.asarray(longer.codes[longer.rows("train")])}
    hidden = [any(each in whole for whole in trained) for each in letters]
    assert sum(hidden) >= 3
    found = find_seen(longer, target, rows)
    assert found.related[hidden].all()
    assert not found.related[~np.array(hidden)].any()
    shorter = build(
        tmp_path / "short",
        [each[:30] for each in letters[5:10]] + draw(35, 12, 30),
        draw(40, 13, 30),
        split_fractions=(0.9, 0.05, 0.05),
    )
    trained = {"".join("ACGTN"[code] for code in row) for row in np.asarray(shorter.codes[shorter.rows("train")])}
    found = find_seen(shorter, target, rows)
    np.testing.assert_array_equal(found.same, [each[:30] in trained for each in letters])


def test_a_source_that_has_seen_test_examples_is_refused_unless_the_user_insists(
    target: Dataset, seen: Dataset, strange: Dataset, tmp_path: Path
):
    run = make_run(tmp_path / "run", seen)
    # Without places a split by chromosomes is no way out.
    with pytest.raises(InputError, match=r"such as p\d+\n.*out-seen\.tsv lists.*--allow-seen") as refused:
        describe_transfer(settings_for(run, target, tmp_path / "out"), target, None, out=tmp_path / "out")
    assert re.search(r"trained on \d+ of the 40 test examples", refused.value.problem)
    assert "chromosomes" not in str(refused.value)
    (tmp_path / "other-seen.tsv").write_text("mine")
    with pytest.raises(InputError, match=r"choose another --out"):
        describe_transfer(settings_for(run, target, tmp_path / "out"), target, None, out=tmp_path / "other")
    assert (tmp_path / "other-seen.tsv").read_text() == "mine"
    facts = describe_transfer(settings_for(run, target, tmp_path / "out", allow_seen=True), target, None)
    assert facts is not None
    assert facts["seen"]["test"]["num_same"] == find_seen(seen, target, target.rows("test")).same.sum()
    assert facts["allowed"]
    # The list beside the folder names each of them, with the sequence of the source that it equals.
    lines = [line.split("\t") for line in (tmp_path / "out-seen.tsv").read_text().splitlines()]
    names = [dict(zip(each.examples["name"].to_list(), np.asarray(each.codes), strict=True)) for each in (target, seen)]
    assert {split for *_, split, _ in lines[1:]} == {"train", "validation"}
    for name, partner, _, _ in lines[1:]:
        np.testing.assert_array_equal(names[0][name], names[1][partner])
    test = facts["seen"]["test"]
    assert len(lines) == 1 + test["num_same"] + test["in_validation"]["num_same"]
    clean = describe_transfer(
        settings_for(make_run(tmp_path / "clean", strange), target, tmp_path / "out"), target, None
    )
    assert clean is not None
    assert (clean["seen"]["test"]["num_same"], clean["seen"]["test"]["rows"], clean["num_unknown"]) == (0, [], 0)
    assert describe_transfer(Config(), target, None) is None


def test_what_the_source_of_a_source_has_seen_counts_too(
    target: Dataset, seen: Dataset, strange: Dataset, tmp_path: Path
):
    first = make_run(tmp_path / "first", seen)
    second = make_run(tmp_path / "second", strange, seed=7)
    begun = describe_transfer(settings_for(first, strange, second / "out"), strange, None)
    write_stamped(second / run_folder.TRANSFER, TRANSFER, begun or {})
    config = settings_for(second, target, tmp_path / "out")
    with pytest.raises(InputError, match=r"second.*trained on \d+ of the 40 test examples"):
        describe_transfer(config, target, None)
    # Even where the first run is gone: its dataset is still where it was.
    shutil.rmtree(first)
    with pytest.raises(InputError, match=r"trained on \d+ of the 40 test examples"):
        describe_transfer(config, target, None)
    allowed = describe_transfer(settings_for(second, target, tmp_path / "out", allow_seen=True), target, None)
    assert allowed is not None
    assert [Path(each["run"]).name for each in allowed["sources"]] == ["second", "first"]


def test_a_source_whose_data_are_gone_needs_them_or_a_user_who_insists(
    target: Dataset, strange: Dataset, tmp_path: Path
):
    shutil.copytree(strange.path, tmp_path / "moved")
    run = make_run(tmp_path / "run", strange)
    facts = read_json(run / run_folder.DATASET)
    write_json(run / run_folder.DATASET, {**facts, "path": str(tmp_path / "gone")})
    config = settings_for(run, target, tmp_path / "out")
    with pytest.raises(InputError, match=r"gone: the dataset .* is gone.*\n.*--source-data.*--allow-seen"):
        describe_transfer(config, target, None)
    given = settings_for(run, target, tmp_path / "out", source_data=[str(tmp_path / "moved")])
    found = describe_transfer(given, target, None)
    assert found is not None
    assert found["num_unknown"] == 0
    with pytest.raises(InputError, match=r"is not the dataset that the source.*\n.*stood at .*gone"):
        describe_transfer(settings_for(run, target, tmp_path / "out", source_data=[str(target.path)]), target, None)
    blind = describe_transfer(settings_for(run, target, tmp_path / "out", allow_seen=True), target, None)
    assert blind is not None
    assert blind["num_unknown"] == 1


def test_a_training_that_goes_on_keeps_what_was_found_when_it_began(target: Dataset, strange: Dataset, tmp_path: Path):
    run = make_run(tmp_path / "run", strange)
    config = settings_for(run, target, tmp_path / "out")
    begun = describe_transfer(config, target, None)
    out = tmp_path / "out"
    out.mkdir()
    write_stamped(out / run_folder.TRANSFER, TRANSFER, {**(begun or {}), "kept": 1})
    facts = read_json(run / run_folder.DATASET)
    write_json(run / run_folder.DATASET, {**facts, "path": str(tmp_path / "gone")})
    again = describe_transfer(config, target, out)
    assert again is not None
    assert again["kept"] == 1


def build_splits(folder: Path, **splits: list[str]) -> Dataset:
    """A dataset with given splits, each of these positives and as many other sequences."""
    folder.mkdir()
    for number, (split, positives) in enumerate(splits.items()):
        rows = [(each, 1) for each in positives] + [
            (each, 0) for each in draw(len(positives), 100 * len(folder.name) + number)
        ]
        (folder / f"{split}.csv").write_text("sequence,label\n" + "".join(f"{each},{label}\n" for each, label in rows))
    sources = read_sources(**{split: folder / f"{split}.csv" for split in splits})
    return build_dataset(DataConfig(), folder / "dataset", sources)


def test_held_out_examples_in_the_splits_of_the_source_are_told_apart(tmp_path: Path):
    drawn = draw(60, 21)
    before = build_splits(tmp_path / "before", train=drawn[:15], validation=drawn[15:25], test=drawn[25:30])
    data = build_splits(
        tmp_path / "data",
        train=drawn[30:45],
        validation=[*drawn[:4], *drawn[45:50]],
        test=[*drawn[15:18], *drawn[50:57]],
    )
    run, out = make_run(tmp_path / "run", before), tmp_path / "out"
    # The source's step was chosen with three test examples, and its training saw four that validate.
    with pytest.raises(InputError, match=r"chosen on its validation split with 3 of the \d+ test examples"):
        describe_transfer(settings_for(run, data, out), data, None, out=out)
    assert "\tvalidation\t" in (tmp_path / "out-seen.tsv").read_text()
    facts = describe_transfer(settings_for(run, data, out, allow_seen=True), data, None)
    assert facts is not None
    test, validation = facts["seen"]["test"], facts["seen"]["validation"]
    assert (test["num_same"], test["in_validation"]["num_same"]) == (0, 3)
    assert (validation["num_same"], validation["in_validation"]["num_same"]) == (4, 0)
    first = data.rows("test").start
    letters = ["".join("ACGTN"[code] for code in data.codes[first + row]) for row in test["rows"]]
    assert set(drawn[15:18]) <= set(letters)
    told = english.say({"code": "transfer_seen", **count_seen(facts)})
    assert "a validation split with 3 of them" in told
    assert "validation sequences it had seen 4 in its training: beware" in told


def test_a_source_of_which_nothing_is_known_is_told_as_that(strange: Dataset, target: Dataset, tmp_path: Path):
    run, out = make_run(tmp_path / "run", strange), tmp_path / "out"
    shutil.copytree(strange.path, tmp_path / "moved")
    facts = read_json(run / run_folder.DATASET)
    write_json(run / run_folder.DATASET, {**facts, "path": str(tmp_path / "gone")})
    blind = describe_transfer(settings_for(run, target, out, allow_seen=True), target, None)
    assert blind is not None
    told = english.say({"code": "transfer_seen", **count_seen(blind)})
    assert told.startswith("It is not known which of 40 test and 20 validation sequences the source had seen")
    assert "seen 0" not in told
    # A training that goes on looks again where that is now possible, and asks again where nobody insists.
    out.mkdir()
    write_stamped(out / run_folder.TRANSFER, TRANSFER, blind)
    given = settings_for(run, target, out, source_data=[str(tmp_path / "moved")])
    again = describe_transfer(given, target, out)
    assert again is not None
    assert again["num_unknown"] == 0
    with pytest.raises(InputError, match="--source-data"):
        describe_transfer(settings_for(run, target, out), target, out)
    kept = describe_transfer(settings_for(run, target, out, allow_seen=True), target, out)
    assert kept is not None
    assert kept["num_unknown"] == 1


def test_a_training_that_goes_on_still_needs_a_user_who_insists(target: Dataset, seen: Dataset, tmp_path: Path):
    run, out = make_run(tmp_path / "run", seen), tmp_path / "out"
    out.mkdir()
    allowed = settings_for(run, target, out, allow_seen=True)
    write_stamped(out / run_folder.TRANSFER, TRANSFER, describe_transfer(allowed, target, None) or {})
    assert describe_transfer(allowed, target, out) is not None
    with pytest.raises(InputError, match="--allow-seen"):
        describe_transfer(settings_for(run, target, out), target, out)


# --- From end to end


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sources_of(data: Dataset) -> DatasetSources:
    """The files that `build` made a dataset of."""
    return DatasetSources(positives=data.path.parent / "p.fa", negatives=(data.path.parent / "n.fa",))


def finished(folder: Path, data: Dataset) -> Path:
    """A run of `ebox run` as far as `--overwrite` knows it."""
    run = make_run(folder, data)
    shutil.copytree(data.path, run / run_folder.DATASET_FOLDER)
    for name in (run_folder.ENVIRONMENT, run_folder.REQUEST):
        write_json(run / name, {})
    return run


@pytest.mark.parametrize("why", ["ensemble", "seen", "length", "tracks", "gone", "few", "replaced", "group"])
def test_a_run_that_cannot_begin_leaves_the_run_that_it_was_to_replace(
    why: str, target: Dataset, seen: Dataset, strange: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    victim = finished(tmp_path / "victim", strange)
    before = make_run(
        tmp_path / "before",
        {"seen": seen, "gone": seen}.get(why, strange),
        length_bp=50 if why == "length" else LENGTH_BP,
        tracks=("bound", "open") if why == "tracks" else ("bound",),
    )
    place = {"gone": tmp_path / "nowhere", "replaced": victim / run_folder.DATASET_FOLDER}.get(why)
    if place is not None:
        facts = read_json(before / run_folder.DATASET)
        write_json(before / run_folder.DATASET, {**facts, "path": str(place)})
    if why == "group":
        monkeypatch.setattr("ebox.workers.processes.is_member", lambda: True)
    values: dict[str, Any] = {
        "data": {"split_fractions": [0.4, 0.2, 0.4], "track": "bound"},
        "transfer": {"source": str(before), **({"fresh": "none"} if why == "tracks" else {})},
    }
    if why in ("ensemble", "few"):
        values |= {"model": SMALL, "transfer": {}, "ensemble": {"members": 30}}
        values |= {"parallel": {"processes": 2}} if why == "ensemble" else {}
    refusal = {
        "ensemble": "trained by one process",
        "seen": "trained on .* of the 40 test examples",
        "length": "--other-length",
        "tracks": "gives the tracks bound, open",
        "gone": "--source-data",
        "few": "fewer than the ensemble's 30 members",
        "replaced": "which the new one would replace",
        "group": "in all of them",
    }[why]
    whole = snapshot(victim)
    with pytest.raises(InputError, match=refusal):
        ebox.run(victim, sources_of(target), make_config(values), overwrite=True)
    assert snapshot(victim) == whole


def test_what_was_seen_stands_in_evaluation_and_report(target: Dataset, seen: Dataset, tmp_path: Path):
    before, out = make_run(tmp_path / "before", seen), make_run(tmp_path / "out", target)
    config = settings_for(before, target, tmp_path / "x", allow_seen=True, freeze="motifs")
    taken = describe_transfer(config, target, None)
    assert taken is not None
    write_stamped(out / run_folder.TRANSFER, TRANSFER, taken)
    marked = mark_seen(out, target)
    first = target.rows("test").start
    rows = np.flatnonzero(marked.examples["relative"].is_not_null().to_numpy())
    assert set(first + np.array(taken["seen"]["test"]["rows"])) <= set(rows.tolist())
    found = find_evaluated(out, load_model(out), None, None, None, DataConfig(), lambda *_: None)
    assert found.dataset.examples.equals(marked.examples)
    # Other data count as seen where the network before saw them.
    others = find_evaluated(out, load_model(out), seen.path, None, "other", DataConfig(), lambda *_: None)
    counted = others.count_seen()
    assert counted is not None
    transfer = read_json(out / run_folder.TRANSFER)
    files = RunFiles("out", config, {}, {}, {run_folder.TRANSFER: transfer}, (), {}, ())
    notes = section.collect(files)["transfer"]["notes"]
    told = " ".join(english.say(note) for note in notes)
    assert "The training began with the network of before" in told
    assert f"had seen {taken['seen']['test']['num_same']:,} in its training" in told
    assert "The motif filters stayed as they were" in told


@pytest.mark.slow
def test_a_group_of_processes_begins_with_the_source_and_ends_as_one(target: Dataset, strange: Dataset, tmp_path: Path):
    run = make_run(tmp_path / "before", strange)
    chosen = ("transfer.statistics=estimate", "train.max_steps=20", "train.batch_size=16", "train.validations=1")
    words = ["train", target.path, "--from", run, "--freeze", "motifs", *(w for one in chosen for w in ("--set", one))]
    for out, more in (("one", ()), ("two", ("--processes", "2"))):
        processes.run(processes.ebox(*words, "--out", tmp_path / out, *more), seconds=300.0)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, array in one.items():
        np.testing.assert_allclose(array, two[name], rtol=1e-5, atol=2e-6, err_msg=name)
    for name in ("one", "two"):
        assert read_json(tmp_path / name / run_folder.TRANSFER)["seen"]["test"]["num_same"] == 0
        kept = read_config(tmp_path / name / run_folder.CONFIG)
        assert kept.transfer.source == str(run.resolve())
        assert kept.model == make_config({"model": SMALL}).model
    result = ebox.evaluate(
        tmp_path / "two", config=make_config({"evaluation": {"baselines": [], "num_bootstrap": 100}})
    )
    assert "the source had seen 0 in its training" in describe_evaluation(result)
    assert "What it began with" in ebox.report(tmp_path / "two").read_text()
