"""The verb `ebox explain`: parse, call one function, print. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ebox.cli.parameters import DevicesOption, OverwriteOption, PlatformOption, SetOption

ExplainedFastaOption = Annotated[
    Path | None, typer.Option("--fasta", help="Explain these sequences, not the test split.")
]
ExplanationOption = Annotated[Path | None, typer.Option("--out", help="Folder; RUN/explanation when left out.")]
MethodOption = Annotated[str | None, typer.Option("--method", help="deeplift, saturation, integrated or gradient.")]
TrackOption = Annotated[str | None, typer.Option("--track", help="Which track; the first when left out.")]
KnownMotifsOption = Annotated[
    list[Path] | None, typer.Option("--motifs", help="MEME or JASPAR file to match with; repeatable.")
]
AgainstOption = Annotated[
    Path | None, typer.Option("--against", help="Run of another seed, to compare explanations with.")
]
PlantedOption = Annotated[Path | None, typer.Option("--planted", help="BED of planted sites by record name.")]


def explain(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Evaluated run folder.")],
    fasta: ExplainedFastaOption = None,
    out: ExplanationOption = None,
    method: MethodOption = None,
    track: TrackOption = None,
    motifs: KnownMotifsOption = None,
    against: AgainstOption = None,
    planted: PlantedOption = None,
    platform: PlatformOption = None,
    devices: DevicesOption = None,
    set_: SetOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Show what a network learned, and measure how far that can be trusted."""
    from ebox.cli import console
    from ebox.settings.reading import read_run_settings
    from ebox.verbs.explain import describe_explanation
    from ebox.verbs.explain import explain as explain_run

    chosen = {"method": method, "track": track}
    settings, parallel = read_run_settings(
        run_folder, "explanation", set_ or (), chosen=chosen, platform=platform, devices=devices
    )
    files: dict[str, Any] = {
        "fasta": fasta,
        "out": out,
        "motif_files": motifs or (),
        "against": against,
        "planted": planted,
    }
    with console.Display() as display:
        result = explain_run(
            run_folder,
            config=settings.explanation,
            parallel=parallel,
            **files,
            overwrite=overwrite,
            progress=display.progress,
        )
    console.say(describe_explanation(result.facts))
    console.say(f"explanation: {result.folder}")
    if result.report is not None:
        console.say(f"report: {result.report}")
