import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ebox.datasets.audit import audit_splits
from ebox.datasets.examples import DropLog, Dropped, Source, make_examples
from ebox.datasets.folder import EXAMPLE_COLUMNS, hash_file, open_dataset
from ebox.datasets.writing import write_dataset
from ebox.errors import InputError
from ebox.settings.reading import DataConfig


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "tal1"
    folder.mkdir()
    num = 40
    codes = np.random.default_rng(0).integers(0, 5, (num, 24), dtype=np.uint8)
    target = (np.arange(num) % 2).astype(np.uint8)
    place = np.arange(num, dtype=np.int64) * 50
    place[3] = -1
    examples = make_examples(
        codes,
        [f"r{row}" for row in range(num)],
        target=target,
        kind=1 - target.astype(np.int16),
        source=0,
        chrom=np.where(place >= 0, "chr1", "").astype(object),
        start=place,
        end=np.where(place >= 0, place + 24, -1),
    )
    examples.split[:] = np.array([2, 0, 0, 1])[np.arange(num) % 4]
    examples.parent[8] = 7
    log = DropLog([Source("a.fa", "positives", num, "abc")])
    log.add("a.fa", [3, -1], ["x\ty", "z"], Dropped.TOO_SHORT, ["length_bp=3", "length_bp=4"])
    write_dataset(
        folder,
        examples,
        config=DataConfig(track="TAL1", length_bp=24),
        kinds=("positive", "given", "unused"),
        tracks=("TAL1",),
        log=log,
        cluster=np.arange(num)[::-1] // 2,
        made={},
        split={"mode": "random"},
        audit=audit_splits(examples, 0.5, 0),
        command=["ebox", "data", "build"],
    )
    return folder


@pytest.fixture
def dataset(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def _edit_manifest(folder: Path, **changes: object) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_dataset_is_read_back_as_it_was_written(written: Path) -> None:
    dataset = open_dataset(written, "full")
    assert len(dataset) == 40
    assert dataset.length_bp == 24
    assert dataset.tracks == ("TAL1",)
    assert dataset.manifest["kinds"] == ["positive", "given"]
    assert isinstance(dataset.codes, np.memmap)
    assert [dataset.rows(name) for name in ("train", "validation", "test")] == [
        slice(0, 20),
        slice(20, 30),
        slice(30, 40),
    ]
    assert dataset.config == DataConfig(track="TAL1", length_bp=24)
    assert (dataset.is_positive() == (dataset.kinds == "positive")).all()


def test_rows_of_all_files_belong_together(written: Path) -> None:
    dataset = open_dataset(written)
    table = dataset.examples
    assert tuple(table.columns) == EXAMPLE_COLUMNS
    row = table["name"].to_list().index("r8")
    original = np.random.default_rng(0).integers(0, 5, (40, 24), dtype=np.uint8)
    assert (dataset.codes[row] == original[8]).all()
    assert table["start"][row] == 400
    assert table["parent"][row] == table["name"].to_list().index("r7")
    assert table["parent"].null_count() == 39
    unplaced = table.row(table["name"].to_list().index("r3"), named=True)
    assert (unplaced["chrom"], unplaced["start"], unplaced["end"]) == (None, None, None)
    assert table["split"].to_list() == ["train"] * 20 + ["validation"] * 10 + ["test"] * 10


def test_dropped_records_are_listed_without_stray_tabs(written: Path) -> None:
    lines = (written / "dropped.tsv").read_text().splitlines()
    assert lines == [
        "source\tline\trecord\treason\tdetail",
        "a.fa\t3\tx y\ttoo_short\tlength_bp=3",
        "a.fa\t\tz\ttoo_short\tlength_bp=4",
    ]
    assert open_dataset(written).quality["dropped"] == {"too_short": 2}


def test_an_unknown_split_is_named(written: Path) -> None:
    with pytest.raises(InputError, match="no split 'dev'"):
        open_dataset(written).rows("dev")


@pytest.mark.parametrize("name", ["codes.npy", "targets.npy", "examples.parquet", "dropped.tsv"])
def test_a_file_cut_short_is_found(dataset: Path, name: str) -> None:
    whole = (dataset / name).read_bytes()
    (dataset / name).write_bytes(whole[:-3])
    with pytest.raises(InputError, match=rf"{name}: is cut short: (.|\n)*build the dataset again"):
        open_dataset(dataset)


@pytest.mark.parametrize("name", ["codes.npy", "quality.json", "manifest.json"])
def test_a_missing_file_is_named(dataset: Path, name: str) -> None:
    (dataset / name).unlink()
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        open_dataset(dataset)


def test_another_format_version_says_what_to_do(dataset: Path) -> None:
    _edit_manifest(dataset, format_version=9, ebox_version="9.0")
    with pytest.raises(
        InputError, match=r"ebox-dataset version 9, written by ebox 9\.0; ebox .* reads version 5\n.*ebox build"
    ):
        open_dataset(dataset)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "not of the format ebox-dataset"),
        ({"num_examples": 41}, "splits hold 40 examples, the manifest says 41"),
        ({"length_bp": 25}, r"shape \(40, 24\), expected uint8 of shape \(40, 25\)"),
        ({"splits": {"train": {"start": 0, "stop": 40}}}, "lacks the split 'validation'"),
        ({"splits": {"train": 1, "validation": 2, "test": 3}}, "'train' has no start and stop"),
        ({"fingerprint": "0"}, "fingerprint does not fit"),
        ({"config": {"lenght_bp": 3}}, "settings of the dataset can't be read: lenght_bp"),
        ({"tracks": None}, "no 'tracks' of type list"),
    ],
)
def test_a_manifest_that_does_not_add_up_is_refused(dataset: Path, changes: dict, message: str) -> None:
    _edit_manifest(dataset, **changes)
    with pytest.raises(InputError, match=message):
        open_dataset(dataset)


