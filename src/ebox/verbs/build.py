"""Make a dataset folder: cleaned, labelled, balanced, split and audited examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.progress import PathLike, Progress, quiet
from ebox.storage.names import SPLITS
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.datasets.folder import Dataset
    from ebox.datasets.sources import DatasetSources
    from ebox.settings.reading import Config

VERB = Verb("build", settings=("data",), hidden=("on_made",))


def build(
    out: PathLike,
    sources: DatasetSources,
    config: Config | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = quiet,
    command: Sequence[str] | None = None,
    on_made: Callable[[Dataset], None] = quiet,
) -> Dataset:
    """Make a dataset folder: cleaned, labelled, balanced, split and audited examples.

    Args:
        out: Folder to write.
        sources: Where the examples come from.
        config: The settings; none: the defaults.
        overwrite: Replace an earlier result in --out.
        progress: Called with a phrase, the number done, and the number in all.
        command: The command line to keep; none: that of this process, where it is one of ebox.
        on_made: Called with the whole dataset before it takes its place; what this raises ends the build.

    Raises:
        InputError: input that can't be read, files that don't go together, or a split without a class; then
            nothing is written at `out`.
    """
    from ebox.datasets.build import build_dataset
    from ebox.settings.reading import Config
    from ebox.storage.publishing import find_command

    data = (Config() if config is None else config).data
    return build_dataset(
        data,
        Path(out),
        sources,
        overwrite=overwrite,
        progress=progress,
        command=find_command(command),
        on_made=on_made,
    )


def describe(data: Dataset) -> str:
    """Counts by split and kind, what was dropped and why, and the warnings."""
    from ebox.reporting.languages import find_language

    split = find_language().say({"chroms": None, "fractions": None, **data.quality["split"]}, "split")
    told = describe_examples(data.quality, SPLITS, f"  split: {split}")
    return "\n".join([told, f"  fingerprint {data.fingerprint[:16]}", f"dataset: {data.path}"])


def describe_examples(quality: Mapping[str, Any], splits: Sequence[str], *more: str) -> str:
    """The counts of a quality report by kind in some splits, more lines, what was dropped and why, and the warnings."""
    from ebox.reporting.languages import find_language

    say = find_language().say
    widths = {split: max(10, len(split) + 2) for split in splits}
    lines = [f"{quality['num_examples']:,} examples of {quality['length_bp']} bp, {quality['num_positive']:,} positive"]
    lines.append(f"  {'kind':<24}" + "".join(f"{split:>{width}}" for split, width in widths.items()))
    for kind, counts in quality["kinds"].items():
        lines.append(f"  {kind:<24}" + "".join(f"{counts[split]:>{width},}" for split, width in widths.items()))
    lines += _describe_tracks(quality["tracks"], splits)
    lines += [f"  {say(source, 'centres')}" for source in quality["sources"] if source.get("on_summits") is not None]
    lines += [f"  {say(shares, 'masked_shares')}" for shares in _list_shares(quality)]
    lines += more
    lines += [f"  dropped, {say(reason)}: {count:,}" for reason, count in quality["dropped"].items()]
    lines += [f"  beware: {say(warning)}" for warning in quality["warnings"]]
    return "\n".join(lines)


def _describe_tracks(tracks: Mapping[str, Any], splits: Sequence[str]) -> Iterator[str]:
    """Of several tracks the positive, negative and unknown labels of each in each split."""
    from ebox.reporting.languages import find_language

    for track, counts in tracks.items() if len(tracks) > 1 else ():
        told = "; ".join(find_language().say({"of": split, **counts[split]}, "labels") for split in splits)
        yield f"  track {track}: {told}"


def _list_shares(quality: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The share of repeats by kind, where it is known."""
    shares = {kind: of["masked"]["mean"] for kind, of in quality["confounds"].items() if "masked" in of}
    if "positive" in shares:
        alone = quality["made"].get("matched", {}).get("repeats", {}).get("by_gc_alone")
        yield {"positive": shares.pop("positive"), "kinds": shares, "by_gc_alone": alone}
