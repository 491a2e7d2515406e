"""Predicted against measured: steps and whole trainings over shaped links, from steps and trainings of one machine.

    sudo python benchmarks/prediction.py [--quick]
    python benchmarks/prediction.py --kept

Two workers have a core each, and meet over links of their own in network namespaces (Linux, root, iproute2). Fitted are
steps with free links, of one and of two workers with two batches and two exchanges, and whole trainings of one worker
with one batch. Predicted are settings that the fit did not see: two other batches, one and two workers, both exchanges,
links of 1 Gbit/s and 100 Mbit/s; and of some of them the time to validation AUROCs. The measured time to one is found
between whole trainings of two lengths, each with its own schedule: where the line through the logarithms of their
errors crosses it, so it has to lie between theirs. With one worker the other core trains, too, as in a group. The GPU
figures that were kept are predicted from each other, and beside all stands what the bare roofline says. Writes
results/prediction.json with all that was measured; --kept predicts that again, and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from ebox.datasets.build import build_dataset
from ebox.datasets.folder import open_dataset
from ebox.datasets.sources import DatasetSources
from ebox.diagnosis.growth import describe_case
from ebox.planning.machine_model import MeasuredMachine
from ebox.planning.prediction import Link, Way, predict_step, roofline_of
from ebox.planning.profiles import (
    Device,
    Energy,
    Learning,
    Point,
    Profile,
    Spread,
    Step,
    Subject,
    fingerprint_network,
)
from ebox.planning.reference import read_reference
from ebox.planning.steps_to_target import StepsModel
from ebox.settings.reading import make_config, read_config
from ebox.workers.contract import Membership
from machine import describe_machine, find_data, keep
from network import entries_of
from scaling import RATES, SPACE, address, network, shape_links

WORKERS, PORT = 2, 12490
GROUPS = "train.batch_statistics='group'"
# The batches that are fitted to, and those that are predicted.
FITTED, PREDICTED = (32, 128), (64, 256)
EXCHANGES = ("exact", "int8")
LINKS = ("1gbit", "100mbit")
EXAMPLES, SKIPPED = 9_216, 2
# Whole trainings: the batch and the seeds that are fitted to, and the epochs of a short and of a long training.
LEARNED_BATCH, SEEDS, EPOCHS = 64, (0, 1, 2), (2.0, 5.0)
VALIDATIONS = 6
# All trainings of 2 epochs ended below these, all of 5 above.
TARGETS = (0.942, 0.946, 0.950)


@dataclass(frozen=True)
class Setting:
    """One way to train: workers, global batch, exchange, and the rate of the links; None: free."""

    workers: int
    batch_size: int
    exchange: str = "exact"
    rate: str | None = None

    @property
    def name(self) -> str:
        """As printed."""
        return f"{self.workers} x {self.batch_size} {self.exchange} {self.rate or 'free'}"

    @property
    def way(self) -> Way:
        """The same for the prediction."""
        link = None if self.rate is None or self.workers == 1 else Link(RATES[self.rate], 0.0, "ring")
        return Way(self.workers, self.batch_size, "float32", self.exchange, link=link)


NAMES = tuple(field.name for field in fields(Setting))


def train(dataset: Path, folder: Path, setting: Setting, overrides: Sequence[str]) -> Path:
    """Train on both cores, as one group or as single workers beside each other; the run folder of the first."""
    place = Path(tempfile.mkdtemp(dir=folder))
    cores = sorted(os.sched_getaffinity(0))[:WORKERS]
    chosen = [
        f"train.batch_size={setting.batch_size}",
        f"parallel.exchange='{setting.exchange}'",
        GROUPS,
        "train.rate_scaling='sqrt'",
        *overrides,
    ]
    with ExitStack() as stack:
        workers = []
        for number, core in enumerate(cores):
            group, rank = divmod(number, setting.workers)
            out = place / str(group)
            member = Membership(f"{address(group * setting.workers)}:{PORT + group}", rank, setting.workers)
            environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"), "JAX_PLATFORMS": "cpu"}
            environment |= member.variables() if setting.workers > 1 else {}
            program = [sys.executable, "-m", "ebox", "train", str(dataset), "--out", str(out)]
            words = [word for one in chosen for word in ("--set", one)]
            inside = ["ip", "netns", "exec", f"{SPACE}{number}", "taskset", "-c", str(core), *program, *words]
            log = stack.enter_context((place / f"{number}.log").open("wb"))
            workers.append(subprocess.Popen(inside, env=environment, stdout=log, stderr=log))
        try:
            codes = [worker.wait() for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    if any(codes):
        raise SystemExit(f"codes {codes}: {(place / '0.log').read_text()[-2000:]}")
    return place / "0"


def time_step(dataset: Path, folder: Path, setting: Setting) -> Step:
    """The median step of a short training, and what it exchanged."""
    steps = max(96, EXAMPLES // setting.batch_size // 16 * 16)
    length = [f"train.max_steps={steps}", "train.validations=1", "train.log_every_steps=16", "train.calibrate=false"]
    run = train(dataset, folder, setting, [*length, "train.checkpoint_every_seconds=1000"])
    rates = [entry["sequences_per_second"] for entry in entries_of(run, "train")][SKIPPED:]
    facts = json.loads((run / "training.json").read_text())["communication"]
    case = describe_case(facts, setting.workers, math.ceil(setting.batch_size / setting.workers))
    return Step(
        workers=setting.workers,
        batch_size=setting.batch_size,
        precision="float32",
        exchange=setting.exchange if setting.workers > 1 else "exact",
        sync="every-step",
        seconds=Spread.of([setting.batch_size / rate for rate in rates]),
        input_seconds=None,
        exchange_seconds=0.0,
        messages=case.messages if setting.workers > 1 else 0,
        message_bytes=float(case.message_bytes),
        memory_bytes=None,
        watts=None,
    )


def learn(dataset: Path, folder: Path, setting: Setting, epochs: float, seed: int = 0) -> dict[str, Any]:
    """A whole training, and the seconds of its compilation and of a validation."""
    run = train(
        dataset, folder, setting, [f"train.epochs={epochs}", f"train.seed={seed}", f"train.validations={VALIDATIONS}"]
    )
    return read_training(run, setting, seed, open_dataset(dataset).rows("train").stop)


def read_training(run: Path, setting: Setting, seed: int, num_examples: int) -> dict[str, Any]:
    """A finished training: how it learned, and the seconds of its compilation and of a validation."""
    seen = entries_of(run, "validation")
    points = [Point(step=one["step"], seconds=one["seconds"], auroc=one["auroc"]) for one in seen]
    rates = [entry["sequences_per_second"] for entry in entries_of(run, "train")][SKIPPED:]
    step = setting.batch_size * statistics.median(1.0 / rate for rate in rates)
    made = Learning(
        seed=seed,
        batch_size=setting.batch_size,
        num_examples=num_examples,
        num_steps=points[-1].step,
        seconds=points[-1].seconds,
        points=tuple(points),
    )
    between = [late.seconds - early.seconds - step * (late.step - early.step) for early, late in pairwise(points)]
    validation = max(0.0, statistics.median(between))
    compilation = points[-1].seconds - step * points[-1].step - VALIDATIONS * validation
    return {"learning": made.model_dump(mode="json"), "compilation": compilation, "validation": validation}


def make_profile(steps: Sequence[Step], learned: Sequence[Learning], dataset: Path) -> Profile:
    """What was measured with free links, in the form of a profile."""
    config, data = read_config(overrides=[GROUPS, "train.rate_scaling='sqrt'"]), open_dataset(dataset)
    return Profile(
        name="free",
        created="",
        device=Device(
            name="core",
            platform="cpu",
            count=WORKERS,
            hardware=None,
            memory_bytes=None,
            driver=None,
            num_cores=1,
            host_memory_bytes=None,
        ),
        environment={},
        network_link="namespaces",
        subject=Subject(
            network=fingerprint_network(config.model),
            dataset=data.fingerprint,
            num_parameters=198_337,
            length_bp=data.length_bp,
            num_tracks=1,
            num_train=data.rows("train").stop,
            examples_an_epoch=None,
            flops_an_example=None,
            bytes_an_example=None,
            fixed_bytes=None,
            gradient_bytes=4 * 198_337,
        ),
        settings=config.model_dump(mode="json"),
        start_seconds=None,
        compile_seconds=None,
        cached_compile_seconds=None,
        validation_seconds=None,
        checkpoint_seconds=None,
        checkpoint_bytes=None,
        steps=tuple(steps),
        ceilings=None,
        energy=Energy(source=None, covers=None, idle_watts=None),
        learning=tuple(learned),
    )


def compare(name: str, predicted: float, measured: float) -> dict[str, Any]:
    """Both, and the error of the prediction."""
    row = {"setting": name, "predicted": predicted, "measured": measured, "error": predicted / measured - 1.0}
    print(f"{name:<28} predicted {predicted:9.4g} s, measured {measured:9.4g} s: {row['error']:+.1%}", flush=True)
    return row


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The errors by their size."""
    sizes = [abs(row["error"]) for row in rows]
    return {"median_error": statistics.median(sizes), "worst_error": max(sizes), "rows": list(rows)}


