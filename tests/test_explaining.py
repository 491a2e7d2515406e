"""`ebox explain` from end to end on a small trained run: its files, its report, and what bad input gets."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import ebox
import processes
from ebox.errors import InputError
from ebox.evaluation.windows import cut_windows, plan_windows
from ebox.explanation import locus
from ebox.explanation.study import Study
from ebox.models import files
from ebox.reporting.languages.english import say
from ebox.sequences import SimulationConfig, draw_simulation, read_bed, read_motifs, read_sequences, write_simulation
from ebox.settings.reading import Config, ExplanationConfig, ParallelConfig, make_config
from ebox.storage.publishing import claim_folder
from ebox.storage.run_folder import EXPLANATION_WORK
from ebox.verbs.explain import describe

LENGTH = 80

QUICK = ExplanationConfig(
    discover=False, num_checked=10, num_backgrounds=10, max_gap_bp=3, num_references=2, num_steps=2, pair=("CAG", "GAT")
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained for a moment on planted composites, with the truth beside its sources."""
    folder = tmp_path_factory.mktemp("explaining")
    config = SimulationConfig(motifs=("MA0140.3",), length_bp=LENGTH, num_positives=400, num_negatives=400)
    write_simulation(draw_simulation(config), folder / "simulation")
    sources = ebox.DatasetSources(
        positives=folder / "simulation" / "positives.fa", negatives=(folder / "simulation" / "negatives.fa",)
    )
    settings = {
        "model": {"architecture": "motif", "num_filters": 8, "dense_units": [8]},
        "train": {"max_steps": 500, "validations": 1},
        "evaluation": {"num_bootstrap": 100, "baselines": []},
        "parallel": {"devices": 1},
    }
    ebox.run(folder / "run", sources, make_config(settings))
    return folder / "run"


@pytest.fixture
def fresh(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may change."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def whole(config: ExplanationConfig) -> Config:
    """Settings with those of an explanation, on one device."""
    return Config(explanation=config, parallel=ParallelConfig(devices=1))


def write(path: Path, **records: str) -> Path:
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in records.items()))
    return path


def test_an_explanation_holds_what_its_format_says(fresh: Path):
    result = ebox.explain(fresh, config=whole(QUICK))
    facts = json.loads((fresh / "explanation" / "explanation.json").read_text())
    assert facts == json.loads(json.dumps(result.facts))
    assert facts["attribution"]["completeness_error"] < 1e-4
    assert facts["sequences"]["num"] > 0
    assert facts["motifs"] == []
    assert facts["motifs_reason"] == {"code": "discovery_left_out"}
    assert "left out" in say(facts["motifs_reason"])
    assert facts["grammar"]["pair"]["best"]["gap_bp"] in range(4)
    recovery = {entry["method"]: entry["auroc"]["value"] for entry in facts["proof"]["recovery"]}
    assert set(recovery) == {"deeplift", "saturation", "integrated", "gradient"}
    # The composite has columns between its halves that say nothing, so not every planted base can count.
    assert recovery["deeplift"] > 0.7
    assert len(facts["proof"]["agreement"]) == 6
    arrays = np.load(fresh / "explanation" / "contributions.npz")
    assert arrays["contributions"].shape == (facts["sequences"]["num"], LENGTH)
    sums = arrays["contributions"].sum(axis=1)
    np.testing.assert_allclose(sums, arrays["logit"] - arrays["reference"], atol=1e-3)
    for name in facts["files"]["logos"]:
        assert (fresh / "explanation" / name).stat().st_size > 200
    assert not (fresh / EXPLANATION_WORK).exists()
    assert "completeness error" in describe(result)


def test_the_report_shows_the_explanation_with_its_checks(fresh: Path):
    before = ebox.report(fresh).read_text()
    assert "What it has learned" not in before
    ebox.explain(fresh, config=whole(QUICK.model_copy(update={"method": "gradient"})))
    page = ebox.report(fresh).read_text()
    assert "What it has learned" in page
    assert "How sure is this explanation?" in page
    assert "do not add up" in page
    assert json.loads((fresh / "report.json").read_text())["learned"]["checks"]


@pytest.mark.slow
def test_the_same_explanation_twice(fresh: Path):
    config = QUICK.model_copy(update={"proof": False})
    first, second = (ebox.explain(fresh, config=whole(config)).facts for _ in range(2))
    first.pop("created"), second.pop("created")
    assert first == second


def test_another_seed_is_compared(run: Path, fresh: Path):
    facts = ebox.explain(fresh, config=whole(QUICK), against=run).facts
    assert facts["proof"]["seeds"]["spearman"]["value"] == pytest.approx(1.0)


