"""`ebox bench`: what is measured in which order, what is kept, what is refused; and one real bench."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ebox
import processes
from ebox.datasets.folder import open_dataset
from ebox.diagnosis import bench as measuring
from ebox.diagnosis import bench_trainings
from ebox.diagnosis.bench import find_compilation, read_parts
from ebox.diagnosis.bench_lab import Lab, Starters
from ebox.diagnosis.bench_parts import choose_rows
from ebox.diagnosis.bench_plan import (
    ExpectedTimes,
    choose_compressed,
    choose_device_ways,
    choose_groups,
    choose_lengths,
    choose_ways,
    count_part_steps,
    fit_line,
    has_bfloat16,
    interpolate,
)
from ebox.diagnosis.bench_probe import Request, measure
from ebox.diagnosis.bench_steps import measure_step
from ebox.diagnosis.bench_trainings import expect_training, read_learning, train_whole
from ebox.diagnosis.bench_work import Identity, Work, find_work_file
from ebox.diagnosis.parity import SETTINGS, make_dataset
from ebox.errors import InputError
from ebox.planning.prediction import Way
from ebox.planning.profiles import Learning, Profile, read_profile, write_profile
from ebox.progress import quiet
from ebox.settings.reading import Config, TrainConfig, format_config, make_config, read_config, write_config
from ebox.storage.stamps import BENCH, stamped
from ebox.verbs.bench_worker import make_validate
from ebox.workers.machine import describe_environment
from measured import step as make_step
from test_planning_comparison import make_learning, make_profile


def test_the_batch_of_the_settings_is_measured_first_and_none_exceeds_an_epoch():
    assert [way.batch_size for way in choose_ways(64, 40_000, "float32", "cpu") if way.precision == "float32"] == [
        64,
        16,
        256,
        1024,
    ]
    assert [way.batch_size for way in choose_ways(64, 200, "float32", "tpu")][:3] == [64, 16, 200]
    assert choose_ways(1, 9, "bfloat16", "cpu")[0].batch_size == 1


def test_both_precisions_are_measured_where_a_device_computes_in_both():
    ways = choose_ways(64, 40_000, "bfloat16", "cuda")
    assert [way.precision for way in ways] == ["bfloat16"] * 4 + ["float32"] * 4


@pytest.mark.parametrize(
    ("flags", "has"), [("fma avx2", False), ("avx512_bf16 amx_bf16", True), ("avx512_bf16x", False)]
)
def test_a_processor_says_whether_it_computes_in_bfloat16(tmp_path: Path, flags: str, has: bool):
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    assert has_bfloat16(tmp_path / "cpuinfo") is has
    assert not has_bfloat16(tmp_path / "absent")


def test_several_devices_share_a_batch_and_grow_it_up_to_all_of_them():
    ways = choose_device_ways(64, 6, "bfloat16", "int8")
    assert [(way.workers, way.batch_size) for way in ways if way.exchange == "exact"] == [
        (2, 64),
        (2, 128),
        (4, 64),
        (4, 256),
        (6, 64),
        (6, 384),
    ]
    assert [way for way in ways if way.exchange != "exact"] == [Way(6, 384, "bfloat16", "int8")]
    assert choose_device_ways(64, 1, "bfloat16", "int8") == []


def test_groups_of_a_processor_are_two_and_the_most():
    assert [choose_groups(cores) for cores in (1, 2, 3, 6, 16, 96)] == [[], [2], [2], [2, 4], [2, 8], [2, 8]]
    assert (choose_compressed("exact"), choose_compressed("topk")) == ("int8", "topk")


def test_a_line_is_found_through_counts_and_nothing_where_there_is_none():
    assert fit_line([(16, 1016.0), (64, 1064.0), (256, 1256.0)]) == (pytest.approx(1000.0), pytest.approx(1.0))
    assert fit_line([(16, None), (64, 5.0)]) is None
    fixed, slope = fit_line([(16, 10.0), (64, 50.0)]) or (1.0, 1.0)
    assert (fixed, slope > 0.0) == (0.0, True)


def test_a_step_between_measured_batches_is_on_the_line_between_them():
    points = [(64, 0.02), (16, 0.008), (256, 0.07)]
    assert interpolate(points, 40) == pytest.approx(0.014)
    assert interpolate(points, 64) == pytest.approx(0.02)
    assert interpolate(points, 8) == pytest.approx(0.006)
    assert interpolate(points, 448) == pytest.approx(0.12)
    assert interpolate([(64, 0.02)], 32) == pytest.approx(0.01)


def test_whole_trainings_are_made_where_two_fit_into_five_minutes_and_else_shorter_ones():
    def choose(whole: float) -> list[float]:
        return choose_lengths(lambda length: 10.0 + length * whole, 130.0)

    assert [choose(whole) for whole in (3.0, 60.0)] == [[1.0] * 3, [1.0] * 2]
    assert [choose(whole) for whole in (150.0, 300.0, 700.0)] == [[0.5, 0.25], [0.25, 0.125], [0.125, 0.0625]]
    # However long they take, there are two.
    assert choose(1e6) == [0.125, 0.0625]


class Trained:
    """Stands for trainings of a bench."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seeds: list[int] = []
        self.steps: list[int | None] = []
        self.failing: int | None = None
        monkeypatch.setattr(bench_trainings, "_train", self._train)

    def _train(self, lab: Lab, train: TrainConfig, reach: object) -> Learning:
        if train.seed == self.failing:
            raise KeyboardInterrupt
        self.seeds.append(train.seed)
        self.steps.append(train.max_steps)
        made = bench_trainings.count_steps(lab) if train.max_steps is None else train.max_steps
        return make_learning(train.seed, 10.0, 0.9).model_copy(update={"num_steps": made})