def list_unseen() -> list[Setting]:
    """The settings whose steps are predicted."""
    one = [Setting(1, batch) for batch in PREDICTED]
    return one + [Setting(2, batch, form, rate) for batch in PREDICTED for form in EXCHANGES for rate in LINKS]


def cross(trainings: Sequence[Learning], target: float) -> float:
    """The steps at which the line through the logarithms of the last errors crosses the target."""
    (first, short), (second, long) = [
        (math.log(1.0 - one.points[-1].auroc), math.log(one.num_steps)) for one in trainings
    ]
    share = (math.log(1.0 - target) - first) / (second - first)
    return math.exp(short + share * (long - short))


def predict_gpu() -> list[dict[str, Any]]:
    """Each kept step of the GPU from the others, and the bare roofline."""
    profile, rows = read_reference(), []
    for step in profile.steps:
        others = profile.model_copy(update={"steps": tuple(one for one in profile.steps if one is not step)})
        way = Way(1, step.batch_size, step.precision)
        found = predict_step(MeasuredMachine(others), way).seconds.value
        roofline = roofline_of(MeasuredMachine(others), way)
        row = compare(f"GPU {step.precision} {step.batch_size}", found, step.seconds.median)
        rows.append({**row, "roofline_times_too_fast": None if roofline is None else step.seconds.median / roofline})
    return rows


