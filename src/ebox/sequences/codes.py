"""Letters to codes and back, strands, and composition: A, C, G, T are 0 to 3, an unknown base is 4."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import DTypeLike

from ebox.errors import InputError

BASES = "ACGT"
NUM_BASES = 4
N_CODE = 4
AMBIGUOUS = "NRYSWKMBDHV"
INVALID = 255


def _make_table() -> UInt8[np.ndarray, " byte"]:
    table = np.full(256, INVALID, np.uint8)
    for letters, codes in ((BASES, range(NUM_BASES)), (AMBIGUOUS, [N_CODE] * len(AMBIGUOUS))):
        for letter, code in zip(letters, codes, strict=True):
            table[ord(letter)] = table[ord(letter.lower())] = code
    return table


# The code of each byte; INVALID where the letter is neither a base nor an IUPAC ambiguity code.
CODE_OF_BYTE = _make_table()
_LETTERS = np.frombuffer(f"{BASES}N".encode(), np.uint8)


def encode(text: str | bytes) -> UInt8[np.ndarray, " length"]:
    """Turn letters into codes; lower case counts as upper, IUPAC ambiguity codes become N.

    Raises:
        InputError: a letter that is not DNA.
    """
    data = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)
    codes = CODE_OF_BYTE[data]
    if (codes == INVALID).any():
        place = int(np.argmax(codes == INVALID))
        raise InputError(f"letter {chr(data[place])!r} at base {place + 1}: {explain_letter(chr(data[place]))}")
    return codes


def explain_letter(letter: str) -> str:
    """Say what kind of file a letter that is not DNA suggests."""
    if letter.upper() == "U":
        return "this looks like RNA; ebox reads DNA, so write U as T"
    if letter.isalpha() and letter.isascii():
        return "this looks like protein; ebox reads DNA: A, C, G, T and the IUPAC codes"
    if letter in "-.*":
        return "this looks like an alignment; remove the gaps"
    return "ebox reads DNA: A, C, G, T and the IUPAC codes"


def decode(codes: UInt8[np.ndarray, " length"]) -> str:
    """Turn codes into upper-case letters."""
    return str(_LETTERS[codes].tobytes().decode("ascii"))


def reverse_complement(codes: UInt8[np.ndarray, "*batch length"]) -> UInt8[np.ndarray, "*batch length"]:
    """Read the other strand, along the last axis; N stays N."""
    # 3 - 4 wraps around to 255.
    return np.minimum(np.uint8(3) - codes[..., ::-1], np.uint8(N_CODE))


def one_hot(
    codes: UInt8[np.ndarray, "*batch length"], dtype: DTypeLike = np.float32
) -> Float[np.ndarray, "*batch length 4"]:
    """Turn codes into one-hot rows in the order A, C, G, T; N is four zeros."""
    return np.eye(NUM_BASES + 1, NUM_BASES, dtype=dtype)[codes]


def gc_fraction(codes: UInt8[np.ndarray, "*batch length"]) -> Float[np.ndarray, "*batch"]:
    """The share of G and C among the known bases; 0 if no base is known."""
    known = (codes < NUM_BASES).sum(axis=-1)
    strong = ((codes == 1) | (codes == 2)).sum(axis=-1)
    return np.asarray(strong / np.maximum(known, 1), np.float64)


def n_fraction(codes: UInt8[np.ndarray, "*batch length"]) -> Float[np.ndarray, "*batch"]:
    """The share of N; 0 if there are no bases."""
    return np.asarray((codes >= NUM_BASES).sum(axis=-1) / max(codes.shape[-1], 1), np.float64)
