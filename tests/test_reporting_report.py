import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ebox.drawing.numbers import DASH
from ebox.errors import InputError
from ebox.reporting.languages.english import say
from ebox.reporting.report import write_report
from ebox.reporting.sections.result import make_headline
from test_reporting_reading import make_dataset, make_evaluation, make_quality, make_run_folder

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
OPTIONAL = (
    "environment.json",
    "training.json",
    "metrics.jsonl",
    "quality.json",
    "filters.json",
    "predictions.parquet",
)
VOID = {"meta", "link", "br", "img", "input", "hr", "col"}


class Tags(HTMLParser):
    """Every tag with its attributes, and whether each that opened was closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return make_run_folder(tmp_path / "run")


def _change(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def _text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page[page.index("<body>") :]))


def test_the_page_is_whole_and_needs_nothing_else(run_folder: Path) -> None:
    target = write_report(run_folder)
    assert target == run_folder / "report.html"
    page = target.read_text(encoding="utf-8")
    parsed = Tags(page)
    assert parsed.open == []
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"script", "iframe", "object", "embed", "base", "form"})
    links = [value for _, found in parsed.tags for key, value in found.items() if key in ("href", "src")]
    assert all(link is not None and link.startswith(("#", "data:")) for link in links)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert dict(parsed.tags)["html"] == {"lang": "en"}


def test_the_page_says_where_windows_stand_and_why_the_split_was_taken(run_folder: Path) -> None:
    quality = make_quality()
    quality["sources"][0] |= {"on_summits": 5000, "on_middles": 150}
    reason = {"why": "some_placed", "num_without_place": 1, "num_examples": 20600, "record": "odd"}
    quality["split"] = {"mode": "random", "fractions": [0.7, 0.2, 0.1], "seed": 0, **reason}
    quality["warnings"] = [{"code": "some_placed", **reason}]
    _change(run_folder, "quality.json", quality)
    text = _text(write_report(run_folder).read_text(encoding="utf-8"))
    assert "5,000 windows of peaks.narrowPeak around summits, 150 around middles." in text
    assert "since 1 of 20,600 examples name no place" in text
    assert "the first of them" in text


def test_every_table_has_heads_and_every_figure_a_name(run_folder: Path) -> None:
    page = write_report(run_folder).read_text(encoding="utf-8")
    parsed = Tags(page)
    assert all("scope" in found for tag, found in parsed.tags if tag == "th")
    pictures = [found for tag, found in parsed.tags if tag == "svg"]
    assert len(pictures) > 10
    assert all(found["role"] == "img" and found["aria-labelledby"] for found in pictures)
    assert [tag for tag, _ in parsed.tags].count("h1") == 1


def test_the_same_files_give_the_same_bytes(run_folder: Path, tmp_path: Path) -> None:
    first, second = (
        write_report(run_folder, tmp_path / "a.html"),
        write_report(run_folder, tmp_path / "b.html"),
    )
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_numbers_stand_on_the_page_and_in_the_json(run_folder: Path) -> None:
    page = _text(write_report(run_folder).read_text(encoding="utf-8"))
    facts = json.loads((run_folder / "report.json").read_text(encoding="utf-8"))
    for words in (
        "This made the data and trained the network:",
        "Too much N",
        "0.955",
        "0.949 to 0.961",
        "6-mer logistic",
        "GATA1::TAL1",
        "chr1, chr8 and chr9",
        "198,417",
    ):
        assert words in page
    assert facts["format"] == "ebox-report"
    assert facts["headlines"][0]["verdict"] == "better"
    assert facts["tracks"][0]["splits"]["test"]["num_positive"] == 900
    assert facts["data"]["dropped"] == make_quality()["dropped"]
    assert facts["commands"] == [
        {
            "did": ["data", "training"],
            "line": "ebox run --peaks 'TAL1 peaks.narrowPeak' --genome genome.fa --out run",
        }
    ]


def test_a_metric_of_the_evaluation_has_its_row_in_the_order_of_the_file(run_folder: Path) -> None:
    evaluation = make_evaluation()
    metrics = evaluation["tracks"][0]["splits"]["test"]["metrics"]
    evaluation["tracks"][0]["splits"]["test"]["metrics"] = {"f1": {"value": 0.8125, "low": 0.8, "high": 0.9}, **metrics}
    _change(run_folder, "evaluation.json", evaluation)
    page = _text(write_report(run_folder).read_text())
    assert re.search(r"f1 0\.8125? .*Balanced accuracy", page)


def test_no_folder_of_the_machine_is_told(run_folder: Path) -> None:
    write_report(run_folder)
    for name in ("report.html", "report.json"):
        text = (run_folder / name).read_text(encoding="utf-8")
        assert "/data/tal1" not in text
        assert "/opt/venv" not in text
        assert str(run_folder) not in text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    import polars as pl

    folder = make_run_folder(tmp_path / "run<b>&")
    evaluation, dataset, quality = make_evaluation(HOSTILE), make_dataset(), make_quality()
    test = evaluation["tracks"][0]["splits"]["test"]
    test["by_kind"] = {HOSTILE: test["by_kind"]["matched"]}
    evaluation["tracks"][0]["histogram"]["counts"][HOSTILE] = [1] * 50
    evaluation["tracks"][0]["baselines"][HOSTILE] = evaluation["tracks"][0]["baselines"]["best_pwm"]
    evaluation["tracks"][0]["curves"]["roc"][HOSTILE] = {"x": [0, 1], "y": [0, 1]}
    dataset |= {"tracks": [HOSTILE], "kinds": ["positive", HOSTILE], "command": ["ebox", HOSTILE]}
    dataset["sources"][0]["path"] = f"/x/{HOSTILE.replace('/', '')}"
    quality |= {"dropped": {HOSTILE: 3}, "warnings": [{"code": HOSTILE}]}
    filters = json.loads((folder / "filters.json").read_text())
    filters["filters"][0]["resembles"]["name"] = filters["filters"][0]["consensus"] = HOSTILE
    environment = json.loads((folder / "environment.json").read_text())
    environment |= {"cpu": HOSTILE, "command": ["ebox", "train", HOSTILE], "packages": {HOSTILE: HOSTILE}}
    for name, value in {
        "evaluation.json": evaluation,
        "dataset.json": dataset,
        "quality.json": quality,
        "filters.json": filters,
        "environment.json": environment,
    }.items():
        _change(folder, name, value)
    table = pl.read_parquet(folder / "predictions.parquet")
    table.rename({"target_TAL1": f"target_{HOSTILE}", "probability_TAL1": f"probability_{HOSTILE}"}).with_columns(
        name=pl.lit(HOSTILE)
    ).write_parquet(folder / "predictions.parquet")
    page = write_report(folder).read_text(encoding="utf-8")
    parsed = Tags(page)
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"script", "img", "b&"})
    assert not any(key.startswith("on") for _, found in parsed.tags for key in found)
    assert page.count("&lt;script&gt;") > 10


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_report_is_written_without_each_optional_file(run_folder: Path, name: str) -> None:
    (run_folder / name).unlink()
    page = write_report(run_folder).read_text(encoding="utf-8")
    assert Tags(page).open == []
    assert name in _text(page)


def test_a_report_is_written_from_the_required_files_alone(run_folder: Path) -> None:
    for name in OPTIONAL:
        (run_folder / name).unlink()
    bare = make_evaluation()
    track = bare["tracks"][0]
    for key in ("baselines", "comparison", "curves", "calibration", "histogram", "threshold"):
        del track[key]
    track["splits"] = {"test": {"metrics": {"auroc": {"value": 0.9}}}}
    _change(run_folder, "evaluation.json", bare)
    text = _text(write_report(run_folder).read_text(encoding="utf-8"))
    assert "No baseline was measured" in text
    assert "0.900" in text


def test_an_evaluation_that_lacks_numbers_is_refused_and_nothing_written(run_folder: Path) -> None:
    broken = make_evaluation()
    broken["tracks"][0]["comparison"] = {"baseline": "kmer_logistic"}
    _change(run_folder, "evaluation.json", broken)
    with pytest.raises(InputError, match="does not hold what it should"):
        write_report(run_folder)
    assert not (run_folder / "report.html").exists()
    assert not (run_folder / "report.json").exists()


def test_simulated_data_show_the_ceiling(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", simulated=True)
    text = _text(write_report(folder).read_text(encoding="utf-8"))
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert facts["ceiling"]["metrics"]["auroc"]["value"] == 0.988
    assert facts["ceiling"]["num_examples"] == 20000
    assert "Best possible" in text
    assert "tidier than real ones" in text
    assert "1 to 2 planted sites of GATA1::TAL1 (MA0140.3), on either strand" in text
    assert "chromosomes were held out" not in text


def test_a_ceiling_is_compared_on_the_negatives_that_were_simulated(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", simulated=True)
    evaluation = make_evaluation()
    kinds = evaluation["tracks"][0]["splits"]["test"]["by_kind"]
    kinds["given"] = kinds.pop("matched")
    _change(folder, "evaluation.json", evaluation)
    page = write_report(folder).read_text(encoding="utf-8")
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert facts["ceiling"]["kind"] == "given"
    assert facts["ceiling"]["network"]["auroc"] == kinds["given"]["metrics"]["auroc"]
    assert "Best possible (likelihood ratio)" not in page


def test_warnings_of_the_data_are_shown(run_folder: Path) -> None:
    leak = {"code": "leak_equal", "of": "test", "in": "train", "num": 12, "num_examples": 90}
    _change(run_folder, "quality.json", {**make_quality(), "warnings": [leak]})
    text = _text(write_report(run_folder).read_text(encoding="utf-8"))
    assert "leakage: 12 of 90 test sequences also stand in train" in text
    assert "nothing to warn of" not in text


def test_the_shares_of_n_and_of_repeats_stand_beside_gc_for_each_kind(run_folder: Path) -> None:
    quality = make_quality()
    page = write_report(run_folder).read_text(encoding="utf-8")
    assert "Repeats of the genome" not in page
    quality["confounds"] = {"positive": {"masked": {"mean": 0.283}}, "matched": {"masked": {"mean": 0.291}}}
    quality["made"]["matched"]["repeats"] = {"known_from": "letters", "by_gc_alone": 0.447}
    quality["kinds"]["positive"]["n"] = {"num_examples_with_n": 4, "mean": 0.0021}
    _change(run_folder, "quality.json", quality)
    page = write_report(run_folder).read_text(encoding="utf-8")
    assert Tags(page).open == []
    text = _text(page)
    assert "53.1 % ± 8.0 % 0.21 % 28.3 %" in text
    assert f"52.9 % ± 8.0 % {DASH} 29.1 % by GC alone 44.7 %" in text
    assert f"53.1 % ± 8.0 % {DASH} {DASH}" in text
    kinds = json.loads((run_folder / "report.json").read_text(encoding="utf-8"))["data"]["kinds"]
    assert [kind["repeats_mean"] for kind in kinds] == [0.283, 0.291, None]


def test_every_track_is_shown(run_folder: Path) -> None:
    evaluation = make_evaluation()
    evaluation["tracks"].append(make_evaluation("GATA1", seed=5)["tracks"][0])
    _change(run_folder, "evaluation.json", evaluation)
    _change(run_folder, "dataset.json", {**make_dataset(), "tracks": ["TAL1", "GATA1"]})
    page = write_report(run_folder).read_text(encoding="utf-8")
    ids = [found["id"] for _, found in Tags(page).tags if "id" in found]
    assert len(ids) == len(set(ids))
    assert "“TAL1” or “GATA1”" in _text(page)


def test_what_could_not_be_measured_is_said(run_folder: Path) -> None:
    evaluation = make_evaluation("GATA1")
    reason, one_class = {"code": "no_positives"}, {"code": "one_class", "in": "train"}
    nothing = {"num_examples": 90, "num_positive": 0, "metrics": None, "reason": reason}
    section = {**nothing, "by_kind": {"matched": nothing}, "balanced": {"threshold": None, "metrics": None}}
    unmeasured = {
        "track": "EMPTY",
        "threshold": {"value": 0.5, "criterion": None, "split": None, "reason": reason},
        "splits": {"validation": section, "test": section},
        "baselines": {
            "best_pwm": {
                "description": None,
                "settings": {},
                "reason": one_class,
                "splits": {},
            }
        },
        "comparison": None,
        "curves": None,
        "calibration": None,
        "histogram": None,
    }
    measured = evaluation["tracks"][0]
    measured["splits"]["test"]["by_kind"]["matched"] = nothing
    measured["baselines"]["best_pwm"] = unmeasured["baselines"]["best_pwm"]
    evaluation["tracks"].insert(0, unmeasured)
    _change(run_folder, "evaluation.json", evaluation)
    page = write_report(run_folder).read_text(encoding="utf-8")
    assert "“GATA1”" in page[page.index("<h1>") : page.index("</h1>")]
    assert "Not measured: the test split holds no positives" in _text(page)
    assert "in the train split there is one class only." in _text(page)


BETTER, EQUAL, WORSE = (0.01, 0.02), (-0.01, 0.02), (-0.03, -0.02)


@pytest.mark.parametrize(
    ("auroc", "differences", "verdict"),
    [
        ({"value": 0.52, "low": 0.49, "high": 0.55}, (BETTER, BETTER), "none"),
        ({"value": 0.9, "low": 0.89, "high": 0.91}, (BETTER, BETTER), "better"),
        ({"value": 0.9, "low": 0.89, "high": 0.91}, (BETTER, EQUAL), "partly"),
        ({"value": 0.9, "low": 0.89, "high": 0.91}, (EQUAL, EQUAL), "equal"),
        ({"value": 0.9, "low": 0.89, "high": 0.91}, (EQUAL, WORSE), "worse"),
        ({"value": 0.9, "low": 0.89, "high": 0.91}, (WORSE, BETTER), "mixed"),
        ({"value": 0.9, "low": 0.89, "high": 0.91}, None, "alone"),
    ],
)
def test_the_verdict_follows_the_intervals(
    auroc: dict[str, float], differences: tuple[tuple[float, float], tuple[float, float]] | None, verdict: str
) -> None:
    track = make_evaluation()["tracks"][0]
    track["splits"]["test"]["metrics"]["auroc"] = auroc
    track["comparison"] = None
    if differences is not None:
        tests = {
            metric: {"difference": {"value": (low + high) / 2, "low": low, "high": high}, "p_value": 0.2}
            for metric, (low, high) in zip(("auroc", "auprc"), differences, strict=True)
        }
        track["comparison"] = {"baseline": "kmer_logistic", "split": "test", "tests": tests}
    headline = make_headline(track, 6)
    assert headline["verdict"] == verdict
    sentences = " ".join(say(sentence) for sentence in headline["sentences"])
    assert ("which is no more than chance explains" in sentences) == (differences is not None and EQUAL in differences)
    title = say(headline["title"])
    assert ("in AUROC better" in title) == (verdict == "partly")
    assert ("in AUPRC better and in AUROC worse" in title) == (verdict == "mixed")


def test_the_page_says_what_happens_where_positives_are_rarer(run_folder: Path) -> None:
    text = _text(write_report(run_folder).read_text(encoding="utf-8"))
    assert "Where positives are rarer." in text
    assert "1 : 1,000" in text
    assert "an interval needs 100,000 independent negatives; there are 2,700" in text
    assert "At no more than 10 % false calls" in text
    assert "0.970; finds 80.0 %" in text
    assert "2,250 independent validation negatives are too few to promise at most 10 % false calls" in text
    # log(0.001 / 0.999) - log(0.25 / 0.75)
    assert "5.81 is added to the log-odds (natural logarithm): 0.5 becomes 0.0030" in text


def test_a_run_too_small_to_measure_has_no_headline_of_numbers(run_folder: Path) -> None:
    evaluation = json.loads((run_folder / "evaluation.json").read_text())
    test = evaluation["tracks"][0]["splits"]["test"]
    test["no_interval"] = {"code": "few_clusters", "positive": 3, "negative": 90, "needed": 15}
    for entry in test["metrics"].values():
        entry["low"] = entry["high"] = None
    _change(run_folder, "evaluation.json", evaluation)
    page = write_report(run_folder).read_text(encoding="utf-8")
    top = page[page.index("<h1>") : page.index("</h1>")]
    assert "Too few independent test sequences to say anything" in top
    result = page[page.index('<div id="result">') : page.index('<section id="question"')]
    assert "Independent positives: 3, independent negatives: 90" in result
    assert "AUROC" not in result


def test_too_few_to_measure_have_no_verdict_and_the_sentence_says_how_many_are_needed() -> None:
    track = make_evaluation()["tracks"][0]
    test = track["splits"]["test"]
    test["no_interval"] = {"code": "few_clusters", "positive": 3, "negative": 90, "needed": 15}
    for entry in test["metrics"].values():
        entry["low"] = entry["high"] = None
    for entry in track["comparison"]["tests"].values():
        entry["difference"] |= {"low": None, "high": None}
        entry["p_value"] = None
    headline = make_headline(track, 6)
    assert headline["verdict"] == "few"
    (sentence,) = headline["sentences"]
    assert "Independent positives: 3, independent negatives: 90" in say(sentence)
    assert "needs 15 of each or more" in say(sentence)


def test_the_headline_knows_of_test_sequences_that_trained(run_folder: Path) -> None:
    write_report(run_folder)
    assert "which played no part in training" in _text((run_folder / "report.html").read_text())
    quality = json.loads((run_folder / "quality.json").read_text())
    pair = next(pair for pair in quality["audit"]["between"] if (pair["of"], pair["in"]) == ("test", "train"))
    pair["exact"]["num_examples"] += 7
    seen = sum(pair[key]["num_examples"] for key in ("exact", "reverse_complement", "overlap"))
    _change(run_folder, "quality.json", quality)
    write_report(run_folder)
    text = _text((run_folder / "report.html").read_text())
    assert f"of which {seen:,} also stand in the training split" in text
    assert "which played no part in training" not in text


@pytest.mark.parametrize(("num", "words"), [(1, "was read once."), (3, "was read 3 times."), (None, "")])
def test_the_page_says_how_often_the_test_split_was_read(run_folder: Path, num: int | None, words: str) -> None:
    if num is not None:
        _change(run_folder, "evaluation.json", {**make_evaluation(), "test_reads": {"num_reads": num}})
    page = _text(write_report(run_folder).read_text())
    told = f"With this network the test split {words}"
    assert told in page if words else "the test split was read" not in page


def test_the_settings_shown_are_those_that_were_used(run_folder: Path) -> None:
    evaluation = json.loads((run_folder / "evaluation.json").read_text())
    evaluation["config"] |= {"threshold": "mcc", "baselines": []}
    evaluation["command"] = ["/opt/bin/ebox", "evaluate", "tal1", "--set", "evaluation.threshold=mcc"]
    _change(run_folder, "evaluation.json", evaluation)
    write_report(run_folder)
    facts = json.loads((run_folder / "report.json").read_text())
    assert facts["settings"]["evaluation"]["threshold"] == "mcc"
    assert facts["commands"][-1] == {
        "did": ["evaluation"],
        "line": "ebox evaluate tal1 --set evaluation.threshold=mcc",
    }


def test_a_baseline_that_was_handed_the_planted_motif_is_told_of() -> None:
    track = make_evaluation()["tracks"][0]
    track["baselines"]["best_pwm"]["settings"] = {"motif": "MA0140.3"}
    worse = {"difference": {"value": -0.02, "low": -0.03, "high": -0.01}, "p_value": 0.001}
    track["comparison"] |= {"baseline": "best_pwm", "tests": {"auroc": worse, "auprc": worse}}
    for planted, told in ((["MA0140.3"], True), (["MA0091.2"], False), ([], False)):
        headline = make_headline(track, 6, planted)
        assert headline["verdict"] == "worse"
        sentences = " ".join(say(sentence) for sentence in headline["sentences"])
        assert ("the very motif that was planted" in sentences) == told
        assert ("planted motif itself" in say(headline["title"])) == told


def test_a_place_that_is_no_page_is_refused(run_folder: Path, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "report.json"):
        with pytest.raises(InputError, match="not the name of an HTML file"):
            write_report(run_folder, place)


def test_a_report_replaces_no_other_file_of_the_run(run_folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in run_folder.iterdir() if path.is_file()}
    with pytest.raises(InputError, match="not the name of an HTML file"):
        write_report(run_folder, run_folder / "config.toml")
    with pytest.raises(InputError, match="which is not a report"):
        write_report(run_folder, run_folder / "evaluation.html")
    assert {path.name: path.read_bytes() for path in run_folder.iterdir() if path.is_file()} == before
    for _ in range(2):
        assert write_report(run_folder, run_folder / "other.html").exists()


def test_a_number_that_json_lacks_is_refused_and_nothing_written(run_folder: Path) -> None:
    evaluation = json.loads((run_folder / "evaluation.json").read_text())
    evaluation["tracks"][0]["splits"]["test"]["metrics"]["auroc"]["low"] = float("inf")
    _change(run_folder, "evaluation.json", evaluation)
    with pytest.raises(InputError, match="does not hold what it should"):
        write_report(run_folder)
    assert not (run_folder / "report.json").exists()
