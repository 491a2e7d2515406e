"""The verbs of the command line: parse, call one function, print. No logic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ebox.cli.exits import run_app
from ebox.cli.parameters import (
    BlacklistOption,
    ClusterOption,
    ConfigOption,
    DevicesOption,
    EpochsOption,
    ExchangeOption,
    GenomeOption,
    KindsOption,
    LengthOption,
    LocalStepsOption,
    MinWorkersOption,
    MotifFilesOption,
    NegativesOption,
    OutOption,
    OverwriteOption,
    PeaksOption,
    PlatformOption,
    PositivesOption,
    ProcessesOption,
    RankOption,
    RayWorkersOption,
    ResumeOption,
    SeedOption,
    SetOption,
    SplitOption,
    SyncOption,
    TableOption,
    TestTableOption,
    TrainTableOption,
    ValidationTableOption,
    read_settings,
    read_sources,
    read_workers,
)
from ebox.cli.explain_command import explain
from ebox.verbs.doctor import doctor

# The marks keep the lines as they are.
_EXAMPLES = """\b
Examples, one for each way to begin:
  ebox run --positives bound.fa --negatives unbound.fa --out runs/tal1
  ebox run --peaks peaks.bed --genome hg38.fa --out runs/tal1
  ebox run --positives bound.fa --out runs/tal1
The last one makes its negatives by shuffling. --train, --validation and --test take tables with sequence and label.
"""

app = typer.Typer(
    help="Train convolutional networks on DNA, data-parallel, to find where a transcription factor binds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from ebox.version import __version__

        typer.echo(f"ebox {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(short_help="From sequences or peaks to a detector and its report.", epilog=_EXAMPLES)
def run(
    out: OutOption,
    positives: PositivesOption = None,
    negatives: NegativesOption = None,
    peaks: PeaksOption = None,
    genome: GenomeOption = None,
    blacklist: BlacklistOption = None,
    table: TableOption = None,
    train: TrainTableOption = None,
    validation: ValidationTableOption = None,
    test: TestTableOption = None,
    motifs: MotifFilesOption = None,
    length: LengthOption = None,
    negative_kinds: KindsOption = None,
    split: SplitOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    platform: PlatformOption = None,
    devices: DevicesOption = None,
    processes: ProcessesOption = None,
    cluster: ClusterOption = None,
    workers: RayWorkersOption = None,
    exchange: ExchangeOption = None,
    rank: RankOption = None,
    sync: SyncOption = None,
    local_steps: LocalStepsOption = None,
    min_workers: MinWorkersOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """From sequences or peaks to a measured detector and its report: build, train, evaluate, report."""
    from ebox.cli import console
    from ebox.verbs.evaluate import describe_evaluation
    from ebox.verbs.run import run as run_all

    group = read_workers(processes, cluster, workers, exchange, rank, sync, local_steps, min_workers)
    settings = read_settings(config, set_, length, negative_kinds, split, epochs, seed, platform, devices, group)
    sources = read_sources(positives, negatives, peaks, genome, blacklist, table, train, validation, test)
    with console.Display() as display:
        result = run_all(
            out,
            sources,
            settings,
            motif_files=motifs or (),
            resume=resume,
            overwrite=overwrite,
            on_stage=display.stage,
            on_entry=display.entry,
            progress=display.progress,
        )
    console.say(describe_evaluation(result.evaluation.facts))
    console.say(f"report: {result.report}")


@app.command(short_help="Run the main job on simulated sequences.")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("runs/demo"),
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier demo.")] = True,
) -> None:
    """Run the main job on simulated E-box and GATA composites; about a minute on two cores."""
    from ebox.cli import console
    from ebox.verbs.demo import demo as run_demo
    from ebox.verbs.evaluate import describe_evaluation

    with console.Display() as display:
        result = run_demo(
            out,
            overwrite=overwrite,
            on_stage=display.stage,
            on_entry=display.entry,
            progress=display.progress,
        )
    console.say(describe_evaluation(result.evaluation.facts))
    console.say(f"report: {result.report}")


@app.command(short_help="Make a dataset: clean, label, balance, split, audit.")
def build(
    out: OutOption,
    positives: PositivesOption = None,
    negatives: NegativesOption = None,
    peaks: PeaksOption = None,
    genome: GenomeOption = None,
    blacklist: BlacklistOption = None,
    table: TableOption = None,
    train: TrainTableOption = None,
    validation: ValidationTableOption = None,
    test: TestTableOption = None,
    length: LengthOption = None,
    negative_kinds: KindsOption = None,
    split: SplitOption = None,
    seed: SeedOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Make a dataset folder: cleaned, labelled, balanced, split and audited examples."""
    from ebox.cli import console
    from ebox.verbs.build import build_stage, describe_dataset

    settings = read_settings(config, set_, length, negative_kinds, split, None, seed, None, None)
    sources = read_sources(positives, negatives, peaks, genome, blacklist, table, train, validation, test)
    with console.Display() as display:
        data = build_stage(out, sources, settings, overwrite=overwrite, progress=display.progress)
    console.say(describe_dataset(data.manifest, data.quality))
    console.say(f"dataset: {out}")


