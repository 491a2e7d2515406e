"""The explanation of a test set: motifs, grammar and checks, computed and published."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt8

from ebox.datasets.folder import Dataset
from ebox.evaluation.inference import predict
from ebox.evaluation.reading import read_protocol
from ebox.explanation.attribution import Attributions, attribute
from ebox.explanation.checks import Checks
from ebox.explanation.discovery import Discovered, DiscoveryResult, discover
from ebox.explanation.experiments import destroy, marginalise, measure_spacing, motif_insert, read_insert
from ebox.explanation.hits import call_hits
from ebox.explanation.matching import MAX_Q
from ebox.explanation.subject import (
    choose_pair,
    choose_rows,
    describe_choice,
    draw_backgrounds,
    find_places,
    find_truth,
)
from ebox.explanation.writing import (
    ExplanationResult,
    describe_attribution,
    describe_filters,
    describe_motif,
    read_own_filters,
    write_filters,
    write_motif_files,
)
from ebox.models.files import LoadedModel
from ebox.progress import PathLike, Progress
from ebox.sequences import Motif, decode
from ebox.sequences.places import Interval
from ebox.settings.reading import ExplanationConfig
from ebox.storage.notes import Code, note
from ebox.storage.publishing import publish_folder, write_json
from ebox.storage.run_folder import EXPLANATION_FACTS, EXPLANATION_WORK, FILTER_MATRICES
from ebox.storage.stamps import EXPLANATION, stamped

NUM_EXAMPLES = 6


class Motifless(Code):
    """Why an explanation has no motif."""

    LEFT_OUT = "discovery_left_out"
    DISCOVERY_STOPPED = "discovery_stopped"
    NOTHING_RECURS = "nothing_recurs"


class Pairless(Code):
    """Why there was no experiment with two motifs."""

    LEFT_OUT = "grammar_left_out"
    NO_PAIR = "no_pair"
    NO_ROOM = "no_room"
    FEW_BACKGROUNDS = "few_backgrounds"


@dataclass(frozen=True)
class Subject:
    """The sequences of a dataset that are explained."""

    rows: np.ndarray
    codes: UInt8[np.ndarray, "example length"]
    names: tuple[str, ...]
    places: tuple[Interval | None, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """One explanation of a test set."""

    folder: Path
    model: LoadedModel
    config: ExplanationConfig
    track: int
    mesh: Mesh
    motif_files: tuple[PathLike, ...]
    progress: Progress

    def check_pair(self) -> None:
        """Raise InputError for an unknown motif before anything is computed."""
        for text in self.config.pair if self.config.pair is not None else ():
            read_insert(text, self.motif_files)

    def run(
        self,
        data: Dataset,
        target: Path,
        targets: Sequence[Motif],
        other: LoadedModel | None,
        against: Path | None,
        planted: PathLike | None,
    ) -> ExplanationResult:
        """Compute all parts, and publish them.

        Args:
            data: The dataset; its test split is explained.
            target: The folder to publish.
            targets: Known motifs to compare with.
            other: A network of another seed to compare with; None: not compared.
            against: The run folder of `other`.
            planted: BED of planted sites; None: the one beside simulated positives, if there is one.
        """
        truth = find_truth(self.folder, data, planted)
        subject = self._choose(data)
        if planted is not None:
            truth.check_names(subject.names, planted)
        targets = [*(motif for motif in truth.motifs if motif.name not in {t.name for t in targets}), *targets]
        found = self._attribute(subject)
        contributions = found.contributions()
        filters = read_own_filters(self.folder) if self.config.discover else []
        discovery = self._discover(found, targets, [own.probabilities for own in filters])
        motifs = discovery.motifs
        hits = call_hits(motifs, found.codes, contributions, self.config.hit_p_value)
        facts = self._head() | {
            "sequences": {**subject.facts, "num_searched": discovery.num_searched},
            "attribution": describe_attribution(found, self.config),
            "targets": {"num": len(targets), "max_q": MAX_Q},
            "motifs": self._describe_motifs(discovery, hits, subject, data),
            "motifs_reason": self._say_why_none(discovery),
            "filters": describe_filters(filters, discovery.filter_matches),
            "grammar": self._experiment(motifs, data),
            "examples": self._show_examples(subject, found),
            "proof": self._prove(subject, found, motifs, truth, other, against),
        }
        with publish_folder(target, overwrite=True, mark=EXPLANATION_FACTS) as place:
            facts["files"] = write_motif_files(place, motifs, hits, subject, found, contributions, facts["examples"])
            if filters:
                write_filters(place / FILTER_MATRICES, filters)
                facts["files"]["filters"] = FILTER_MATRICES
            write_json(place / EXPLANATION_FACTS, facts)
        shutil.rmtree(self.folder / EXPLANATION_WORK, ignore_errors=True)
        return ExplanationResult(target, facts)

    def _head(self) -> dict[str, Any]:
        track, config = self.model.tracks[self.track], self.config.model_dump(mode="json")
        return stamped(EXPLANATION, {"kind": "test", "track": track, "config": config})

    def _score(self, codes: np.ndarray, phrase: str | None = None) -> np.ndarray:
        def tell(_: str, done: int, total: int) -> None:
            if phrase is not None:
                self.progress(phrase, done, total)

        both = self.config.both_strands
        return predict(self.model.network, codes, both_strands=both, mesh=self.mesh, progress=tell)[:, self.track]

    def _choose(self, data: Dataset) -> Subject:
        """The rows of the test split to explain."""
        rows = data.rows("test")
        # Calls are made by the probability; what is explained is the logit of the network.
        logits = self.model.calibrate_track(self._score(data.codes[rows], "scoring the test split"), self.track)
        threshold = read_protocol(self.folder, self.model.tracks).call_threshold(self.track)
        positive = data.is_positive(self.track)[rows]
        chosen, available = choose_rows(logits, positive, threshold, self.config)
        chosen = chosen + rows.start
        codes = np.asarray(data.codes[chosen])
        facts = describe_choice(self.config, codes, available, threshold, len(positive))
        names = tuple(data.examples["name"].gather(chosen.tolist()).to_list())
        return Subject(chosen, codes, names, find_places(data, chosen), facts)

    def _attribute(self, subject: Subject) -> Attributions:
        return attribute(
            self.model.network,
            subject.codes,
            self.config,
            self.track,
            store=self.folder / EXPLANATION_WORK,
            mesh=self.mesh,
            progress=self.progress,
        )

    def _discover(
        self, found: Attributions, targets: Sequence[Motif], filters: Sequence[np.ndarray]
    ) -> DiscoveryResult:
        if not self.config.discover:
            return DiscoveryResult((), 0, None)
        known = found.codes, found.hypothetical, targets
        return discover(*known, self.config, filters=filters, progress=self.progress)

    def _say_why_none(self, found: DiscoveryResult) -> dict[str, Any] | None:
        if found.motifs:
            return None
        if not self.config.discover:
            return note(Motifless.LEFT_OUT)
        if found.reason is not None:
            return note(Motifless.DISCOVERY_STOPPED, {"error": found.reason})
        return note(Motifless.NOTHING_RECURS, {"num_searched": found.num_searched})

    def _describe_motifs(
        self, found: DiscoveryResult, hits: Sequence[Any], subject: Subject, data: Dataset
    ) -> list[dict[str, Any]]:
        facts = []
        backgrounds = draw_backgrounds(data, self.track, self.config) if self.config.grammar else None
        for number, motif in enumerate(found.motifs):
            entry = describe_motif(motif, hits, len(subject.rows), found.num_searched)
            if backgrounds is not None:
                self.progress("experiments with each motif", number, len(found.motifs))
                insert = motif_insert(motif.motif, motif.name)
                fits = len(insert.codes) <= backgrounds.shape[1]
                entry["put_in"] = marginalise(self._score, backgrounds, insert, self.config.seed) if fits else None
                entry["destroyed"] = destroy(
                    self._score, subject.codes, hits, motif, self.config.num_checked, self.config.seed
                )
            facts.append(entry)
        return facts

    def _experiment(self, motifs: Sequence[Discovered], data: Dataset) -> dict[str, Any]:
        if not self.config.grammar:
            return {"pair": None, "reason": note(Pairless.LEFT_OUT)}
        pair = choose_pair(motifs, self.config, self.motif_files)
        if pair is None:
            return {"pair": None, "reason": note(Pairless.NO_PAIR)}
        if len(pair.first.codes) + len(pair.second.codes) > data.length_bp:
            return {"pair": None, "reason": note(Pairless.NO_ROOM)}
        backgrounds = draw_backgrounds(data, self.track, self.config)
        if len(backgrounds) < 2:
            return {"pair": None, "reason": note(Pairless.FEW_BACKGROUNDS, {"least": 2})}
        self.progress("experiments with two motifs", 0, 1)
        facts = measure_spacing(
            self._score, backgrounds, pair.first, pair.second, self.config.max_gap_bp, self.config.seed
        )
        known = {"arrangement": pair.arrangement, "gap_bp": list(pair.gap_bp), "reference": pair.reference}
        return {"pair": {**facts, "expected": known if pair.reference else None}, "reason": None}

    def _show_examples(self, subject: Subject, found: Attributions) -> list[dict[str, Any]]:
        """The sequences with the highest logits."""
        best = np.argsort(-np.asarray(found.logit), kind="stable")[:NUM_EXAMPLES]
        return [
            {
                "name": subject.names[row],
                "logit": round(float(found.logit[row]), 4),
                "sequence": decode(np.asarray(found.codes[row])),
                "contributions": np.round(found.contributions(slice(row, row + 1))[0], 5).tolist(),
            }
            for row in best.tolist()
        ]

    def _prove(
        self,
        subject: Subject,
        found: Attributions,
        motifs: Sequence[Discovered],
        truth: Any,
        other: LoadedModel | None,
        against: Path | None,
    ) -> dict[str, Any] | None:
        if not self.config.proof:
            return None
        checks = Checks(self.model, self.config, self.track, self.mesh, self.progress)
        return checks.run(subject.codes, subject.names, found, motifs, truth, other, against)