@pytest.mark.slow
def test_discovery_of_a_planted_motif_from_end_to_end(fresh: Path):
    config = QUICK.model_copy(update={"discover": True, "sequences": "positive", "pair": None})
    facts = ebox.explain(fresh, config=whole(config)).facts
    kept = [entry for entry in json.loads((fresh / "filters.json").read_text())["filters"] if entry["num_sites"] >= 20]
    assert kept
    assert [entry["index"] for entry in facts["filters"]] == sorted(entry["index"] for entry in kept)
    assert all(match["is_find"] == (match["q_value"] <= 0.05) for own in facts["filters"] for match in own["matches"])
    names = [motif.name for motif in read_motifs(fresh / "explanation" / facts["files"]["filters"])]
    assert names == [entry["name"] for entry in facts["filters"]]
    if not facts["motifs"]:
        assert facts["motifs_reason"] == {"code": "nothing_recurs", "num_searched": facts["sequences"]["num"]}
        return
    first = facts["motifs"][0]
    (motif, *_) = read_motifs(fresh / "explanation" / "motifs.meme")
    np.testing.assert_allclose(motif.probabilities, first["probabilities"], atol=1e-4)
    assert all(match["is_find"] == (match["q_value"] <= 0.05) for match in first["matches"])
    hits = (fresh / "explanation" / "hits.bed").read_text().splitlines()
    assert len(hits) == sum(entry["num_hits"] for entry in facts["motifs"])
    assert ebox.report(fresh).is_file()


def test_a_failure_of_discovery_is_not_told_as_nothing_found(fresh: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(folder: Path, progress: object) -> None:
        (folder / "motifs.json").write_text(
            json.dumps({"motifs": [], "reason": "IndexError: out of bounds", "filter_matches": []})
        )

    monkeypatch.setattr("ebox.explanation.discovery._run", fail)
    monkeypatch.setattr("ebox.explanation.writing.read_own_filters", lambda run: [])
    config = QUICK.model_copy(update={"discover": True, "proof": False, "grammar": False})
    facts = ebox.explain(fresh, config=whole(config)).facts
    assert facts["motifs_reason"] == {"code": "discovery_stopped", "error": "IndexError: out of bounds"}
    assert "IndexError: out of bounds" in say(facts["motifs_reason"])
    assert "recurs" not in say(facts["motifs_reason"])
    assert facts["sequences"]["num_searched"] == facts["sequences"]["num"]


def test_sequences_of_any_length_are_explained_and_what_was_done_is_said(run: Path, tmp_path: Path):
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 300))
    fasta = tmp_path / "locus.fa"
    fasta.write_text(
        f">chr7:1000-1300\n{letters}\n>short\n{letters[:50]}\n>holes\n{letters[:30]}NNNNN{letters[35:80]}\n"
    )
    result = ebox.explain(run, fasta=fasta, out=tmp_path / "locus", config=whole(QUICK))
    sequences = result.facts["sequences"]
    assert (sequences["num"], sequences["num_windowed"], sequences["num_padded"], sequences["num_with_n"]) == (
        3,
        1,
        1,
        1,
    )
    words = describe(result)
    assert "windows" in words
    assert "padded" in words
    rows = [line.split("\t") for line in (tmp_path / "locus" / "contributions.tsv").read_text().splitlines()[1:]]
    assert len(rows) == 300 + 50 + 80
    assert rows[0][4:] == ["chr7", "1000"]
    assert all(float(row[3]) == 0 for row in rows if row[2] == "N")
    import pyBigWig

    file = pyBigWig.open(str(tmp_path / "locus" / "contributions.bw"))
    np.testing.assert_allclose(file.values("chr7", 1000, 1300), [float(row[3]) for row in rows[:300]], rtol=1e-4)
    file.close()
    assert (tmp_path / "locus" / result.facts["files"]["logos"][0]).is_file()
    with pytest.raises(InputError, match="already exists"):
        ebox.explain(run, fasta=fasta, out=tmp_path / "locus", config=whole(QUICK))


