"""The checks themselves: what is absent is said, and no less is checked than was meant."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import TypeCheckError

import processes
from conftest import WITH_ARRAYS
from ebox.models.encoding import reverse_complement


@pytest.mark.parametrize(
    ("required", "ends", "said"), [pytest.param("0", 0, "1 skipped", marks=pytest.mark.slow), ("1", 1, "1 error")]
)
def test_real_data_that_is_absent_is_said_and_fails_where_it_must_be_there(
    required: str, ends: int, said: str, tmp_path: Path
):
    test = f"{Path(__file__).parent / 'test_sequences_tables.py'}::test_real_tables_are_read_whole"
    options = ["-o", "addopts=-ra", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, test]
    variables = {"EBOX_DATA": str(tmp_path), "EBOX_REQUIRE_DATA": required}
    output = processes.run(command, ends=ends, variables=variables).output
    assert said in output
    assert f"the real data is not in {tmp_path}; set EBOX_DATA" in output


def test_every_module_with_arrays_is_checked_at_run_time():
    source = Path(__file__).parents[1] / "src"
    modules = {
        ".".join(path.relative_to(source).with_suffix("").parts)
        for path in (source / "ebox").rglob("*.py")
        if "jaxtyping" in path.read_text()
    }
    assert len(modules) > 100
    unchecked = {module for module in modules if not f"{module}.".startswith(tuple(f"{name}." for name in WITH_ARRAYS))}
    assert not unchecked


def test_a_wrong_shape_is_found_at_run_time():
    with pytest.raises(TypeCheckError, match="codes"):
        reverse_complement(np.zeros((2, 3), np.float32))
