"""Ensembles: their mean, what they gain, how they are resumed, and the one network that is distilled from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

import ebox
import processes
from ebox.datasets.folder import open_dataset
from ebox.errors import InputError
from ebox.evaluation.inference import predict, predict_members
from ebox.evaluation.scores import predict_model
from ebox.evaluation.split_metrics import squash
from ebox.explanation.attribution import METHODS, attribute
from ebox.models.architectures import build_model
from ebox.models.encoding import one_hot
from ebox.models.ensemble import Ensemble, all_filters, join_outputs, rescale, split_outputs
from ebox.models.files import load_model, load_teacher, save_model
from ebox.models.passes import Pass
from ebox.models.rising import RisingMap
from ebox.sequences import SimulationConfig, draw_simulation, write_simulation
from ebox.settings.reading import Config, ExplanationConfig, TrainConfig, make_config
from ebox.storage.publishing import write_json
from ebox.storage.run_folder import MEMBERS, TRAINING, MetricsLog, find_members
from ebox.training.augmentation import AugmentationPlan, show
from ebox.training.checkpoints import find_checkpoints
from ebox.training.distillation import LEAST_SPREAD, distillation_loss_sum, teach
from ebox.training.state import make_hyperparameters
from ebox.tuning.ensembles import check_ensemble
from ebox.verbs.transferred import take_settings
from ebox.workers.contract import COORDINATOR, NUM_PROCESSES, PROCESS
from planted import largest_difference

LENGTH = 80
MODEL = {"num_filters": 8, "filter_width_bp": 7, "dense_units": [8], "dilations": [2], "position_basis": 3}
TRAIN: dict[str, Any] = {
    "max_steps": 240,
    "validations": 2,
    "batch_size": 32,
    "steps_per_dispatch": 8,
    "log_every_steps": 80,
}


def settings(members: int | None = 3, **ensemble: Any) -> Config:
    return make_config(
        {
            "model": MODEL,
            "train": TRAIN,
            "parallel": {"devices": 1},
            "ensemble": {"members": members, **ensemble},
            "evaluation": {"num_bootstrap": 100, "baselines": []},
        }
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensembles")
    config = SimulationConfig(motifs=("MA0140.3",), length_bp=LENGTH, num_positives=300, num_negatives=300)
    write_simulation(draw_simulation(config), folder / "simulation")
    sources = ebox.DatasetSources(
        positives=folder / "simulation" / "positives.fa", negatives=(folder / "simulation" / "negatives.fa",)
    )
    ebox.build(folder / "dataset", sources)
    return folder / "dataset"


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and measured ensemble."""
    out = tmp_path_factory.mktemp("ensemble") / "run"
    ebox.train(dataset, out, settings())
    ebox.evaluate(out)
    return out