def test_bad_input_is_named_and_leaves_nothing(run: Path, tmp_path: Path):
    bad_meme = tmp_path / "bad.meme"
    bad_meme.write_text(
        "MEME version 4\n\nMOTIF x\nletter-probability matrix: alength= 4 w= 2\n0.5 0.5 0 0\n0.5 zebra 0 0\n"
    )
    elsewhere = tmp_path / "elsewhere.bed"
    elsewhere.write_text("another_record\t3\t9\n")
    short = tmp_path / "empty"
    (short / "checkpoints").mkdir(parents=True)
    n_only = write(tmp_path / "n.fa", a="ACGT" * 20, b="N" * 80)
    cases = [
        ({"run": short}, "training has begun but not ended"),
        ({"run": tmp_path / "nowhere"}, "no such run folder"),
        ({"config": whole(QUICK.model_copy(update={"track": "bonud"}))}, "did you mean 'bound'"),
        ({"motifs": (bad_meme,)}, "bad.meme, line 6: found 'zebra'"),
        ({"config": whole(QUICK.model_copy(update={"pair": ("MA0140.33", "CAG")}))}, "MA0140.3"),
        ({"fasta": n_only, "out": tmp_path / "o"}, "nothing but N"),
        ({"fasta": n_only}, "--out"),
        ({"fasta": tmp_path / "absent.fa", "out": tmp_path / "o"}, "absent.fa"),
        ({"fasta": n_only, "out": run}, "run folder"),
        ({"fasta": n_only, "out": run / "explanation"}, "folder of the test set's explanation"),
        ({"fasta": n_only, "out": tmp_path / "o", "motifs": (elsewhere,)}, "--motifs has no meaning"),
        ({"fasta": n_only, "out": tmp_path / "o", "planted": elsewhere}, "--planted has no meaning"),
        ({"fasta": n_only, "out": tmp_path / "o", "against": run}, "without --fasta"),
        ({"planted": elsewhere}, "elsewhere.bed: names none of the explained sequences"),
    ]
    for changed, words in cases:
        arguments = {"run": run, "config": whole(QUICK), **changed}
        with pytest.raises(InputError) as error:
            ebox.explain(arguments.pop("run"), **arguments)
        assert words in str(error.value), changed
    assert not (tmp_path / "o").exists()
    assert not (run / "explanation").exists()


def test_a_report_refuses_the_explanation_of_a_file(fresh: Path, tmp_path: Path):
    fasta = write(tmp_path / "l.fa", a="ACGT" * 20)
    ebox.explain(fresh, fasta=fasta, out=tmp_path / "l", config=whole(QUICK))
    shutil.copytree(tmp_path / "l", fresh / "explanation")
    with pytest.raises(InputError, match=r"explanation\.json: explains sequences of a file"):
        ebox.report(fresh)


def test_what_can_be_refused_is_refused_before_anything_is_computed(fresh: Path, monkeypatch: pytest.MonkeyPatch):
    def run(*_: object) -> None:
        raise AssertionError("computed first")

    monkeypatch.setattr(Study, "run", run)
    model = files.load_model(fresh)
    other = dataclasses.replace(model, tracks=("another",))
    monkeypatch.setattr(files, "load_model", lambda folder: other if folder.name == "other" else model)
    with pytest.raises(InputError, match="trained with another seed"):
        ebox.explain(fresh, config=whole(QUICK), against=fresh.parent / "other")
    (fresh / "explanation").mkdir()
    (fresh / "explanation" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="was not made by this command"):
        ebox.explain(fresh, config=whole(QUICK))
    assert (fresh / "explanation" / "mine.txt").exists()


def test_two_processes_do_not_explain_into_one_folder(run: Path, tmp_path: Path):
    fasta, part = write(tmp_path / "l.fa", a="ACGT" * 20), tmp_path / ".l.part"
    part.mkdir()
    with claim_folder(part), pytest.raises(InputError, match="another ebox"):
        ebox.explain(run, fasta=fasta, out=tmp_path / "l", config=whole(QUICK))
    assert not (tmp_path / "l").exists()
    ebox.explain(run, fasta=fasta, out=tmp_path / "l", config=whole(QUICK))
    assert (tmp_path / "l" / "explanation.json").is_file()
    assert not part.exists()


def test_nothing_over_the_threshold_is_said_with_a_way_out(fresh: Path):
    evaluation = json.loads((fresh / "evaluation.json").read_text())
    evaluation["tracks"][0]["threshold"]["value"] = 1.1
    (fresh / "evaluation.json").write_text(json.dumps(evaluation))
    with pytest.raises(InputError, match="reaches the threshold") as error:
        ebox.explain(fresh, config=whole(QUICK))
    assert "explanation.sequences=positive" in str(error.value)
    assert not (fresh / "explanation").exists()


def test_a_missing_part_names_the_command_that_installs_it(run: Path, monkeypatch: pytest.MonkeyPatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "modiscolite" else find(name))
    with pytest.raises(
        InputError, match=r"pip install 'matplotlib>=\S+ 'memelite>=\S+ 'modisco-lite>=\S+ '(?i:pybigwig)"
    ):
        ebox.explain(run, config=whole(QUICK.model_copy(update={"discover": True})))


