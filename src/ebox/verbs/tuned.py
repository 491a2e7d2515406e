"""The settings that a search found: trained anew with fresh seeds, and measured on the test split once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.progress import OnEntry, OnStage, Progress
from ebox.storage import run_folder
from ebox.storage.publishing import read_json, write_json
from ebox.storage.reads import keep_reads
from ebox.storage.stamps import EVALUATION, TUNING, read_stamped, write_stamped
from ebox.verbs.evaluate import EvaluationResult, evaluate
from ebox.verbs.train import train

if TYPE_CHECKING:
    from ebox.settings.reading import Config
    from ebox.tuning.budget import Budget


@dataclass(frozen=True)
class Final:
    """What is trained at the end.

    Args:
        dataset: The dataset folder.
        fingerprint: That of the dataset.
        folder: The run folder of the first seed; those of the others lie in it, and the counts of test reads beside it.
        config: The best settings.
        seeds: Seeds that no trial had.
        command: The command line to keep.
    """

    dataset: Path
    fingerprint: str
    folder: Path
    config: Config
    seeds: list[int]
    command: list[str]

    def train(self, budget: Budget, on_stage: OnStage, on_entry: OnEntry) -> list[int]:
        """Train with each seed, or with as many as the time allows, and at least one; the seeds that are trained."""
        # A training takes the place of what stands there, and of its counts.
        keep_reads(self.folder, self.folder.parent)
        trained: list[int] = []
        longest = 0.0
        for number, seed in enumerate(self.seeds):
            began = budget.elapsed
            if number and budget.seconds is not None and began + longest > budget.seconds:
                break
            on_stage(f"train the best settings, seed {number + 1} of {len(self.seeds)}")
            self._train(number, seed, on_entry)
            longest = max(longest, budget.elapsed - began)
            trained.append(seed)
        return trained

    def _train(self, number: int, seed: int, on_entry: OnEntry) -> None:
        """Train with a seed, unless that was done; what other settings left there is replaced."""
        config = self.config.model_copy(update={"train": self.config.train.model_copy(update={"seed": seed})})
        place = self.folder / run_folder.SEEDS / str(seed) if number else self.folder
        same = self._is_same(place, config)
        if same and (place / run_folder.TRAINING).exists():
            return
        train(self.dataset, place, config, resume=same, overwrite=not same, on_entry=on_entry, command=self.command)

    def _is_same(self, place: Path, config: Config) -> bool:
        """Whether what stands in a run folder is a training with these settings, or nothing."""
        from ebox.training.checkpoints import OtherRunError, RunIdentity, check_identity, check_resumable

        identity = RunIdentity.of(config, self.fingerprint)
        try:
            check_resumable(place, identity)
            if (place / run_folder.TRAINING).exists():
                check_identity(place, read_json(place / run_folder.TRAINING).get("identity"), identity)
        except OtherRunError:
            return False
        return True

    def measure(self, facts: Mapping[str, Any], progress: Progress) -> EvaluationResult:
        """Read the test split, unless that was done in this way; keep the facts of the search beside it."""
        written, kept = self.folder / run_folder.EVALUATION, self.folder / run_folder.TUNING
        if written.exists() and kept.exists():
            before = read_stamped(kept, TUNING)
            if all(before[key] == facts[key] for key in ("final_seeds", "evaluation")):
                write_stamped(kept, TUNING, facts)
                return EvaluationResult(written, read_stamped(written, EVALUATION))
        # An evaluation that stands beside these facts is one of theirs, also after a kill.
        written.unlink(missing_ok=True)
        write_stamped(kept, TUNING, facts)
        # The evaluation finds the other seeds by it.
        seeds = facts["final_seeds"]
        write_json(self.folder / run_folder.REQUEST, {"seeds": seeds if len(seeds) > 1 else []})
        # The counts of those that stood here before.
        keep_reads(self.folder.parent, self.folder)
        evaluation = evaluate(self.folder, config=self.config, progress=progress, command=self.command)
        keep_reads(self.folder, self.folder.parent)
        return evaluation
