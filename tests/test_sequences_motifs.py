from __future__ import annotations

import gzip
import importlib.machinery
import sqlite3
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from ebox.errors import InputError
from ebox.sequences import (
    Motif,
    decode,
    encode,
    find_motif,
    load_jaspar,
    read_motifs,
    reverse_complement,
    scan_scores,
    write_meme,
)
from ebox.sequences.motifs import load_carried_motifs, read_jaspar, read_meme

MEME = """MEME version 4

ALPHABET= ACGT

strands: + -

MOTIF first ebox
letter-probability matrix: alength= 4 w= 2 nsites= 20 E= 1e-5
0.5 0.25 0.25 0.0
0.0 1.0 0.0 0.0
URL about:blank

MOTIF second
letter-probability matrix: alength= 4 w= 3

1 0 0 0
0 1 0 0
0 0 1 0
"""
JASPAR = """>MA0001.1 one
A [ 1 2 ]
C [ 3 0 ]
G [ 0 2 ]
T [ 0 0 ]
>MA0002.1\ttwo
1 2 0
3 0 0
0 2 0
0 0 4
"""


def write(folder: Path, text: str, name: str = "motifs.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def scan_slowly(codes: np.ndarray, motif: Motif, background: np.ndarray | None) -> np.ndarray:
    best = np.full(len(codes), -np.inf)
    for matrix in (motif, motif.reverse_complement()):
        odds = np.pad(matrix.log_odds(background), ((0, 0), (0, 1)))
        for start in range(codes.shape[1] - motif.width + 1):
            letters = codes[:, start : start + motif.width]
            best = np.maximum(best, odds[np.arange(motif.width), letters].sum(axis=1))
    return best


def test_meme_is_read(tmp_path: Path) -> None:
    first, second = read_motifs(write(tmp_path, MEME))
    assert (first.name, first.alt_name, first.num_sites, first.width) == ("first", "ebox", 20, 2)
    assert (second.name, second.alt_name, second.num_sites, second.consensus) == ("second", "", None, "ACG")
    assert first.probabilities.tolist() == [[0.5, 0.25, 0.25, 0.0], [0.0, 1.0, 0.0, 0.0]]


def test_both_forms_of_jaspar_are_read(tmp_path: Path) -> None:
    one, two = read_motifs(write(tmp_path, "# a comment\n" + JASPAR.replace("\n", "\r\n")))
    assert (one.name, one.alt_name, one.num_sites) == ("MA0001.1", "one", 4)
    assert (two.name, two.alt_name, two.width) == ("MA0002.1", "two", 3)
    assert one.probabilities.tolist() == [[0.25, 0.75, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0]]
    assert two.consensus == "CNT"


def test_gzip_is_read(tmp_path: Path) -> None:
    path = tmp_path / "motifs.meme.gz"
    path.write_bytes(gzip.compress(MEME.encode()))
    assert [motif.name for motif in read_motifs(path)] == ["first", "second"]


def test_meme_written_is_read_again(tmp_path: Path) -> None:
    motifs = [load_jaspar("MA0140.3"), load_jaspar("MA0091.1")]
    write_meme(tmp_path / "out.meme", motifs)
    for motif, again in zip(motifs, read_meme(tmp_path / "out.meme"), strict=True):
        assert (motif.name, motif.alt_name, motif.num_sites) == (again.name, again.alt_name, again.num_sites)
        np.testing.assert_allclose(motif.probabilities, again.probabilities, atol=2e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", "neither a MEME nor a JASPAR"),
        ("MEME version 4\n", "no letter-probability matrix"),
        (MEME.replace("0.5 0.25 0.25 0.0", "0.5 0.25 0.25"), "line 9: 3 numbers, expected 4"),
        (MEME.replace("0.5 0.25 0.25 0.0", "0.5 x 0.25 0.0"), "line 9: found 'x', expected a number"),
        (MEME.replace("0.5 0.25 0.25 0.0", "0.9 0.25 0.25 0.0"), "record 'first': column 1 sums to 1.4"),
        (MEME.replace("0.5 0.25 0.25 0.0", "0.5 -0.25 0.25 0.5"), "line 9: found -0.25"),
        (MEME.replace("alength= 4", "alength= 20"), "alength is 20, expected 4"),
        (MEME.replace("= ACGT", "= ACGU"), "alphabet 'ACGU', expected ACGT"),
        (MEME[: MEME.index("0 0 1 0")], "line 14: the matrix has 2 rows, expected w= 3"),
        (MEME.replace("MOTIF first ebox", ""), "line 8: a matrix comes before"),
        (JASPAR.replace("T [ 0 0 ]\n", ""), "line 1: the matrix has 3 rows, expected 4"),
        (JASPAR.replace("T [ 0 0 ]", "U [ 0 0 ]"), "line 5: found a row 'U', expected T"),
        (JASPAR.replace("T [ 0 0 ]", "G [ 0 0 ]"), "line 5: found a row 'G', expected T"),
        (JASPAR.replace("T [ 0 0 ]", "T [ 0 ]"), "line 1: the rows differ in length"),
        (JASPAR.replace("0 0 4", "0 0 0"), "line 6: column 3 holds no counts"),
        (JASPAR.replace("C [ 3 0 ]", "C [ 3 nan ]"), "line 3: found nan"),
    ],
)
def test_damage_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_motifs(write(tmp_path, text))
    assert message in str(caught.value)
    assert "motifs.txt" in str(caught.value)
    assert caught.value.remedy is not None


