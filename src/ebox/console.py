"""What the terminal shows: bars on a terminal, plain lines elsewhere. The one place that prints."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

    from ebox.diagnosis import DoctorResult
    from ebox.parity import ParityResult
    from ebox.planning import TopologyResult
    from ebox.prediction import PredictionResult
    from ebox.preflight import PreflightResult
    from ebox.scaling import GrowthResult
    from ebox.sequences.ceiling import CeilingResult
    from ebox.training import TrainingResult

QUIET_SECONDS = 5.0


def say(text: str) -> None:
    """Print a line of the result to standard output."""
    _write(sys.stdout, text)


def note(text: str) -> None:
    """Print a line beside the result, to standard error."""
    _write(sys.stderr, text)


def _write(stream: TextIO | None, text: str) -> None:
    """Write a line at once; a stream that was closed before the program began is none."""
    if stream is not None:
        stream.write(text + "\n")
        stream.flush()


def show_warnings_plainly() -> None:
    """Print warnings as one line without the place in the code."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: IO[str] | None = None,
        line: str | None = None,
    ) -> None:
        note(f"warning: {message}")

    warnings.showwarning = show


def describe_training(result: TrainingResult) -> str:
    """How a training went, and what its workers sent each other."""
    lines = [
        f"trained {result.steps} steps in {result.seconds:.0f} s ({result.sequences_per_second:,.0f} sequences/s), "
        f"kept step {result.best_step}"
    ]
    sent = result.communication
    if sent.get("workers", 1) > 1:
        lines.append(
            f"{sent['workers']} workers, exchange {sent['exchange']}, sync {sent['sync']}: each sent "
            f"{sent['sent_bytes_a_step'] / 1e3:,.1f} kB a step; the gradients alone, exactly, would be "
            f"{sent['exact_bytes_a_step'] / 1e3:,.1f} kB ({sent['ratio']:.1f} times as many)"
        )
    if "staleness" in sent:
        late = sent["staleness"]
        lines.append(f"gradients were {late['mean']:.1f} steps late on average, {late['max']} at most")
    return "\n".join(lines)


def describe_growth(result: GrowthResult) -> str:
    """The curve of a training over workers as a table."""
    fit = result.fit
    lines = [
        f"fitted to {len(fit.points)} measured steps; error on a step left out {fit.median_left_out_error:.1%} "
        f"(median), {fit.worst_left_out_error:.1%} (worst)",
        f"predicted for a link of {result.link_bytes_per_second * 8 / 1e9:g} Gbit/s, each worker keeping its examples:",
        " workers   a step    speed-up   efficiency",
    ]
    lines += [
        f"{point.workers:8,} {point.seconds * 1e3:7.1f} ms {point.speedup:9.1f} {point.efficiency:11.0%}"
        for point in result.weak
    ]
    return "\n".join(lines)


def describe_parity(result: ParityResult) -> str:
    """The certificate of 1 against N as a table."""
    chosen = f" with {', '.join(result.overrides)}" if result.overrides else ""
    lines = [f"against one worker, after 50 steps of a fixed problem{chosen}:"]
    for case in result.cases:
        verdict = "holds" if case.holds else "DOES NOT HOLD"
        rerun = "equal to the bit" if case.rerun_is_equal else "DIFFERENT"
        lines.append(
            f"  {case.workers:>2} {case.kind:<10} relative difference {case.relative_difference:.1e}, "
            f"a rerun {rerun}: {verdict}"
        )
    lines.append("the same model" if result.holds else "NOT the same model; the bound is 1e-06 and an equal rerun")
    return "\n".join(lines)


