"""What a bench has measured: the facts of a profile that is not whole yet, kept in a file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from ebox.errors import InputError
from ebox.planning.profiles import Profile, Step, fingerprint_network, read_profile
from ebox.settings.reading import Config
from ebox.storage.publishing import refuse_present
from ebox.storage.stamps import BENCH, read_stamped, write_stamped
from ebox.storage.targets import is_stream
from ebox.workers.machine import count_cores, find_cpu_name, find_versions

# What only the work needs, and a profile leaves out.
APART = ("identity", "counts", "trainings")


@dataclass(frozen=True)
class Identity:
    """What has to be equal for a bench to go on.

    Args:
        dataset: Fingerprint of the dataset.
        network: Fingerprint of the settings of the network.
        settings: The settings that define a training.
    """

    dataset: str
    network: str
    settings: dict[str, Any]

    @staticmethod
    def of(config: Config, dataset: str) -> Identity:
        """That of a dataset and settings."""
        return Identity(dataset, fingerprint_network(config.model), config.identity())

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """What differs from an identity in a file, by name."""
        names = [name for name in ("dataset", "network") if other.get(name) != getattr(self, name)]
        theirs: Any = other.get("settings", {})
        names += [
            f"{section}.{key}"
            for section, values in self.settings.items()
            for key, value in values.items()
            if theirs.get(section, {}).get(key) != value
        ]
        return names


def find_work_file(out: Path) -> Path:
    """The file beside a profile that holds what is measured while it is not whole."""
    return out.with_name(f".{out.name}.part")


@final
class Work:
    """The facts that are measured; `keep` writes them down.

    Args:
        facts: Those of a profile, as far as they are known.
        file: Where they are kept; None: nowhere, since the profile goes to a stream.
    """

    def __init__(self, facts: dict[str, Any], file: Path | None) -> None:
        self.facts, self._file = facts, file

    @classmethod
    def open(cls, out: Path, identity: Identity, *, resume: bool, overwrite: bool) -> Work:
        """Begin, or go on with what an interrupted or a finished bench has measured.

        Args:
            out: The file of the profile.
            identity: What is measured now.
            resume: Whether to go on.
            overwrite: Whether to replace what stands there.

        Raises:
            InputError: something stands there that was not to be replaced, or that was measured with other settings, on
                another machine or with another JAX.
        """
        begun: dict[str, Any] = {"identity": vars(identity)}
        if is_stream(out):
            return cls(begun, None)
        file = find_work_file(out)
        if not resume:
            if out.exists() and not overwrite:
                raise refuse_present(out)
            if file.exists() and not overwrite:
                raise InputError(
                    "an interrupted measurement stands beside it",
                    file=out,
                    remedy="go on with --resume, or begin again with --overwrite",
                )
            return cls(begun, file)
        if file.exists():
            facts, place = _without_stamp(read_stamped(file, BENCH)), file
        elif out.exists():
            facts, place = _take_apart(read_profile(out)), out
        else:
            return cls(begun, file)
        differences = identity.differences(facts["identity"])
        if differences:
            raise InputError(
                f"was measured with another value of {', '.join(differences)}",
                file=place,
                remedy="give the same dataset and settings, or measure again with --overwrite instead of --resume",
            )
        changes = list_changes(facts.get("environment", {}))
        if changes:
            raise InputError(
                f"was measured on another machine, or with other versions: {', '.join(changes)}",
                file=place,
                remedy="go on where it was begun, or measure here into another file, or again with --overwrite "
                "instead of --resume",
            )
        return cls(facts, file)

    def keep(self, **facts: Any) -> None:
        """Add facts, and write all of them down."""
        self.facts.update(facts)
        if self._file is not None:
            write_stamped(self._file, BENCH, self.facts)

    def add(self, key: str, fact: Any) -> None:
        """Add one fact to a list, and write all of them down."""
        self.keep(**{key: [*self.facts.get(key, []), fact]})

    def steps(self) -> list[Step]:
        """The steps that are measured."""
        return [Step.model_validate(facts) for facts in self.facts.get("steps", [])]

    def finish(self, name: str) -> Profile:
        """The profile."""
        facts = {key: value for key, value in self.facts.items() if key not in APART}
        return Profile.model_validate({**facts, "name": name, "created": ""})

    def clear(self) -> None:
        """Remove the file, when the profile is published."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)


def list_changes(environment: Mapping[str, Any]) -> list[str]:
    """What of the processor and of JAX differs here from the environment of a profile, as far as that is known."""
    here = {"cpu": find_cpu_name(), "num_cores": count_cores(), **find_versions(("jax", "jaxlib"))}
    known = {**environment, **environment.get("packages", {})}
    return [f"{name} {known[name]} against {value}" for name, value in here.items() if known.get(name, value) != value]


def _without_stamp(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in facts.items() if key not in ("format", "format_version", "ebox_version", "created")
    }


def _take_apart(profile: Profile) -> dict[str, Any]:
    """The facts of a finished profile, to measure more."""
    from ebox.settings.reading import make_config

    facts = profile.model_dump(mode="json", exclude={"created"})
    settings = make_config(profile.settings).identity()
    identity = {"dataset": profile.subject.dataset, "network": profile.subject.network, "settings": settings}
    return {**facts, "identity": identity}
