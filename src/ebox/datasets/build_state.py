"""What the stages of one build share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebox.datasets.examples import DropLog, Source
from ebox.datasets.folder import hash_file
from ebox.datasets.similarity import SketchIndex, index_sketches
from ebox.datasets.sources import DatasetSources
from ebox.errors import InputError
from ebox.progress import Progress
from ebox.settings.reading import DataConfig

if TYPE_CHECKING:
    from ebox.datasets.repeats import Repeats
    from ebox.sequences.genome import Genome
    from ebox.sequences.intervals import Intervals


@dataclass
class BuildState:
    """What the stages of one build share: settings, files, what was read, what was dropped."""

    config: DataConfig
    files: DatasetSources
    made_kinds: tuple[str, ...]
    progress: Progress
    kinds: list[str]
    tracks: tuple[str, ...] = ("bound",)
    # False for a network, which reads one length.
    has_free_length: bool = True
    log: DropLog = field(default_factory=DropLog)
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    num_near_positives: int = 0
    genome: Genome | None = None
    repeats: Repeats | None = None
    blacklist: Intervals | None = None
    bound: list[Intervals] = field(default_factory=list)
    sketched: tuple[np.ndarray, SketchIndex] | None = None

    def given_kinds(self) -> list[int]:
        """The kinds of negatives that files give."""
        return list(range(1, len(self.kinds) - len(self.made_kinds)))

    def open_genome(self) -> Genome:
        """The genome, opened once; raise InputError where none is given."""
        from ebox.sequences.genome import Genome

        if self.genome is None:
            if self.files.genome is None:
                raise InputError("matched negatives need a genome", remedy="give --genome genome.fa")
            self.genome = Genome(self.files.genome)
        return self.genome

    def sketch(self, codes: np.ndarray) -> SketchIndex:
        """The sketch index of these codes, made once while they stay the same."""
        if self.sketched is None or self.sketched[0] is not codes:
            self.sketched = None
            self.sketched = (codes, index_sketches(codes, self.progress))
        return self.sketched[1]

    def close(self) -> None:
        """Close the genome."""
        if self.genome is not None:
            self.genome.close()

    def read_intervals(self, path: Path, role: str) -> Intervals:
        """Read a BED file once, and add it to the sources."""
        from ebox.sequences.intervals import read_bed

        digest = hashlib.sha256()
        intervals = read_bed(path, on_bytes=digest.update)
        self.log.sources.append(Source(str(path), role, len(intervals), digest.hexdigest()))
        return intervals

    def open_blacklist(self) -> Intervals | None:
        """The blacklist, read once; None without one."""
        if self.blacklist is None and self.files.blacklist is not None:
            self.blacklist = self.read_intervals(self.files.blacklist, "blacklist")
        return self.blacklist

    def add_genome(self) -> int:
        """Add the genome to the sources where it is not among them yet; return its index there."""
        genome = self.open_genome()
        roles = [source.role for source in self.log.sources]
        if "genome" not in roles:
            self.log.sources.append(Source(str(genome.path), "genome", len(genome.chroms), hash_file(genome.path)))
        return [*roles, "genome"].index("genome")