@app.command(short_help="Train a network on a dataset folder.")
def train(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder made by `ebox build`.")],
    out: OutOption,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    platform: PlatformOption = None,
    devices: DevicesOption = None,
    processes: ProcessesOption = None,
    cluster: ClusterOption = None,
    workers: RayWorkersOption = None,
    exchange: ExchangeOption = None,
    rank: RankOption = None,
    sync: SyncOption = None,
    local_steps: LocalStepsOption = None,
    min_workers: MinWorkersOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Train a network on a dataset folder."""
    from ebox.cli import console
    from ebox.verbs.train import describe_training
    from ebox.verbs.train import train as train_network

    group = read_workers(processes, cluster, workers, exchange, rank, sync, local_steps, min_workers)
    settings = read_settings(config, set_, None, None, None, epochs, seed, platform, devices, group)
    with console.Display() as display:
        result = train_network(
            dataset,
            out,
            settings,
            resume=resume,
            overwrite=overwrite,
            on_entry=display.entry,
            command=sys.argv,
        )
    console.say(describe_training(result))
    console.say(f"model: {out / 'model'}")


@app.command(short_help="Measure a trained network on held-out sequences.")
def evaluate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder with a trained model.")],
    data: Annotated[Path | None, typer.Option("--data", help="Dataset folder; that of the run when left out.")] = None,
    motifs: MotifFilesOption = None,
    platform: PlatformOption = None,
    devices: DevicesOption = None,
    set_: SetOption = None,
) -> None:
    """Measure a trained network on the validation and test splits, beside the baselines."""
    from ebox.cli import console
    from ebox.settings.reading import read_run_settings
    from ebox.verbs.evaluate import describe_evaluation
    from ebox.verbs.evaluate import evaluate as measure

    settings, parallel = read_run_settings(run_folder, "evaluation", set_ or (), platform=platform, devices=devices)
    with console.Display() as display:
        result = measure(
            run_folder,
            data,
            settings.evaluation,
            parallel=parallel,
            motif_files=motifs or (),
            progress=display.progress,
        )
    console.say(describe_evaluation(result.facts))
    console.say(f"evaluation: {result.path}")


@app.command(short_help="Score new sequences of any length.")
def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder with a trained model.")],
    fasta: Annotated[Path, typer.Option("--fasta", help="Sequences to score: FASTA, or a table with `sequence`.")],
    out: Annotated[Path, typer.Option("--out", help="Tab-separated file to write.")],
    platform: Annotated[str, typer.Option("--platform", help="auto, cpu, gpu or tpu.")] = "auto",
) -> None:
    """Score new sequences of any length with a trained network."""
    from ebox.cli import console
    from ebox.verbs.predict import describe_predictions
    from ebox.verbs.predict import predict as predict_file

    with console.Display() as display:
        result = predict_file(run_folder, fasta, out, platform=platform, progress=display.progress)
    console.say(describe_predictions(result))
    console.say(f"predictions: {out}")


app.command(short_help="Show what a network learned, and how sure that is.")(explain)
app.command(short_help="Say what is here, what is missing, what it would take.")(doctor)


@app.command(short_help="Write the self-contained HTML report of a run.")
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Evaluated run folder.")],
    out: Annotated[Path | None, typer.Option("--out", help="HTML file; report.html in the run when left out.")] = None,
) -> None:
    """Write the self-contained HTML report of a run."""
    from ebox.cli import console
    from ebox.verbs.report import report as write

    console.say(f"report: {write(run_folder, out)}")


@app.command(short_help="Make sequences with planted motifs.")
def simulate(
    out: OutOption,
    motif: Annotated[list[str], typer.Option("--motif", help="Motif name or JASPAR id; repeatable.")],
    motifs: Annotated[
        list[Path] | None, typer.Option("--motifs", help="MEME or JASPAR file to find it in; repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the simulation, as length_bp=500; repeatable."),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Make sequences with planted motifs: where they are is written down, and the best possible result."""
    from ebox.cli import console
    from ebox.sequences import read_simulation_config, write_simulation
    from ebox.sequences import simulate as draw
    from ebox.verbs.simulate import describe_ceiling

    result = draw(read_simulation_config(motif, motifs or (), set_ or ()))
    write_simulation(result, out, overwrite=overwrite)
    console.say(describe_ceiling(result.ceiling))
    console.say(f"simulation: {out}")


@app.command()
def config(
    file: Annotated[Path | None, typer.Option("--config", help="Settings file to start from.")] = None,
    set_: SetOption = None,
) -> None:
    """Print every setting with its value, as a settings file."""
    from ebox.cli import console
    from ebox.settings.reading import describe_config, read_config

    console.say(describe_config(read_config(file, set_ or ())))


def main() -> None:
    """Run the command line."""
    run_app(app)


if __name__ == "__main__":
    main()