def make_lab(folder: Path, facts: dict[str, Any]) -> Lab:
    """A bench that starts no process."""
    starters = Starters(lambda task: [], lambda request: [])
    return Lab(starters, folder, Config(), Work(facts, None), ExpectedTimes(quiet), folder)


def test_an_interrupted_bench_goes_on_to_the_seeds_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained, facts = Trained(monkeypatch), make_whole().model_dump(mode="json")
    trained.failing = 1
    with pytest.raises(KeyboardInterrupt):
        train_whole(make_lab(tmp_path, facts), 3)
    trained.failing = None
    train_whole(make_lab(tmp_path, facts), None)
    assert trained.seeds == [0, 1, 2]
    # To a whole profile none is added unless that is asked for.
    facts.pop("trainings")
    train_whole(make_lab(tmp_path, facts), None)
    train_whole(make_lab(tmp_path, facts), 4)
    assert trained.seeds == [0, 1, 2, 3]


def test_shorter_trainings_have_other_seeds_and_a_whole_one_is_added_for_the_learning_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trained, facts = Trained(monkeypatch), {**make_whole().model_dump(mode="json"), "learning": []}
    train_whole(make_lab(tmp_path, facts), None)
    # 12 epochs of 329 steps would take 90 s, three times in five minutes.
    assert (trained.seeds, trained.steps) == ([0, 1, 2], [None] * 3)
    facts = {**make_whole().model_dump(mode="json"), "learning": []}
    facts["validation_seconds"]["median"] = 20.0
    train_whole(make_lab(tmp_path, facts), None)
    assert (trained.seeds[3:], trained.steps[3:]) == ([0, 1], [1974, 987])
    # To a whole profile nothing is added, but for trainings on parts of the data, which are compared with a whole one.
    facts.pop("trainings")
    train_whole(make_lab(tmp_path, facts), None)
    train_whole(make_lab(tmp_path, facts), None, whole=True)
    train_whole(make_lab(tmp_path, facts), None, whole=True)
    assert (trained.seeds[5:], trained.steps[5:]) == ([0], [None])


def test_a_training_is_expected_to_take_its_steps_its_validations_and_its_start(tmp_path: Path):
    lab = make_lab(tmp_path, make_whole().model_dump(mode="json"))
    # 12 epochs of 329 steps; start-up, compilation and 6 validations beside them.
    assert expect_training(lab, 12 * 329) == pytest.approx(12 * 329 * 0.016 + 3.0 + 15.0 + 7 * 1.5)


def test_compilation_is_what_the_first_dispatch_and_validation_take_longer():
    assert find_compilation([9.0, 1.0, 1.5], 5.0, 2.0) == pytest.approx(8.0 + 3.0)
    assert find_compilation([0.9, 1.0, 1.5], 1.9, 2.0) == 0.0


def test_steps_on_a_part_fall_with_the_root_of_its_size():
    assert [count_part_steps(8000, share) for share in (1.0, 0.25, 0.0625)] == [8000, 4000, 2000]
    assert count_part_steps(1, 0.125) == 1


def test_parts_of_the_data_lie_inside_each_other_with_positives_in_proportion():
    targets = np.repeat(np.array([[1], [0], [0], [255]], np.uint8), 100, axis=0)
    parts = [choose_rows(targets, share, seed=7) for share in (0.125, 0.25, 0.5, 1.0)]
    assert [int((targets[rows] == 1).sum()) for rows in parts] == [13, 25, 50, 100]
    assert [len(rows) for rows in parts] == [51, 100, 200, 400]
    for small, large in pairwise(parts):
        assert set(small) < set(large)
    assert (choose_rows(targets, 0.25, seed=8) != parts[1]).any()