@pytest.mark.slow
def test_the_command_line_explains_and_refuses(fresh: Path):
    command = processes.ebox("explain", fresh, "--method", "gradient")
    settings = ["discover=false", "proof=false", "grammar=false"]
    for setting in settings:
        command += ["--set", f"explanation.{setting}"]
    assert "beware" in processes.run(command).stdout
    for extra, words in ((["--set", "train.epochs=3"], "only explanation."), (["--track", "x"], "no track 'x'")):
        done = processes.run([*command, *extra], ends=2)
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_records_of_any_name_are_explained_and_missing_hits_have_a_reason(fresh: Path, tmp_path: Path):
    fasta = tmp_path / "odd.fa"
    fasta.write_text(f">\n{'ACGT' * 20}\n>a $\\frac$ b\n{'ACGA' * 20}\n")
    result = ebox.explain(fresh, fasta=fasta, out=tmp_path / "odd", config=whole(QUICK))
    assert "was not explained" in say(result.facts["hits_reason"])
    assert "was not explained" in describe(result)
    assert all((tmp_path / "odd" / name).is_file() for name in result.facts["files"]["logos"])
    sharp = (0.94 * np.eye(4)[[0, 1, 2, 3]] + 0.015).tolist()
    motifs = [
        {"name": name, "sign": sign, "probabilities": sharp, "contributions": np.zeros((4, 4)).tolist()}
        for name, sign in (("for", 1), ("against", -1))
    ]
    facts = {"format": "ebox-explanation", "format_version": 2, "kind": "test", "track": "bound", "motifs": motifs}
    place = fresh / "explanation" / "explanation.json"
    place.parent.mkdir()
    config = QUICK.model_copy(update={"hit_p_value": 0.01})

    def hits_with(**changed: object) -> tuple[list[str], dict[str, object] | None]:
        place.write_text(json.dumps({**facts, **changed}))
        found = ebox.explain(fresh, fasta=fasta, out=tmp_path / "odd", config=whole(config), overwrite=True)
        return (tmp_path / "odd" / "hits.bed").read_text().splitlines(), found.facts["hits_reason"]

    lines, reason = hits_with()
    assert reason is None
    assert lines[0].startswith("record_1\t")
    lines, reason = hits_with(track="another")
    assert lines == []
    assert reason is not None
    assert "'another'" in say(reason)
    with pytest.raises(InputError, match="ebox-explanation version 99"):
        hits_with(format_version=99)


@pytest.mark.slow
def test_hits_of_the_run_are_called_in_a_locus(fresh: Path, tmp_path: Path):
    ebox.explain(fresh, config=whole(QUICK))
    path = fresh / "explanation" / "explanation.json"
    facts = json.loads(path.read_text())
    sharp = (0.94 * np.eye(4)[[3, 3, 0, 3, 1, 3]] + 0.015).tolist()
    # Whatever the network makes of the site, it speaks either for or against.
    facts["motifs"] = [
        {"name": name, "sign": sign, "probabilities": sharp, "contributions": np.zeros((6, 4)).tolist()}
        for name, sign in (("for", 1), ("against", -1))
    ]
    path.write_text(json.dumps(facts))
    fasta = write(tmp_path / "l.fa", **{"chr1:50-130": "AC" * 20 + "TTATCT" + "AC" * 17})
    config = QUICK.model_copy(update={"hit_p_value": 1e-3})
    ebox.explain(fresh, fasta=fasta, out=tmp_path / "l", config=whole(config))
    hits = read_bed(tmp_path / "l" / "hits.bed")
    assert (hits.chrom.tolist(), hits.start.tolist(), hits.end.tolist()) == (["chr1"], [90], [96])


def test_the_logo_of_a_long_record_shows_the_site_and_says_where_it_is(tmp_path: Path):
    contributions = np.full(1500, 0.001, np.float32)
    contributions[905:915] = -2.0
    # The window that scores best begins long before its site, and the network reads 1,000 bp.
    found = locus.Locus("far", "A" * 1500, None, contributions, 1.0, 100)
    start, stop = locus._choose_stretch(found)
    assert stop - start == 400
    assert start <= 905
    assert stop >= 915
    files = locus._write_files(tmp_path, [found], [])
    assert f"bases {start + 1:,} to {stop:,} of the record" in (tmp_path / files["logos"][0]).read_text()
    short = locus.Locus("short", "A" * 300, None, contributions[:300], 1.0, 0)
    assert locus._choose_stretch(short) == (0, 300)


def test_windows_cut_in_blocks_are_those_cut_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 500))
    sequences = read_sequences(write(tmp_path / "l.fa", long=letters, short=letters[:30]))
    windows = plan_windows(sequences.lengths, 80)
    whole = cut_windows(sequences, windows.owner, windows.start, 80)
    monkeypatch.setattr(locus, "BLOCK_BASES", 300)
    np.testing.assert_array_equal(locus._cut_all(sequences, windows, 80), whole)
