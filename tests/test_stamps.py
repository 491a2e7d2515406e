"""Stamps: a file says its format and version, and another one is refused with the remedy."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ebox.datasets.sources import read_sources
from ebox.errors import InputError
from ebox.evaluation.reading import read_protocol
from ebox.settings.reading import Config
from ebox.storage import stamps
from ebox.storage.publishing import write_json
from ebox.storage.stamps import Format, OtherFormatError, check_stamp, read_stamped, stamped, write_stamped
from ebox.verbs.run import find_simulation
from ebox.version import __version__

KIND = Format("ebox-thing", 3, "make it again with `ebox thing`")


def test_facts_come_back_below_their_stamp(tmp_path: Path):
    write_stamped(tmp_path / "a.json", KIND, {"value": 1.5})
    facts = read_stamped(tmp_path / "a.json", KIND)
    assert list(facts) == ["format", "format_version", "ebox_version", "created", "value"]
    assert (facts["format"], facts["format_version"], facts["value"]) == ("ebox-thing", 3, 1.5)
    assert facts["ebox_version"] == __version__
    age = datetime.now(UTC) - datetime.fromisoformat(facts["created"])
    assert timedelta(seconds=-1) < age < timedelta(minutes=5)


def test_a_time_that_is_given_is_kept():
    assert stamped(KIND, {}, created="2026-01-02T03:04:05+00:00")["created"] == "2026-01-02T03:04:05+00:00"


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ([], "not of the format ebox-thing .found 'list'"),
        (None, "found 'NoneType'"),
        ({"format_version": 3}, "found None"),
        ({"format": "ebox-other", "format_version": 3}, "found 'ebox-other'"),
        ({"format": "ebox-thing"}, "is of ebox-thing version None, written by ebox unknown"),
        ({"format": "ebox-thing", "format_version": 2, "ebox_version": "0.1"}, "version 2, written by ebox 0.1"),
        ({"format": "ebox-thing", "format_version": 4}, "version 4, .* reads version 3"),
    ],
)
def test_another_format_or_version_is_refused_with_the_remedy(tmp_path: Path, facts: object, problem: str):
    write_json(tmp_path / "a.json", facts)
    with pytest.raises(OtherFormatError, match=problem) as caught:
        read_stamped(tmp_path / "a.json", KIND)
    assert caught.value.remedy == KIND.remedy
    with pytest.raises(OtherFormatError):
        check_stamp(facts, KIND, "a.json")


def test_older_versions_are_read_where_their_readers_can_do_without():
    kind = Format("ebox-thing", 3, "make it again with `ebox thing`", older=(2,))
    for version in (2, 3):
        facts = {"format": "ebox-thing", "format_version": version}
        assert check_stamp(facts, kind, "a.json") is facts
    for version in (1, 4):
        with pytest.raises(OtherFormatError):
            check_stamp({"format": "ebox-thing", "format_version": version}, kind, "a.json")
    older = {kind.name: kind.older for kind in vars(stamps).values() if isinstance(kind, Format) and kind.older}
    assert older == {"ebox-evaluation": (3, 4), "ebox-model": (1,)}


def test_the_versions_of_the_formats_change_on_purpose_alone():
    found = {kind.name: kind.version for kind in vars(stamps).values() if isinstance(kind, Format)}
    assert found == {
        "ebox-bench": 1,
        "ebox-checkpoint": 2,
        "ebox-dataset": 5,
        "ebox-decision": 1,
        "ebox-distilled": 1,
        "ebox-ensemble": 1,
        "ebox-evaluation": 5,
        "ebox-explanation": 3,
        "ebox-filters": 2,
        "ebox-model": 2,
        "ebox-parity": 1,
        "ebox-plan": 2,
        "ebox-report": 4,
        "ebox-scaling": 1,
        "ebox-simulation": 2,
        "ebox-test-reads": 1,
        "ebox-transfer": 1,
        "ebox-tuning": 1,
    }


def test_what_an_older_ebox_wrote_is_refused_by_whoever_reads_it(tmp_path: Path):
    old = json.dumps({"format": "ebox-evaluation", "format_version": 1, "tracks": []})
    (tmp_path / "evaluation.json").write_text(old)
    with pytest.raises(InputError, match=r"ebox-evaluation version 1.*\n.*ebox evaluate"):
        read_protocol(tmp_path, ("bound",))
    for name in ("positives.fa", "negatives.fa"):
        (tmp_path / name).touch()
    (tmp_path / "simulation.json").write_text(json.dumps({"format": "ebox-simulation", "format_version": 1}))
    sources = read_sources(positives=tmp_path / "positives.fa", negatives=(tmp_path / "negatives.fa",))
    with pytest.raises(InputError, match=r"ebox-simulation version 1.*\n.*ebox simulate"):
        find_simulation(sources, Config())


def test_a_network_that_was_not_measured_is_called_at_one_half(tmp_path: Path):
    protocol = read_protocol(tmp_path, ("bound", "open"))
    assert protocol.thresholds == (None, None)
    assert protocol.call_threshold(1) == 0.5
    assert protocol.both_strands