def test_times_of_a_training_count_from_the_start_of_the_program(tmp_path: Path):
    write_config(make_config({"train": {"batch_size": 32}}), tmp_path / "config.toml")
    entries = [
        {"kind": "train", "step": 10, "seconds": 3.0},
        {"kind": "validation", "step": 20, "seconds": 4.0, "auroc": 0.8},
        {"kind": "validation", "step": 40, "seconds": 9.0, "auroc": 0.9},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (tmp_path / "training.json").write_text(json.dumps({"seconds": 10.0, "steps": 40}))
    ended = time.time()
    os.utime(tmp_path / "training.json", (ended, ended))
    found = read_learning(tmp_path, ended - 12.5, 13.0, 5, 999)
    assert [(point.step, round(point.seconds, 3), point.auroc) for point in found.points] == [
        (20, 6.5, 0.8),
        (40, 11.5, 0.9),
    ]
    assert (found.seed, found.batch_size, found.num_steps, found.num_examples, found.seconds) == (5, 32, 40, 999, 13.0)


def test_progress_rises_to_the_whole_whatever_parts_take():
    told: list[tuple[int, int]] = []
    times = ExpectedTimes(lambda phrase, done, total: told.append((done, total)))
    times.expect(["start", "steps", "learning"])
    for part in ("start", "steps", "learning"):
        times.begin(part)
        if part == "learning":
            times.expect((), learning=300.0)
            times.reach(0.5)
        times.end(part)
    shares = [done / total for done, total in told if total == told[-1][1]]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_words_that_are_no_parts_are_refused_with_the_nearest():
    assert read_parts("learning, steps") == ("steps", "learning")
    with pytest.raises(InputError, match=r"'step' is no part.*'steps'"):
        read_parts("step")
    with pytest.raises(InputError, match="'' is no part"):
        read_parts("")


IDENTITY = Identity.of(Config(), "d" * 64)


def test_what_was_measured_is_there_again_and_gone_when_the_profile_is_whole(tmp_path: Path):
    out = tmp_path / "here.json"
    work = Work.open(out, IDENTITY, resume=False, overwrite=False)
    work.keep(network_link="none")
    work.add("steps", {"batch_size": 64})
    assert [path.name for path in tmp_path.iterdir()] == [".here.json.part"]
    again = Work.open(out, IDENTITY, resume=True, overwrite=False)
    assert again.facts == work.facts
    again.clear()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_bench_is_not_begun_again_unless_that_is_asked_for(tmp_path: Path):
    out = tmp_path / "here.json"
    Work.open(out, IDENTITY, resume=False, overwrite=False).keep(network_link="none")
    with pytest.raises(InputError, match=r"(?s)interrupted.*--resume.*--overwrite"):
        Work.open(out, IDENTITY, resume=False, overwrite=False)
    assert "network_link" not in Work.open(out, IDENTITY, resume=False, overwrite=True).facts


def test_a_bench_goes_on_only_with_the_same_data_and_settings(tmp_path: Path):
    out = tmp_path / "here.json"
    Work.open(out, IDENTITY, resume=False, overwrite=False).keep(network_link="none")
    other = Identity.of(make_config({"model": {"num_filters": 64}, "train": {"epochs": 3}}), "e" * 64)
    with pytest.raises(InputError, match=r"dataset, network, model.num_filters, train.epochs") as found:
        Work.open(out, other, resume=True, overwrite=False)
    assert found.value.file == str(find_work_file(out))


def make_whole(**more: Any) -> Profile:
    """A profile of the default settings."""
    subject = {"network": IDENTITY.network, "dataset": IDENTITY.dataset}
    return make_profile(settings=Config().model_dump(mode="json"), subject=subject, **more)


def test_a_finished_profile_can_be_added_to(tmp_path: Path):
    out, whole = tmp_path / "here.json", make_whole()
    write_profile(whole, out)
    work = Work.open(out, IDENTITY, resume=True, overwrite=False)
    assert work.steps() == list(whole.steps)
    assert work.finish("here") == whole
    with pytest.raises(InputError, match=r"train\.epochs") as found:
        Work.open(out, Identity.of(make_config({"train": {"epochs": 3}}), "d" * 64), resume=True, overwrite=False)
    assert found.value.file == str(out)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cpu": "Another One"}, "cpu Another One against"),
        ({"num_cores": 999}, "num_cores 999 against"),
        ({"packages": {"jax": "0.0.1"}}, "jax 0.0.1 against"),
    ],
)
def test_a_bench_does_not_go_on_with_what_another_machine_or_another_jax_measured(
    tmp_path: Path, change: dict[str, Any], said: str
):
    here = describe_environment([], [])
    out = tmp_path / "gpu.json"
    write_profile(make_whole(environment={key: here[key] for key in ("cpu", "num_cores", "packages")}), out)
    Work.open(out, IDENTITY, resume=True, overwrite=False)
    write_profile(make_whole(environment={**here, **change}), out, overwrite=True)
    with pytest.raises(InputError, match=said) as found:
        Work.open(out, IDENTITY, resume=True, overwrite=False)
    assert found.value.file == str(out)
    assert "--overwrite" in str(found.value.remedy)