def test_a_changed_byte_is_found_by_the_full_check_alone(dataset: Path) -> None:
    data = bytearray((dataset / "codes.npy").read_bytes())
    data[-1] = (data[-1] + 1) % 4
    (dataset / "codes.npy").write_bytes(data)
    open_dataset(dataset)
    with pytest.raises(InputError, match=r"codes\.npy: has changed since it was written"):
        open_dataset(dataset, "full")


@pytest.mark.parametrize(("name", "value"), [("codes.npy", 9), ("targets.npy", 7)])
def test_a_value_out_of_range_is_found_even_with_the_right_hash(dataset: Path, name: str, value: int) -> None:
    from ebox.datasets.folder import compute_fingerprint

    data = bytearray((dataset / name).read_bytes())
    data[-1] = value
    (dataset / name).write_bytes(data)
    files = json.loads((dataset / "manifest.json").read_text())["files"]
    files[name]["sha256"] = hash_file(dataset / name)
    _edit_manifest(dataset, files=files, fingerprint=compute_fingerprint(files))
    with pytest.raises(InputError, match=r"code above 4|not 0, 1 or 255"):
        open_dataset(dataset, "full")


def test_what_is_not_a_dataset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, message in (
        (tmp_path / "absent", "no such dataset folder"),
        (tmp_path / "file", "is a file"),
        (tmp_path, "has no manifest"),
    ):
        with pytest.raises(InputError, match=message):
            open_dataset(path)


@pytest.mark.parametrize("facts", [None, {}, {"sha256": "00"}, {"sha256": "00", "bytes": "many"}])
def test_a_manifest_that_does_not_describe_its_files_is_refused(dataset: Path, facts: object) -> None:
    files = json.loads((dataset / "manifest.json").read_text())["files"]
    _edit_manifest(dataset, files={**files, "codes.npy": facts})
    with pytest.raises(InputError, match=r"'codes.npy' has no sha256 and bytes"):
        open_dataset(dataset)


def test_a_damaged_head_of_an_array_is_named(dataset: Path) -> None:
    file = dataset / "targets.npy"
    data = bytearray(file.read_bytes())
    data[data.index(b"}")] = ord("{")
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"targets.npy: is not a whole .npy file"):
        open_dataset(dataset)
