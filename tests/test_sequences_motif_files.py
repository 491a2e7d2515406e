"""Motif files of any content: what is written is read back, and what is broken is refused with a message."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebox.errors import InputError
from ebox.sequences import Motif, read_motifs, write_meme
from ebox.sequences.motifs import read_jaspar

COUNTS = st.lists(st.lists(st.integers(0, 500), min_size=4, max_size=4).filter(any), min_size=1, max_size=25)
NAMES = st.text("ABCMXYZabc0123456789._:-", min_size=1, max_size=12).filter(lambda name: name.lower() != "motif")
# Pieces of real files in any order, and noise between them.
PIECES = st.sampled_from(
    [
        "MEME version 4\n",
        "ALPHABET= ACGT\n",
        "ALPHABET= ACGU\n",
        "MOTIF a b\n",
        "MOTIF\n",
        "letter-probability matrix: alength= 4 w= 2 nsites= 20 E= 0\n",
        "letter-probability matrix: alength= 20 w= -1\n",
        "letter-probability matrix:\n",
        "0.25 0.25 0.25 0.25\n",
        "1 0 0\n",
        "nan 1 0 0\n",
        "inf -1 1 0\n",
        "1e400 0 0 0\n",
        ">MA0001.1 one\n",
        "A [ 1 2 ]\n",
        "C [ 3 0 ]\n",
        "G [ 0 2\n",
        "T 0 0 ]\n",
        "A [ ]\n",
        "\n",
        "\r\n",
        "\x00\n",
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=30).map("".join)
CONTENTS = st.one_of(TEXTS.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=300))


def _in_file(folders: pytest.TempPathFactory, content: bytes) -> Path:
    """A file of its own for each example; hypothesis and pytest's folder of a test don't go together."""
    path = folders.mktemp("motifs") / "motifs.txt"
    path.write_bytes(content)
    return path


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, COUNTS), min_size=1, max_size=4, unique_by=lambda pair: pair[0]))
def test_written_motifs_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, list[list[int]]]]
):
    motifs = []
    for name, rows in drawn:
        counts = np.array(rows, np.float64)
        motifs.append(Motif(name, counts / counts.sum(axis=1, keepdims=True)))
    path = _in_file(tmp_path_factory, b"")
    path.unlink()
    write_meme(path, motifs)
    back = read_motifs(path)
    assert [motif.name for motif in back] == [motif.name for motif in motifs]
    for one, other in zip(back, motifs, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.booleans(), st.booleans())
def test_counts_of_any_jaspar_layout_become_their_shares(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], letters: bool, windows: bool
):
    counts = np.array(rows)
    lines = [">MA0001.1 one"]
    for letter, row in zip("ACGT", counts.T, strict=True):
        numbers = " ".join(map(str, row))
        lines.append(f"{letter} [ {numbers} ]" if letters else numbers)
    end = "\r\n" if windows else "\n"
    (motif,) = read_jaspar(_in_file(tmp_path_factory, (end.join(lines) + end).encode()))
    np.testing.assert_allclose(motif.probabilities, counts / counts.sum(axis=1, keepdims=True), atol=1e-6)


@settings(max_examples=300, deadline=None)
@given(CONTENTS)
def test_whatever_a_file_holds_it_is_motifs_or_a_message(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path, message = _in_file(tmp_path_factory, content), ""
    motifs: list[Motif] = []
    try:
        motifs = read_motifs(path)
    except InputError as error:
        message = str(error)
    assert bool(motifs) is (str(path) not in message)
    for motif in motifs:
        assert np.isfinite(motif.probabilities).all()
        np.testing.assert_allclose(motif.probabilities.sum(axis=1), 1.0, atol=1e-4)
        assert (motif.probabilities >= 0.0).all()


GATA = np.array([[0.1, 0.1, 0.7, 0.1], [0.9, 0.02, 0.04, 0.04], [0.02, 0.02, 0.02, 0.94], [0.9, 0.04, 0.02, 0.04]])


def _in_rows(rows: np.ndarray, scale: float = 1.0) -> str:
    return "".join("\t".join(f"{number * scale:g}" for number in row) + "\n" for row in rows)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [1.0, 250.0], ids=["HOMER", "HOCOMOCO"])
def test_a_row_for_each_position_is_read(tmp_path: Path, width: int, scale: float) -> None:
    path = tmp_path / "x.motif"
    path.write_text(f">GATA1_HUMAN.H11MO.0.A\n{_in_rows(GATA[:width], scale)}")
    (motif,) = read_motifs(path)
    assert (motif.name, motif.num_sites) == ("GATA1_HUMAN.H11MO.0.A", None if scale == 1 else 250)
    np.testing.assert_allclose(motif.probabilities, GATA[:width], atol=1e-9)


def test_the_names_of_homer_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.motif"
    heads = ("GATA\tSCL(bHLH)/HPC7-Scl(GSE13511)/Homer\t6.05\t-2379.5\t0", "GATA\t1-GATA\t6.05")
    path.write_text("".join(f">{head}\n{_in_rows(GATA)}" for head in heads))
    found = read_motifs(path)
    assert [(motif.name, motif.alt_name) for motif in found] == [
        ("SCL(bHLH)/HPC7-Scl(GSE13511)/Homer", "SCL"),
        ("1-GATA", ""),
    ]
    assert [motif.consensus for motif in found] == ["GATA", "GATA"]


@pytest.mark.parametrize("letters", [False, True])
def test_four_rows_of_four_are_bases_where_columns_have_one_sum_or_rows_have_letters(
    tmp_path: Path, letters: bool
) -> None:
    rows = _in_rows(GATA.T).splitlines()
    lines = [f"{letter} [ {row} ]" if letters else row for letter, row in zip("ACGT", rows, strict=True)]
    path = tmp_path / "x.jaspar"
    path.write_text("\n".join([">MA0001.1 one", *lines]))
    (motif,) = read_motifs(path)
    assert motif.consensus == "GATA"
    path.write_text(
        "\n".join([">MA0001.1 one", *(f"{a} {row}" for a, row in zip("ACGT", ["1 1 1 1"] * 4, strict=True))])
    )
    assert np.allclose(read_motifs(path)[0].probabilities, 0.25)


def test_four_rows_of_four_are_what_the_other_matrices_of_the_file_are(tmp_path: Path) -> None:
    # The sums of rows and of columns agree: the matrix alone does not say.
    both = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.1, 0.7], [0.1, 0.7, 0.1, 0.1]])
    path = tmp_path / "x.txt"
    path.write_text(f">one\n{_in_rows(both)}>two\n{_in_rows(GATA[:3])}")
    assert [motif.consensus for motif in read_motifs(path)] == ["AGTC", "GAT"]
    path.write_text(f">one\n{_in_rows(both)}>two\n{_in_rows(GATA[:3].T)}")
    assert [motif.consensus for motif in read_motifs(path)] == ["ATCG", "GAT"]


def test_log_odds_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.pwm"
    path.write_text(f">one\n{_in_rows(np.log2(GATA / 0.25))}")
    with pytest.raises(InputError, match=r"line 2: found -1(.|\n)*log-odds"):
        read_motifs(path)