@pytest.fixture(scope="module")
def distilled(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble that was distilled and measured."""
    out, config = tmp_path_factory.mktemp("distilled") / "run", settings(distil=True)
    # With dropout, a network of this size learns little in this number of steps, and luck decides what.
    train = config.train.model_copy(update={"dropout": 0.0, "filter_dropout": 0.0})
    ebox.train(dataset, out, config.model_copy(update={"train": train}))
    ebox.evaluate(out)
    return out


def ensemble(num_tracks: int = 2) -> Ensemble:
    config = make_config({"model": MODEL}).model
    return Ensemble.of([build_model(config, num_tracks, LENGTH, np.random.default_rng(seed)) for seed in range(3)])


CODES = np.random.default_rng(1).integers(0, 5, (10, LENGTH), np.uint8)


def test_an_ensemble_predicts_the_mean_of_its_members():
    whole = ensemble()
    alone = np.stack([predict(member, CODES) for member in whole.members])
    np.testing.assert_allclose(predict(whole, CODES), alone.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(predict_members(whole, CODES), alone, atol=1e-6)
    assert predict_members(whole, CODES[:0]).shape == (3, 0, 2)


def test_a_rescaled_ensemble_is_that_of_rescaled_members():
    whole, scale, offset = ensemble(), np.array([2.0, 0.5], np.float32), np.array([1.0, -1.0], np.float32)
    np.testing.assert_allclose(
        predict(rescale(whole, scale, offset), CODES), predict(whole, CODES) * scale + offset, atol=1e-5
    )


def test_outputs_are_split_and_joined_again():
    network = ensemble(4).members[0]
    first, second = split_outputs(network, 1)
    assert (first.num_outputs, second.num_outputs) == (1, 3)
    np.testing.assert_allclose(predict(first, CODES), predict(network, CODES)[:, :1], atol=1e-6)
    assert largest_difference(join_outputs(first, second), network) == 0.0


def test_all_filters_are_those_of_every_member():
    whole = ensemble()
    assert all_filters(whole).shape == (24, 7, 4)
    np.testing.assert_array_equal(all_filters(whole)[8:16], all_filters(whole.members[1]))


@pytest.mark.parametrize("method", [pytest.param(name, marks=pytest.mark.slow) for name in METHODS])
def test_contributions_of_an_ensemble_are_the_mean_of_its_members(method: str):
    config = ExplanationConfig(num_references=2, num_steps=2)
    whole = ensemble()
    found = attribute(whole, CODES, config, 0, method=method)
    alone = [attribute(member, CODES, config, 0, method=method) for member in whole.members]
    contributions = np.stack([one.contributions() for one in alone])
    np.testing.assert_allclose(found.contributions(), contributions.mean(axis=0), atol=1e-5)
    assert found.spread is not None
    np.testing.assert_allclose(found.spread, contributions.std(axis=0, ddof=1), atol=1e-5)
    np.testing.assert_allclose(found.logit, np.mean([one.logit for one in alone], axis=0), atol=1e-5)
    assert alone[0].spread is None


@pytest.mark.slow
def test_a_teacher_gives_the_mean_and_the_spread_of_its_members_on_the_augmented_batch():
    whole, train = ensemble(), TrainConfig(shift_bp=4, mutation_rate=0.1)
    keys, rates = jax.random.split(jax.random.key(0), 10), make_hyperparameters(train, 100, 1.0)
    codes = jnp.asarray(CODES)
    augmented = show(codes, keys, jnp.asarray(0), rates, AugmentationPlan.of(train), jnp.float32)
    assert (np.asarray(augmented) != np.asarray(one_hot(codes))).any()
    guide = teach(whole, augmented, "winograd", jnp.float32)
    members = [jax.tree.map(jnp.asarray, member) for member in whole.members]
    logits = np.stack([member(augmented, Pass(method="winograd"))[0] for member in members])
    np.testing.assert_allclose(guide.mean, logits.mean(axis=0), atol=1e-5)
    spread = np.maximum(logits.std(axis=0, ddof=1), LEAST_SPREAD)
    np.testing.assert_allclose(guide.log_spread, np.log(spread), atol=1e-4)


def test_a_network_that_agrees_with_its_teacher_has_no_loss_and_no_gradient():
    whole = ensemble()
    guide = teach(whole, one_hot(jnp.asarray(CODES)), "winograd", jnp.float32)
    outputs, weights = jnp.concatenate([guide.mean, guide.log_spread], axis=1), jnp.ones((10, 2))
    loss, gradient = jax.value_and_grad(distillation_loss_sum)(outputs, guide, weights, jnp.asarray(0.1))
    assert abs(float(loss)) < 1e-5
    assert float(jnp.abs(gradient).max()) < 1e-6
    moved = distillation_loss_sum(outputs + 1.0, guide, weights, jnp.asarray(0.1))
    assert float(moved) > 1.0
    assert float(distillation_loss_sum(outputs + 1.0, guide, 0.0 * weights, jnp.asarray(0.1))) == 0.0


def test_a_run_of_an_ensemble_holds_all_members(run: Path):
    model = load_model(run)
    assert isinstance(model.network, Ensemble)
    assert model.network.num_members == 3
    assert list(find_members(run)) == [0, 1, 2]
    facts = json.loads((run / "training.json").read_text())
    assert [member["seed"] for member in facts["ensemble"]["members"]] == [0, 1, 2]
    assert not facts["ensemble"]["side_by_side"]
    for place in find_members(run).values():
        kinds = [entry["kind"] for entry in MetricsLog(place).read()]
        assert kinds.count("validation") == 2
    last = [[entry["loss"] for entry in MetricsLog(place).read()][-1] for place in find_members(run).values()]
    assert MetricsLog(run).read()[-1]["loss"] == pytest.approx(np.mean(last))


def test_a_member_is_what_a_plain_training_with_its_seed_is(dataset: Path, run: Path, tmp_path: Path):
    config = settings(None)
    train = config.train.model_copy(update={"seed": 1, "calibrate": False})
    alone = ebox.train(dataset, tmp_path / "alone", config.model_copy(update={"train": train}))
    (entry,) = [
        one for one in json.loads((run / "training.json").read_text())["ensemble"]["members"] if one["seed"] == 1
    ]
    assert entry["best_step"] == alone.best_step
    logged = [
        [(entry["step"], entry["auroc"]) for entry in MetricsLog(place).read() if entry["kind"] == "validation"]
        for place in (tmp_path / "alone", run / MEMBERS / "1")
    ]
    assert logged[0] == logged[1]


def test_an_evaluation_tells_the_gain_over_one_member(run: Path):
    (track,) = json.loads((run / "evaluation.json").read_text())["tracks"]
    found = track["ensemble"]
    assert found["code"] == "ensemble"
    members = [member["auroc"] for member in found["members"]]
    whole = track["splits"]["test"]["metrics"]["auroc"]["value"]
    assert found["ensemble"]["auroc"] == pytest.approx(whole, abs=1e-5)
    gain = found["gain"]["auroc"]["difference"]
    assert gain["value"] == pytest.approx(whole - np.mean(members), abs=1e-5)
    assert gain["low"] < gain["value"] < gain["high"]
    table = pl.read_parquet(run / "predictions.parquet")
    assert (table["logit_spread_bound" if "logit_spread_bound" in table.columns else table.columns[-1]] > 0).any()


def test_predictions_show_the_spread_of_the_members(run: Path, dataset: Path, tmp_path: Path):
    positives = dataset.parent / "simulation" / "positives.fa"
    result = ebox.predict(run, positives, tmp_path / "scores.tsv")
    network = load_model(run).network
    assert isinstance(network, Ensemble)
    rows = (tmp_path / "scores.tsv").read_text().splitlines()
    header = rows[0].split("\t")
    assert header[-1].endswith("_logit_spread")
    data = open_dataset(dataset)
    assert result.spreads is not None
    assert result.spreads.shape == (len(rows) - 1, len(data.tracks))
    assert float(rows[1].split("\t")[-1]) == pytest.approx(float(result.spreads[0, -1]), abs=1e-5)


def test_a_report_tells_of_the_ensemble(run: Path):
    page = ebox.report(run).read_text()
    assert "The mean of 3 members gains" in page
    assert "one after another" in page


@pytest.mark.slow
def test_a_distilled_run_holds_one_network_and_its_ensemble(distilled: Path):
    model, teacher = load_model(distilled), load_teacher(distilled).network
    assert not isinstance(model.network, Ensemble)
    assert isinstance(teacher, Ensemble)
    assert model.network.num_outputs == len(model.tracks)
    assert model.spread is not None
    (track,) = json.loads((distilled / "evaluation.json").read_text())["tracks"]
    found = track["ensemble"]
    assert found["code"] == "distilled"
    kept, gain = found["distilled"]["kept"]["auprc"], found["gain"]["auprc"]["difference"]
    own = found["distilled"]["gain"]["auprc"]["difference"]["value"]
    assert (kept is None) == (gain["low"] <= 0.0)
    assert kept is None or kept == pytest.approx(own / gain["value"], abs=1e-2)


@pytest.mark.slow
def test_what_is_distilled_depends_on_no_setting_of_calibration(dataset: Path, tmp_path: Path):
    found = {}
    for name, calibration in {"rising": {}, "none": {"calibrate": False}}.items():
        values = settings(2, distil=True).model_dump(mode="json")
        values["train"] |= {"max_steps": 16, "validations": 1, "log_every_steps": 16, **calibration}
        ebox.train(dataset, tmp_path / name, make_config(values))
        found[name] = load_model(tmp_path / name).network, load_teacher(tmp_path / name).network
    weights = [network.motifs.convolution.weight for network, _ in found.values()]
    np.testing.assert_array_equal(*weights)
    # The ensemble that is kept is calibrated all the same.
    assert largest_difference(*(teacher for _, teacher in found.values())) > 0.0


@pytest.mark.slow
def test_a_distilled_network_learns_its_teacher_and_its_spread(distilled: Path, dataset: Path):
    data, model, teacher = open_dataset(dataset), load_model(distilled), load_teacher(distilled).network
    assert isinstance(teacher, Ensemble)
    assert model.spread is not None
    codes = np.asarray(data.codes[data.rows("test")])
    members = predict_members(teacher, codes)
    assert np.corrcoef(predict(model.network, codes)[:, 0], members.mean(axis=0)[:, 0])[0, 1] > 0.6


@pytest.mark.slow
def test_an_ensemble_that_is_stopped_goes_on_to_the_same_networks(dataset: Path, run: Path, tmp_path: Path):
    config = settings()
    train = config.train.model_copy(update={"checkpoint_every_steps": 8})
    config = config.model_copy(update={"train": train})

    def stop(entry: Any, num_steps: int) -> None:
        assert num_steps == 720
        if entry["step"] >= 400:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ebox.train(dataset, tmp_path / "run", config, on_entry=stop)
    assert find_checkpoints(tmp_path / "run" / MEMBERS / "0")
    ebox.train(dataset, tmp_path / "run", config, resume=True)
    assert largest_difference(load_model(tmp_path / "run").network, load_model(run).network) == 0.0
    for place in find_members(tmp_path / "run").values():
        entries = [(entry["kind"], entry["step"]) for entry in MetricsLog(place).read()]
        assert len(entries) == len(set(entries)) == 5


@pytest.mark.slow
def test_an_ensemble_that_is_killed_and_distilled_ends_as_one_left_alone(dataset: Path, tmp_path: Path):
    out, alone = tmp_path / "run", tmp_path / "alone"
    values = {f"train.{key}": value for key, value in TRAIN.items()} | {"train.checkpoint_every_steps": 8}
    values |= {f"model.{key}": value for key, value in MODEL.items()} | {"parallel.devices": 1}
    chosen = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    flags = ("--ensemble", 3, "--distil", *chosen)
    processes.run(processes.ebox("train", dataset, "--out", alone, *flags))
    command = processes.ebox("train", dataset, "--out", out, *flags)
    with processes.started(command, ends=-9) as process:
        process.wait_until(lambda: bool(find_checkpoints(out / MEMBERS / "1")))
        process.send_signal(9)
        process.finish()
    assert not (out / "model").exists()
    told = processes.run([*command, "--resume"]).output
    assert "3 members (seeds 0 to 2)" in told
    assert largest_difference(load_teacher(out).network, load_teacher(alone).network) == 0.0
    assert largest_difference(load_model(out).network, load_model(alone).network) == 0.0


def test_another_ensemble_is_not_resumed(dataset: Path, run: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(InputError, match=r"ensemble\.members = 3, not 4"):
        ebox.train(dataset, tmp_path / "run", settings(4), resume=True)
    (tmp_path / "run" / "training.json").unlink()
    with pytest.raises(InputError, match=r"ensemble\.members = 3, not None"):
        ebox.train(dataset, tmp_path / "run", settings(None), resume=True)


def test_bad_ensembles_are_refused_with_words(dataset: Path, tmp_path: Path):
    with pytest.raises(InputError, match="an ensemble of 1 is a plain training: leave members"):
        settings(1)
    with pytest.raises(InputError, match="no ensemble to distil"):
        settings(None, distil=True)
    few = settings(500)
    with pytest.raises(InputError, match=r"holds \d+ positives of .*, fewer than the ensemble's 500 members"):
        ebox.train(dataset, tmp_path / "run", few)
    assert not (tmp_path / "run").exists()
    grouped = settings().model_copy(update={"parallel": settings().parallel.model_copy(update={"processes": 2})})
    with pytest.raises(InputError, match=r"trained by one process.*\n.*--processes"):
        check_ensemble(open_dataset(dataset), grouped)


@pytest.mark.parametrize(
    "variables", [{COORDINATOR: "127.0.0.1:1", PROCESS: "0", NUM_PROCESSES: "2"}, {"PMI_SIZE": "2"}]
)
def test_a_process_of_a_group_refuses_an_ensemble_before_it_clears_the_run(
    variables: dict[str, str], dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(run, tmp_path / "run")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="one of several processes"):
        ebox.train(dataset, tmp_path / "run", settings(), overwrite=True)
    assert load_model(tmp_path / "run").network.num_members == 3


def test_a_file_of_an_ensemble_is_read_back(tmp_path: Path):
    whole, config = ensemble(), make_config({"model": MODEL})
    (tmp_path / "model").mkdir(parents=True)
    save_model(tmp_path, whole, config, ("bound", "open"), LENGTH)
    read = load_model(tmp_path)
    assert largest_difference(read.network, whole) == 0.0
    assert read.facts["num_members"] == 3
    assert read.spread is None


@pytest.fixture
def bent(tmp_path: Path) -> tuple[Path, Path]:
    """The run folder of an ensemble whose first track a map calibrates, and a file of sequences."""
    save_model(tmp_path / "run", ensemble(), make_config({"model": MODEL}), ("bound", "open"), LENGTH, KNOTS)
    rows = ("".join("ACGTN"[code] for code in row) for row in CODES)
    fasta = tmp_path / "some.fa"
    fasta.write_text("".join(f">{number}\n{row}\n" for number, row in enumerate(rows)))
    return tmp_path / "run", fasta


# Far from straight where the logits of `ensemble` lie.
MAP = RisingMap((1.0, 3.0, 8.0), (-3.0, 0.0, 1.0))
KNOTS = [MAP.facts(), None]


def test_a_calibrated_ensemble_gives_the_map_of_its_mean_logit(bent: tuple[Path, Path], tmp_path: Path):
    run, fasta = bent
    result = ebox.predict(run, fasta, tmp_path / "scores.tsv")
    members = predict_members(ensemble(), CODES)
    mean = members.mean(axis=0)
    np.testing.assert_allclose(result.probabilities[:, 0], squash(MAP.apply(mean[:, 0])), atol=1e-5)
    np.testing.assert_allclose(result.probabilities[:, 1], squash(mean[:, 1]), atol=1e-5)
    # Another thing than the mean of what the map makes of the members.
    assert np.abs(result.logits[:, 0] - MAP.apply(members[..., 0]).mean(axis=0)).max() > 1e-3
    assert result.spreads is not None
    np.testing.assert_allclose(result.spreads[:, 0], MAP.apply(members[..., 0]).std(axis=0, ddof=1), atol=1e-5)
    np.testing.assert_allclose(result.spreads[:, 1], members[..., 1].std(axis=0, ddof=1), atol=1e-5)


def test_the_spread_of_a_distilled_network_is_that_behind_its_map(tmp_path: Path):
    student, config = ensemble(4).members[0], make_config({"model": MODEL})
    save_model(tmp_path, student, config, ("bound", "open"), LENGTH, KNOTS)
    model = load_model(tmp_path)
    found = predict_model(model, CODES)
    logits, spread = predict(student, CODES)[:, :2], np.exp(predict(student, CODES)[:, 2:])
    np.testing.assert_allclose(found.logits, model.calibrate(logits), atol=1e-5)
    assert found.spread is not None
    between = MAP.apply(logits[:, 0] + spread[:, 0]) - MAP.apply(logits[:, 0] - spread[:, 0])
    np.testing.assert_allclose(found.spread[:, 0], between / 2, atol=1e-5)
    np.testing.assert_allclose(found.spread[:, 1], spread[:, 1], atol=1e-5)


def test_an_ensemble_is_no_network_to_begin_with_but_a_distilled_one_is(tmp_path: Path):
    config = make_config({"model": MODEL})
    whole, distilled = tmp_path / "whole", tmp_path / "distilled"
    for place, network in ((whole, ensemble(1)), (distilled, ensemble(2).members[0])):
        save_model(place, network, config, ("bound",), LENGTH)
        write_json(place / TRAINING, {"steps": 1})
    with pytest.raises(InputError, match=r"holds an ensemble of 3 networks.*\n.*--distil"):
        take_settings(make_config({"transfer": {"source": str(whole)}}), tmp_path / "out")
    taken = take_settings(make_config({"transfer": {"source": str(distilled)}}), tmp_path / "out")
    assert taken.model == config.model
    assert not (tmp_path / "out").exists()