def main() -> None:
    """Measure what is fitted and what is predicted, predict, print, keep."""
    parser = argparse.ArgumentParser(description="Predicted against measured times")
    parser.add_argument("--quick", action="store_true", help="two unseen steps and one training to an AUROC")
    parser.add_argument("--kept", action="store_true", help="predict again what was measured; needs no root")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    kept = Path(__file__).parent / "results" / "prediction.json"
    measured = json.loads(kept.read_text())["measured"] if options.kept else measure(quick=options.quick)
    if not options.kept:
        # An hour of measurement is not lost to what comes after it.
        keep("prediction", {"measured": measured})
    found = {"gpu": summarise(predict_gpu()), **predict_all(measured)}
    for name, facts in found.items():
        print(f"{name}: median error {facts['median_error']:.1%}, worst {facts['worst_error']:.1%}")
    if not options.kept:
        keep("prediction", {**found, "measured": measured})


def measure(*, quick: bool) -> dict[str, Any]:
    """Steps and whole trainings: those that are fitted, and those that are predicted."""
    data = find_data() / "tal1"
    unseen = list_unseen()[:: 5 if quick else 1]
    timed = [Setting(1, 256), Setting(2, 64, "exact", "1gbit"), Setting(2, 256, "int8", "100mbit")]
    timed += [Setting(2, 64, "int8", "100mbit"), Setting(2, 256, "exact", "1gbit")]
    with tempfile.TemporaryDirectory(prefix="ebox-prediction-") as temporary, network(WORKERS):
        folder = Path(temporary)
        (folder / "cache").mkdir()
        files = {"positives": data / "bound.fa.gz", "negatives": (data / "unbound_matched.fa.gz",)}
        build_dataset(make_config({}).data, folder / "dataset", DatasetSources(**files))
        dataset = folder / "dataset"
        fitted = [Setting(1, batch) for batch in FITTED]
        fitted += [Setting(2, batch, form) for batch in FITTED for form in EXCHANGES]
        steps = [time_step(dataset, folder, one) for one in fitted]
        seeds = SEEDS[:1] if quick else SEEDS
        alone = Setting(1, LEARNED_BATCH)
        learned = [learn(dataset, folder, alone, epochs, seed) for seed in seeds for epochs in EPOCHS]
        profile = make_profile(steps, [Learning.model_validate(one["learning"]) for one in learned], dataset)
        found = [{**asdict(one), "seconds": measure_at(dataset, folder, one).seconds.median} for one in unseen]
        trainings = []
        for one in timed[:1] if quick else timed:
            set_links(one)
            made = [learn(dataset, folder, one, epochs)["learning"] for epochs in EPOCHS]
            trainings.append({**asdict(one), "learning": made})
    return {
        "profile": profile.model_dump(mode="json"),
        **{name: statistics.median(one[name] for one in learned) for name in ("compilation", "validation")},
        "steps": found,
        "trainings": trainings,
    }