class Played:
    """Stands for the processes of a bench: answers at once, and can be interrupted before a kind."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.interrupt: str | None = None
        for name in ("measure_exchange", "train_whole", "train_parts", "measure_steps", "_measure_start"):
            monkeypatch.setattr(measuring, name, lambda lab, *rest, name=name, **more: self._act(name, lab))
        monkeypatch.setattr(measuring.Lab, "probe", lambda lab, kind, take, **facts: self._act(kind, lab))

    def _act(self, name: str, lab: Any) -> None:
        if name == self.interrupt:
            raise KeyboardInterrupt
        if name in ("measure_steps", "_measure_start") and "start_seconds" in lab.work.facts:
            return
        self.asked.append(name)
        if name == "_measure_start":
            facts = make_whole().model_dump(mode="json", exclude={"created", "name"})
            facts["subject"]["dataset"] = lab.work.facts["identity"]["dataset"]
            lab.work.keep(**facts)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make_dataset(tmp_path)


def test_an_interrupted_bench_loses_no_finished_part(tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch):
    played, out = Played(monkeypatch), tmp_path / "bench" / "here.json"
    out.parent.mkdir()
    played.interrupt = "ceilings"
    with pytest.raises(KeyboardInterrupt):
        ebox.bench(dataset, out)
    assert played.asked == ["_measure_start", "measure_exchange"]
    assert [path.name for path in out.parent.iterdir()] == [".here.json.part"]
    played.interrupt, played.asked = None, []
    result = ebox.bench(dataset, out, resume=True, curve=True)
    assert played.asked == ["measure_exchange", "ceilings", "train_whole", "train_parts"]
    assert [path.name for path in out.parent.iterdir()] == ["here.json"]
    assert read_profile(out).steps == result.profile.steps


def test_only_some_parts_are_measured_beside_those_that_every_profile_has(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    played = Played(monkeypatch)
    result = ebox.bench(dataset, tmp_path / "here.json", only="ceilings", name="my machine")
    assert played.asked == ["_measure_start", "ceilings"]
    assert result.profile.name == "my machine"
    played.asked = []
    again = ebox.bench(dataset, tmp_path / "here.json", only="learning", resume=True)
    assert played.asked == ["train_whole"]
    assert again.profile.name == "my machine"


def test_a_profile_goes_to_a_pipe_without_a_file_beside_it(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    Played(monkeypatch)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        ebox.bench(dataset, pipe, only="steps")
        facts = json.loads(os.read(reader, 1 << 20))
    finally:
        os.close(reader)
    assert facts["format"] == BENCH.name
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "no --out is given"),
        ({"out": "r.json", "seeds": 0}, "from 1 on"),
        ({"out": "r.json", "seeds": -2}, "from 1 on"),
        ({"out": "r.json", "only": "steps", "seeds": 2}, "add it to --only"),
        ({"out": "r.json", "only": "step"}, "did you mean 'steps'"),
        ({"out": "r.json", "price": ["here=1"]}, "leave --price out"),
        ({"out": "r.json", "config": {"parallel": {"cluster": "local", "workers": 2}}}, "Ray cluster"),
        ({"out": "r.json", "config": {"parallel": {"processes": 2}}}, "leave parallel.processes out"),
        ({"out": "here"}, "folder"),
        ({"out": "old.json"}, "--overwrite"),
        ({"out": "r.json.zip"}, "gzip"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], problem: str
):
    monkeypatch.chdir(tmp_path)
    played = Played(monkeypatch)
    (tmp_path / "here").mkdir()
    (tmp_path / "old.json").write_text("{}")
    if "config" in options:
        options = {**options, "config": make_config(options["config"])}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=problem):
        ebox.bench("absent", **options)
    assert played.asked == []
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_dataset_the_error_says_both_uses(tmp_path: Path):
    with pytest.raises(InputError, match=r"(?s)no dataset.*--compare A.json --compare B.json"):
        ebox.bench(out=tmp_path / "here.json")
    with pytest.raises(InputError, match="no such dataset"):
        ebox.bench(tmp_path / "absent", tmp_path / "here.json")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_profile_is_not_added_to(tmp_path: Path, dataset: Path):
    (tmp_path / "here.json").write_text('{"steps": []}')
    with pytest.raises(InputError, match="ebox-bench"):
        ebox.bench(dataset, tmp_path / "here.json", resume=True)
    assert (tmp_path / "here.json").read_text() == '{"steps": []}'


def test_every_fact_of_a_profile_is_in_the_page_of_formats():
    text = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    told = text.split("### A profile")[1].split("\n### ")[0].split("\n## ")[0]
    facts = make_profile(steps=(make_step(1, 64, 0.016),)).model_dump(mode="json")
    nested = [*facts["device"], *facts["subject"], *facts["steps"][0], *facts["energy"], *facts["start_seconds"]]
    for key in (*(set(facts) - set(stamped(BENCH, {}))), *nested):
        assert f"`{key}`" in told, key


SMALL = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]


@pytest.mark.slow
def test_steps_of_devices_and_a_training_on_a_part_are_measured_in_this_process(tmp_path: Path):
    config = read_config(overrides=[f"{key}={value}" for key, value in SETTINGS.items()])
    place = make_dataset(tmp_path)
    data = open_dataset(place)
    both = measure_step(data, config, Way(2, 30, "float32", "int8"), None, rate=1.0)
    assert both.step.messages >= 1
    assert both.step.message_bytes > 0.0
    assert both.flops is not None
    assert both.step.input_seconds is not None
    assert both.step.watts is None
    told: list[dict[str, Any]] = []
    request = Request("part", str(place), format_config(config), time.time(), {"share": 0.5})
    measure(request, lambda kind, **facts: told.append({"kind": kind, **facts}), make_validate)
    assert told[-1]["kind"] == "result"
    found = Learning.model_validate(told[-1]["facts"])
    assert (found.num_examples, found.num_steps) == (102, 35)
    assert found.points[-1].step == 35
    assert {message["kind"] for message in told} == {"entry", "result"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_bench_that_is_killed_goes_on_to_a_whole_profile(tmp_path: Path):
    dataset, out = make_dataset(tmp_path), tmp_path / "here.json"
    words = processes.ebox("bench", dataset, "--out", out, "--only", "learning", "--seeds", 1, *SMALL)
    with processes.started(words, ends=-9) as bench:
        bench.wait_until(lambda: find_work_file(out).is_file(), 300.0)
        bench.process.kill()
    assert not out.exists()
    begun = json.loads(find_work_file(out).read_text())
    processes.run([*words, "--resume"], seconds=300.0)
    profile = read_profile(out)
    # What was measured before the kill is kept as it was.
    assert profile.start_seconds.model_dump() == begun["start_seconds"]
    assert profile.subject.flops_an_example is not None
    assert {step.batch_size for step in profile.steps if step.workers == 1} >= {30, 120}
    assert [training.seed for training in profile.learning] == [3]
    assert 0.0 < profile.learning[0].points[-1].seconds <= profile.learning[0].seconds
    assert profile.compile_seconds.median > 0.0
    assert not find_work_file(out).exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two cores")
def test_groups_of_workers_are_added_to_a_profile(tmp_path: Path):
    dataset, out = make_dataset(tmp_path), tmp_path / "here.json"
    config = read_config(overrides=[f"{key}={value}" for key, value in SETTINGS.items()])
    identity = Identity.of(config, open_dataset(dataset).fingerprint)
    subject = {"dataset": identity.dataset, "network": identity.network, "examples_an_epoch": 203}
    steps = tuple(make_step(1, batch, 0.001) for batch in (30, 8, 120, 203))
    begun = make_profile(settings=config.model_dump(mode="json"), subject=subject, steps=steps)
    write_profile(begun, out)
    words = processes.ebox("bench", dataset, "--out", out, "--only", "exchange", "--resume", *SMALL)
    done = processes.run(words, seconds=600.0)
    assert "int8" in done.stdout
    assert read_profile(out).start_seconds == begun.start_seconds
    together = [step for step in read_profile(out).steps if step.workers > 1]
    assert {(step.workers, step.exchange) for step in together} >= {(2, "exact"), (2, "int8")}
    for step in together:
        assert 0.0 <= step.exchange_seconds < step.seconds.median
        assert step.messages >= 1
    exact, int8 = (next(step for step in together if step.exchange == name) for name in ("exact", "int8"))
    assert int8.message_bytes < exact.message_bytes