def test_other_things_than_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_motifs(tmp_path / "absent")
    with pytest.raises(InputError, match="is a folder"):
        read_motifs(tmp_path)
    (tmp_path / "binary").write_bytes(bytes(range(128, 256)))
    with pytest.raises(InputError, match="not text"):
        read_motifs(tmp_path / "binary")
    with pytest.raises(InputError, match="before the first line"):
        read_jaspar(write(tmp_path, "1 2 3\n"))


def test_a_motif_must_be_one() -> None:
    with pytest.raises(InputError, match="needs columns"):
        Motif("none", np.empty((0, 4)))
    with pytest.raises(InputError, match="column 2 sums to 2"):
        Motif("two", np.array([[1.0, 0, 0, 0], [1, 1, 0, 0]]))


def test_the_matrices_of_the_factor_come_with_the_package() -> None:
    names = [motif.name for motif in load_carried_motifs()]
    assert {"MA0091.1", "MA0091.2", "MA0140.2", "MA0140.3", "MA0035.4", "MA0035.5"} <= set(names)
    composite = load_jaspar("MA0140.3")
    assert (composite.alt_name, composite.width, composite.num_sites) == ("GATA1::TAL1", 17, 4955)
    assert composite.consensus == "TTATCTNNNNNNNNCAG"
    assert composite.source == "JASPAR 2026"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("MA0140", "MA0140.3"),
        ("ma0091.1", "MA0091.1"),
        ("GATA1::TAL1", "MA0140.3"),
        ("gata1", "MA0035.5"),
        (" MA0091 ", "MA0091.2"),
    ],
)
def test_names_without_version_mean_the_newest(wanted: str, found: str) -> None:
    assert load_jaspar(wanted).name == found


def hide_pyjaspar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebox.sequences.motifs.importlib.util.find_spec", lambda name: None)


