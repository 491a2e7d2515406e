"""What a plan is made from: profiles that fit the dataset, the steps of a training, and figures of compilers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ebox.errors import InputError
from ebox.planning.comparison import check_names, profiles_differ
from ebox.planning.machine_model import MeasuredMachine
from ebox.planning.options import Inputs, OptionNote
from ebox.planning.plan import Files, Needed
from ebox.planning.prices import PriceBook
from ebox.planning.profiles import Profile, read_profile
from ebox.planning.reference import read_reference
from ebox.planning.slices import SliceFigures, cache_folder, compile_slices, find_kept
from ebox.planning.steps_to_target import StepsModel
from ebox.planning.topologies import Topology
from ebox.progress import Progress, quiet
from ebox.settings.reading import Config, make_config
from ebox.storage.notes import note
from ebox.workers.machine import count_cores

MEASURE = "measure one with `ebox bench {dataset} --out FILE`"


def open_profiles(dataset: Path, paths: Sequence[Path], run: Path | None) -> Files:
    """Read profiles, and check that they are of this dataset and of one network.

    A profile without a dataset, whose steps alone were timed, is taken where its sequences are of the same form.

    Args:
        dataset: A dataset folder.
        paths: Files of `ebox bench`.
        run: A run folder, which must hold a trained model; None: none.

    Raises:
        InputError: no profile, one of another dataset or network, two of one name, or no dataset; the message names
            what differs.
    """
    from ebox.datasets.folder import read_manifest
    from ebox.storage.run_folder import check_run_folder

    manifest = read_manifest(dataset)
    remedy = MEASURE.format(dataset=dataset)
    if not paths:
        raise InputError(
            "nothing was measured with this dataset", file=dataset, remedy=f"{remedy}, and name it with --measured"
        )
    if run is not None:
        check_run_folder(run)
    profiles = {str(path): read_profile(path) for path in paths}
    for file, profile in profiles.items():
        _check_dataset(file, profile, manifest, remedy)
    _check_networks(profiles, remedy)
    check_names(profiles)
    main = [file for file, profile in profiles.items() if profile.subject.dataset is not None]
    if not main:
        raise InputError(
            "none of the profiles is of a dataset: they are of steps alone", file=next(iter(profiles)), remedy=remedy
        )
    learned = [file for file in main if profiles[file].learning]
    first = (learned or main)[0]
    ordered = [first, *(file for file in profiles if file != first)]
    return Files(tuple((file, profiles[file]) for file in ordered), None if run is None else str(run))


def _check_dataset(file: str, profile: Profile, manifest: Mapping[str, Any], remedy: str) -> None:
    subject = profile.subject
    form = {"length_bp": int(manifest["length_bp"]), "num_tracks": len(manifest["tracks"])}
    other = [
        f"{name} {getattr(subject, name)} against {value}"
        for name, value in form.items()
        if getattr(subject, name) != value
    ]
    if subject.dataset is not None and subject.dataset != manifest["fingerprint"]:
        other.append(f"fingerprint {subject.dataset[:12]} against {str(manifest['fingerprint'])[:12]}")
    if other:
        raise InputError(f"was measured with another dataset: {', '.join(other)}", file=file, remedy=remedy)


def _check_networks(profiles: Mapping[str, Profile], remedy: str) -> None:
    (first, one), *rest = profiles.items()
    for file, other in rest:
        found = [str(each) for each in profiles_differ(one, other) if each.name.startswith(("network", "model."))]
        if found:
            raise InputError(
                f"was measured with another network than {first}: {'; '.join(found)}", file=file, remedy=remedy
            )


def gather(
    files: Files,
    book: PriceBook,
    figures: Mapping[str, SliceFigures],
    topologies: tuple[Topology, ...],
    network_bytes_per_second: float,
    target: float | None,
) -> tuple[Inputs, Needed]:
    """What options are made from, and the steps that a training needs.

    Args:
        files: The profiles, the main one first.
        book: The prices.
        figures: What compilers say of chips.
        topologies: The slices of TPUs.
        network_bytes_per_second: Of the link between machines.
        target: Validation AUROC; None: none.
    """
    main = files.profiles[0][1]
    train = main.settings.get("train", {})
    needed = Needed(
        StepsModel.of(main),
        target,
        float(train.get("epochs", 12)),
        train.get("max_steps"),
        find_known(main.subject.examples_an_epoch),
        int(train.get("batch_size", 64)),
    )
    inputs = Inputs(
        machines=tuple(MeasuredMachine(profile) for _, profile in files.profiles),
        references=(MeasuredMachine(read_reference()),),
        book=book,
        figures=figures,
        slices=topologies,
        network_bytes_per_second=network_bytes_per_second,
        steps=needed.steps,
        batch_size=needed.batch_size,
        examples_an_epoch=needed.examples_an_epoch,
        precision=str(train.get("precision", "auto")),
    )
    return inputs, needed


def find_known(value: int | None) -> int:
    """A number that every profile of a dataset has."""
    if value is None:
        raise InputError("the profile does not say how many examples there are", remedy="measure it again")
    return value


def find_figures(
    main: Profile, topologies: Sequence[Topology], *, compiles: bool, progress: Progress = quiet
) -> tuple[dict[str, SliceFigures], list[dict[str, Any]]]:
    """What compilers say of the chips of slices, and what to know where they can't be asked.

    Args:
        main: The profile with the settings of the training.
        topologies: The slices.
        compiles: Whether to compile what is not kept.
        progress: Called with a phrase, the number done, and the total number.
    """
    kinds = sorted({one.chip.name for one in topologies})
    config, folder = _read_settings(main), cache_folder()
    form = (main.subject.length_bp, main.subject.num_tracks)
    kept = find_kept(kinds, config, form, folder)
    if not compiles or len(kept) == len(kinds):
        return kept, []
    try:
        return compile_slices(kinds, config, form, folder, processes=count_cores(), progress=progress), []
    except InputError as error:
        return kept, [note(OptionNote.NO_COMPILER, {"problem": error.problem, "remedy": error.remedy})]


def list_overrides(main: Profile, facts: Mapping[str, Any], option: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings of a training that differ from the defaults, and its steps where a target was given.

    Args:
        main: The profile with the settings.
        facts: Of the plan.
        option: The one that is trained.
    """
    defaults = Config().model_dump(mode="json")
    config = _read_settings(main).model_dump(mode="json")
    changed = {
        f"{section}.{key}": value
        for section in ("model", "train")
        for key, value in config[section].items()
        if value != defaults[section][key] and key not in ("batch_size", "precision")
    }
    if facts["question"]["target"] is not None:
        changed["train.max_steps"] = round(option["steps"]["value"])
    return tuple(f"{key}={'none' if value is None else json.dumps(value)}" for key, value in changed.items())


def _read_settings(profile: Profile) -> Config:
    sections = ("model", "train", "parallel")
    return make_config({name: profile.settings[name] for name in sections if name in profile.settings})