def measure_at(dataset: Path, folder: Path, setting: Setting) -> Step:
    """The step over links of the rate of a setting."""
    set_links(setting)
    return time_step(dataset, folder, setting)


def set_links(setting: Setting) -> None:
    """Shape the links; `10gbit` is free for what these workers send."""
    shape_links(setting.rate or "10gbit", WORKERS)


def predict_all(measured: dict[str, Any]) -> dict[str, Any]:
    """Predict what was measured, from the profile alone."""
    machine = MeasuredMachine(Profile.model_validate(measured["profile"]))
    model = StepsModel.of(machine.profile)
    assert model is not None
    steps = []
    for facts in measured["steps"]:
        one = Setting(**{name: facts[name] for name in NAMES})
        steps.append(compare(one.name, predict_step(machine, one.way).seconds.value, facts["seconds"]))
    whole = [
        compare_whole(facts, target, machine, model, measured) for facts in measured["trainings"] for target in TARGETS
    ]
    return {"steps": summarise(steps), "time_to_auroc": summarise(whole)}


def compare_whole(
    facts: dict[str, Any], target: float, machine: MeasuredMachine, model: StepsModel, measured: dict[str, Any]
) -> dict[str, Any]:
    """The time of the training that ends at a target."""
    setting = Setting(**{name: facts[name] for name in NAMES})
    short, long = (Learning.model_validate(one) for one in facts["learning"])
    if not short.points[-1].auroc < target < long.points[-1].auroc:
        raise SystemExit(f"{target} is not between the AUROCs of {setting.name}: choose other TARGETS")
    steps = model.steps(target, setting.batch_size, exchange=setting.exchange)
    if steps is None:
        raise SystemExit(f"the target {target} is out of reach of what was learned")
    predicted = steps.value * predict_step(machine, setting.way).seconds.value
    # Workers, each with a core of its own, divide a validation.
    predicted += measured["compilation"] + VALIDATIONS * measured["validation"] / setting.workers
    needed = cross([short, long], target)
    share = (needed - short.num_steps) / (long.num_steps - short.num_steps)
    seconds = short.seconds + share * (long.seconds - short.seconds)
    row = compare(f"{setting.name} {target}", predicted, seconds)
    return {**row, "predicted_steps": steps.facts(), "measured_steps": needed}


if __name__ == "__main__":
    main()