def test_an_unknown_matrix_says_how_to_get_all(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_pyjaspar(monkeypatch)
    with pytest.raises(InputError, match=r"did you mean 'MA0140.3'(.|\n)*-m pip install 'pyjaspar>=\S+'"):
        load_jaspar("MA0140.9")
    with pytest.raises(InputError, match="did you mean 'TAL1::TCF3'"):
        load_jaspar("TAL1")


def test_other_matrices_come_from_pyjaspar(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    class Database:
        release = "JASPAR2026"

        def __init__(self) -> None:
            self.conn = sqlite3.connect(":memory:")
            opened.append(self.conn)

        def fetch_motif_by_id(self, accession: str) -> object:
            counts = {"A": [1.0, 0.0], "C": [3.0, 0.0], "G": [0.0, 0.0], "T": [0.0, 4.0]}
            known = types.SimpleNamespace(matrix_id="MA9999.1", name="X", counts=counts)
            return known if accession == "MA9999.1" else None

        def fetch_motifs_by_name(self, name: str) -> list[object]:
            return []

    module = types.ModuleType("pyjaspar")
    module.__spec__ = importlib.machinery.ModuleSpec("pyjaspar", None)
    module.jaspardb = Database  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyjaspar", module)
    motif = load_jaspar("MA9999.1")
    assert (motif.name, motif.alt_name, motif.num_sites) == ("MA9999.1", "X", 4)
    assert motif.probabilities.tolist() == [[0.25, 0.75, 0, 0], [0, 0, 0, 1]]
    for unknown in ("MA9998.1", "no such name"):
        with pytest.raises(InputError, match="is not in JASPAR"):
            load_jaspar(unknown)
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.cursor()


def test_files_come_before_jaspar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_pyjaspar(monkeypatch)
    files = [write(tmp_path, MEME), write(tmp_path, JASPAR.replace("MA0002.1", "MA0140.3"), "more.txt")]
    assert find_motif("second", files).width == 3
    assert find_motif("EBOX", files).name == "first"
    assert find_motif("MA0140.3", files).width == 3
    assert find_motif("MA0091.2", files).width == 10
    with pytest.raises(InputError, match=r"not among the 4 motifs of .*did you mean 'second'"):
        find_motif("secnd", files)


def test_information_and_odds_are_those_of_the_formula() -> None:
    motif = Motif("x", np.array([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0]]))
    np.testing.assert_allclose(motif.information(), [0, 2, 1])
    background = np.array([0.4, 0.1, 0.1, 0.4])
    odds = motif.log_odds(background, pseudo_share=0.0)
    np.testing.assert_allclose(odds[2], [np.log2(1.25), np.log2(5), -np.inf, -np.inf])
    assert np.isfinite(motif.log_odds(background)).all()


def test_the_other_strand_twice_is_the_motif() -> None:
    motif = load_jaspar("MA0140.3")
    assert np.array_equal(motif.reverse_complement().reverse_complement().probabilities, motif.probabilities)
    assert motif.reverse_complement().consensus == decode(reverse_complement(encode(motif.consensus)))


@pytest.mark.parametrize("width", [1, 3, 4, 7, 10, 20])
def test_scan_is_as_a_slow_scan(width: int) -> None:
    generator = np.random.default_rng(width)
    motif = Motif("x", generator.dirichlet([0.5] * 4, width))
    codes = generator.integers(0, 5, (30, 20)).astype(np.uint8)
    for background in (None, np.array([0.3, 0.2, 0.2, 0.3])):
        scores = scan_scores(codes, motif, background)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, scan_slowly(codes, motif, background), atol=1e-4)


def test_scan_sees_both_strands_alike() -> None:
    codes = np.random.default_rng(0).integers(0, 5, (40, 60)).astype(np.uint8)
    motif = load_jaspar("MA0140.3")
    scores = scan_scores(codes, motif)
    np.testing.assert_allclose(scores, scan_scores(reverse_complement(codes), motif), atol=1e-4)


def test_blocks_do_not_change_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(0).integers(0, 4, (40, 60)).astype(np.uint8)
    motif = load_jaspar("MA0091.2")
    whole = scan_scores(codes, motif)
    monkeypatch.setattr("ebox.sequences.matrices._BLOCK_BASES", 200)
    assert np.array_equal(scan_scores(codes, motif), whole)


def test_a_motif_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"MA0140.3 of 17 bp does not fit into sequences of 10 bp"):
        scan_scores(np.zeros((2, 10), np.uint8), load_jaspar("MA0140.3"))


@pytest.mark.real_data
def test_the_factors_motif_marks_its_bound_sequences(real_data: Path) -> None:
    from ebox.sequences.fasta import read_fasta

    known = read_motifs(real_data / "motifs" / "encode_tal1.meme")
    assert [motif.width for motif in known] == [19, 9, 16, 16, 16, 10, 12]
    bound = read_fasta(real_data / "tal1" / "bound.fa.gz").matrix(200)
    unbound = read_fasta(real_data / "tal1" / "unbound_matched.fa.gz").matrix(200)
    motif = load_jaspar("MA0140.3")
    high, low = scan_scores(bound, motif), scan_scores(unbound, motif)
    auroc = (np.searchsorted(np.sort(low), high) / len(low)).mean()
    assert 0.70 < auroc < 0.95