class Display:
    """Progress of stages and of the training; a context manager.

    On a terminal each stage is a bar with the time left. Elsewhere a stage is a line when it begins and at most
    one every five seconds, and the training a line a log step.
    """

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, Any] = {}
        self._said: dict[str, float] = {}
        # When each stage began, what was done then, and what was done last.
        self._began: dict[str, tuple[float, int, int]] = {}

    def __enter__(self) -> Display:
        if sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[facts]}"),
            )
            self._bars = Progress(*columns, console=Console(stderr=True))
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def stage(self, name: str) -> None:
        """Say that a stage begins."""
        if self._bars is not None:
            self._bars.console.rule(name, align="left", style="dim")
        else:
            note(f"== {name}")

    def progress(self, phrase: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if self._bars is not None:
            self._update(phrase, done, total, "")
            return
        now = time.monotonic()
        last = self._said.get(phrase)
        if done < self._began.get(phrase, (0.0, 0, 0))[2]:
            # The same stage again, on other sequences.
            last = None
        already = (now, done) if last is None else self._began[phrase][:2]
        self._began[phrase] = (*already, done)
        if last is None:
            self._said[phrase] = now
        elif now - last >= QUIET_SECONDS or (done >= total and now - last >= 1.0):
            self._said[phrase] = now
            # Of what is done all at once only the time is known.
            far = f"{now - already[0]:.0f} s so far" if total == 1 > done else f"{done:,} of {total:,}"
            note(f"{phrase}: {far}{self._describe_rest(phrase, now, done, total)}")

    def _describe_rest(self, phrase: str, now: float, done: int, total: int) -> str:
        """The time left at the speed since the first word of a phrase."""
        began, already, _ = self._began[phrase]
        if done <= already or done >= total:
            return ""
        return f", {(now - began) / (done - already) * (total - done):.0f} s left"

    def entry(self, entry: Mapping[str, Any], num_steps: int) -> None:
        """Show one entry of the training metrics."""
        facts = _describe(entry)
        if self._bars is not None:
            self._update("training", int(entry["step"]), num_steps, facts)
            if entry["kind"] == "validation":
                self._bars.console.print(f"[dim]step {entry['step']}: {facts}")
            return
        left = ""
        if entry["kind"] == "train" and entry["step"]:
            seconds = entry["seconds"] / entry["step"] * (num_steps - entry["step"])
            left = f", {seconds:.0f} s left"
        note(f"step {entry['step']}/{num_steps}: {facts}{left}")

    def _update(self, phrase: str, done: int, total: int, facts: str) -> None:
        assert self._bars is not None
        if phrase not in self._tasks:
            self._tasks[phrase] = self._bars.add_task(phrase, total=total, facts=facts)
        self._bars.update(self._tasks[phrase], completed=done, total=total, facts=facts)


def _describe(entry: Mapping[str, Any]) -> str:
    if entry["kind"] == "validation":
        return f"validation loss {entry['loss']:.4f}, AUROC {entry['auroc']:.4f}, AUPRC {entry['auprc']:.4f}"
    return f"loss {entry['loss']:.4f}, {entry['sequences_per_second']:,.0f} sequences/s"


def describe_evaluation(facts: Mapping[str, Any]) -> str:
    """The headline of an evaluation in a few lines of plain text."""
    lines = []
    for track in facts["tracks"]:
        test = track["splits"]["test"]
        lines.append(
            f"{track['track']}, test split, {test['num_examples']:,} examples, {test['num_positive']:,} positive"
        )
        if test["metrics"] is None:
            lines.append(f"  not measured: {test['reason']}")
            continue
        for name in ("auroc", "auprc", "accuracy", "mcc"):
            lines.append(f"  {name:<9}{_describe_metric(test['metrics'][name])}")
        lines += [f"  against {name}: {_describe_baseline(entry)}" for name, entry in track["baselines"].items()]
    seen = facts.get("seen_in_training")
    if seen is not None and seen["num_examples"]:
        lines.append(
            f"note: {seen['num_examples']:,} of these {seen['of']:,} test sequences, or their reverse complements, "
            "trained this network: the figures flatter it"
        )
    return "\n".join(lines)


def _describe_baseline(baseline: Mapping[str, Any]) -> str:
    if baseline["reason"] is not None:
        return f"not fitted: {baseline['reason']}"
    metrics = baseline["splits"]["test"]["metrics"]
    return f"AUROC {metrics['auroc']['value']:.4f}, AUPRC {metrics['auprc']['value']:.4f}"


def _describe_metric(metric: Mapping[str, Any]) -> str:
    if metric["value"] is None:
        return "undefined"
    return f"{metric['value']:.4f}  (95 % interval {metric['low']:.4f} to {metric['high']:.4f})"


def describe_dataset(manifest: Mapping[str, Any], quality: Mapping[str, Any]) -> str:
    """Counts by split and kind, what was dropped and why, and what to beware of."""
    lines = [f"{quality['num_examples']:,} examples of {quality['length_bp']} bp, {quality['num_positive']:,} positive"]
    lines.append(f"  {'kind':<24}{'train':>10}{'validation':>12}{'test':>10}")
    for kind, counts in quality["kinds"].items():
        lines.append(f"  {kind:<24}{counts['train']:>10,}{counts['validation']:>12,}{counts['test']:>10,}")
    for reason, count in quality["dropped"].items():
        lines.append(f"  dropped, {reason}: {count:,}")
    lines += [f"  beware: {warning}" for warning in quality["warnings"]]
    lines.append(f"  fingerprint {manifest['fingerprint'][:16]}")
    return "\n".join(lines)


def describe_predictions(result: PredictionResult) -> str:
    """How many sequences were scored, how, and how many were called."""
    lines = [f"{len(result.names):,} sequences scored"]
    if result.num_windowed:
        lines.append(
            f"  {result.num_windowed:,} longer than {result.length_bp} bp: their best window counts, and they are not "
            "called, since the threshold was chosen for one window"
        )
    if result.num_padded:
        lines.append(f"  {result.num_padded:,} shorter than {result.length_bp} bp: padded with N")
    for column, (track, threshold) in enumerate(zip(result.tracks, result.thresholds, strict=True)):
        if threshold is None:
            lines.append(f"  {track}: no threshold yet; `ebox evaluate` fixes one")
        else:
            calls = result.calls[:, column]
            lines.append(
                f"  {track}: {int((calls == 1).sum()):,} of {int((calls >= 0).sum()):,} called at probability "
                f"{threshold:.3f} or more"
            )
    return "\n".join(lines)


def describe_findings(result: DoctorResult) -> str:
    """The doctor's findings, a line each, with the remedy below where there is one; or those on a topology."""
    if result.topology is not None:
        return describe_topology(result.topology)
    marks = {"ok": "ok     ", "missing": "MISSING", "warning": "note   "}
    lines = []
    for finding in result.findings:
        lines.append(f"{marks[finding.state]}  {finding.topic}: {finding.found}")
        if finding.remedy is not None:
            lines.append(f"           {finding.remedy}")
    if result.training is not None:
        lines += ["", describe_preflight(result.training)]
    return "\n".join(lines)


def describe_preflight(result: PreflightResult) -> str:
    """What a training would take on this machine."""
    minutes = result.training_seconds / 60
    rate = result.batch_size / result.step_seconds
    rows = [
        ("training on", result.devices),
        ("examples", f"{result.num_examples:,} to train on, {result.num_steps:,} steps of {result.batch_size:,}"),
        ("network", f"{result.num_parameters:,} trained parameters"),
        ("time", f"{minutes:,.1f} min for all steps ({rate:,.0f} sequences/s), without validations"),
        ("", f"first step after {result.compile_seconds:.0f} s; {result.step_seconds * 1e3:.1f} ms a step after it"),
        (
            "memory",
            f"{result.step_bytes / 2**20:,.0f} MiB a device for a step, {result.free_bytes / 2**30:,.1f} GiB free",
        ),
        ("largest batch", f"about {result.largest_batch_size:,} examples a step would fit"),
    ]
    lines = [f"{name:<14} {fact}" for name, fact in rows]
    return "\n".join([*lines, *(f"note: {remark}" for remark in result.remarks)])


def describe_topology(result: TopologyResult) -> str:
    """What the compiler made of the train step for a topology: a table of names and facts, then the notes."""
    found, chip = result.compilation, result.topology.chip
    memory, total = found.memory, f"{found.memory.total / 2**20:,.1f} MiB"
    if chip.memory_bytes is not None:
        verdict = "fits" if result.fits else "DOES NOT FIT"
        total += f", {found.memory.total / chip.memory_bytes:.2%} of {chip.memory_bytes / 1e9:g} GB: {verdict}"
    rows = [
        ("chips", f"{found.num_chips:,} x {found.device_kind} on {found.num_hosts:,} hosts"),
        ("batch", f"{found.batch_size:,} examples of {result.length_bp:,} bp a step, {found.batch_per_chip:,} a chip"),
        ("network", f"{found.num_parameters:,} trained parameters, computed in {found.precision}"),
        ("memory of a chip", total),
        ("", f"arguments {memory.arguments:,}, outputs {memory.outputs:,} ({memory.shared:,} of them in place),"),
        ("", f"temporaries {memory.temporaries:,}, code {memory.code:,} bytes"),
        ("gradient", f"{found.gradient_bytes:,} bytes in float32"),
    ]
    for one in found.collectives:
        often = "a step" if one.in_step else "a dispatch"
        words = f"{one.count} {often}, {one.dtype}, {one.num_bytes:,} bytes, the largest {one.largest_bytes:,}"
        rows.append((one.kind, words))
    if not found.collectives:
        rows.append(("exchange", "none: one chip"))
    else:
        rows.append(("sent by a chip", f"{result.sent_bytes:,.0f} bytes a step, at best"))
    if found.flops is not None:
        rows.append(("operations", f"{found.flops / 1e9:,.2f} GFLOP a step and chip"))
    if result.least_seconds is not None:
        rows.append(
            ("time of a step", f"at least {result.least_seconds * 1e6:,.0f} µs, without the exchange (roofline)")
        )
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    rows.append(("compiled in", f"{found.lower_seconds + found.compile_seconds:.1f} s by {versions}"))
    lines = [f"{result.topology.name}: the train step compiles", *(f"  {name:<18}{fact}" for name, fact in rows)]
    return "\n".join([*lines, *(f"  note: {note}" for note in result.notes)])


def describe_ceiling(ceiling: CeilingResult | None) -> str:
    """The best that any method can reach on simulated sequences."""
    if ceiling is None:
        return "the exact ceiling of this task can't be computed"
    parts = [
        f"{name} {metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f})"
        for name, metric in (("accuracy", ceiling.accuracy), ("AUROC", ceiling.auroc))
    ]
    return f"likelihood-ratio ceiling: {', '.join(parts)}"


def describe_explanation(facts: Mapping[str, Any]) -> str:
    """What was explained, what was found, and how sure that is, in a few lines."""
    sequences, attribution = facts["sequences"], facts["attribution"]
    lines = [f"{facts['track']}: {sequences['num']:,} sequences explained by {attribution['words']}"]
    for key, words in (
        ("num_windowed", f"longer than {sequences['length_bp']} bp: explained in windows, each base the mean of them"),
        ("num_padded", f"shorter than {sequences['length_bp']} bp: padded with N"),
        ("num_with_n", "with N, to which nothing is attributed"),
    ):
        if sequences.get(key):
            lines.append(f"  {sequences[key]:,} {words}")
    lines.append(f"  completeness error {100 * attribution['completeness_error']:.2g} %")
    if attribution["warning"] is not None:
        lines.append(f"  beware: {attribution['warning']}")
    for motif in facts["motifs"]:
        best = motif["matches"][0] if motif["matches"] else None
        like = "like nothing known"
        if best is not None:
            like = f"{best['name']} ({best['id']}), q = {best['q_value']:.1g}"
            like = f"like {like}" if best["is_find"] else f"like nothing known; nearest {like}"
        lines.append(f"  {motif['name']} {motif['consensus']}: {motif['num_sites']:,} sites, {like}")
    if facts.get("hits_reason"):
        lines.append(f"  no hits: {facts['hits_reason']}")
    if facts.get("motifs_reason"):
        lines.append(f"  no motif: {facts['motifs_reason']}")
    return "\n".join(lines)
