"""Folders of arrays: what is read back is what was written, and everything else is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebox.errors import InputError
from ebox.models.tensors import TENSORS, load_tree, read_arrays, read_facts, save_tree
from ebox.storage.run_folder import TENSOR_FACTS

TREE = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": (np.array(7, np.int64), np.asfortranarray(np.arange(8.0).reshape(2, 4))),
}


def _check_same(found: Any, wanted: Any) -> None:
    for name, value in (("a", wanted["a"]), *((place, wanted["b"][place]) for place in (0, 1))):
        one = found["a"] if name == "a" else found["b"][name]
        np.testing.assert_array_equal(one, value)
        assert one.dtype == value.dtype


def test_a_tree_is_read_back_with_its_facts(tmp_path: Path):
    save_tree(tmp_path / "x", TREE, {"step": 3})
    _check_same(load_tree(tmp_path / "x", TREE), TREE)
    facts = read_facts(tmp_path / "x")
    assert facts["step"] == 3
    assert facts["bytes"] == (tmp_path / "x" / TENSORS).stat().st_size
    assert sorted(read_arrays(tmp_path / "x")) == ["['a']", "['b'][0]", "['b'][1]"]
    assert (tmp_path / "x" / TENSOR_FACTS).read_text().endswith("}\n")


def test_a_folder_is_replaced_unless_that_is_forbidden(tmp_path: Path):
    save_tree(tmp_path / "x", TREE, {"step": 3})
    save_tree(tmp_path / "x", TREE, {"step": 4})
    with pytest.raises(InputError, match="already exists"):
        save_tree(tmp_path / "x", TREE, {"step": 5}, overwrite=False)
    assert read_facts(tmp_path / "x")["step"] == 4
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "thesis").write_text("")
    with pytest.raises(InputError, match="not made by this command"):
        save_tree(tmp_path / "y", TREE, {})


def test_facts_that_are_no_numbers_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        save_tree(tmp_path / "x", TREE, {"loss": float("nan")})
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("facts", [[], ["sha256"], {}, {"step": 3}, "sha256"])
def test_facts_without_a_checksum_are_of_another_program(tmp_path: Path, facts: Any):
    (tmp_path / TENSOR_FACTS).write_text(json.dumps(facts))
    with pytest.raises(InputError, match="holds no checksum") as caught:
        read_facts(tmp_path)
    assert caught.value.file == str(tmp_path / TENSOR_FACTS)


def test_changed_bytes_are_told_by_the_checksum(tmp_path: Path):
    save_tree(tmp_path / "x", TREE, {})
    file = tmp_path / "x" / TENSORS
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match=f"is corrupt: {len(data)} bytes with another checksum, {len(data)} bytes"):
        load_tree(tmp_path / "x", TREE)
    file.unlink()
    with pytest.raises(InputError, match="can't be read: No such file"):
        load_tree(tmp_path / "x", TREE)


@pytest.mark.parametrize(
    ("like", "problem"),
    [
        ({"a": TREE["a"]}, r"\['b'\]\[0\].* is in only one"),
        ({**TREE, "c": np.zeros(1)}, r"\['c'\].* is in only one"),
        ({**TREE, "a": np.zeros((3, 2), np.float32)}, r"\['a'\] has shape \(2, 3\), this network needs \(3, 2\)"),
        ({**TREE, "a": np.zeros((2, 3), np.float16)}, r"\['a'\] has shape"),
    ],
)
def test_arrays_of_another_network_are_refused(tmp_path: Path, like: Any, problem: str):
    save_tree(tmp_path / "x", TREE, {})
    with pytest.raises(InputError, match=problem) as caught:
        load_tree(tmp_path / "x", like)
    assert caught.value.file == str(tmp_path / "x" / TENSORS)
    with pytest.raises(InputError, match=problem):
        load_tree(tmp_path / "x", like, loose="['other']")


def test_loose_names_may_be_absent_or_of_another_shape(tmp_path: Path):
    save_tree(tmp_path / "x", TREE, {})
    other = load_tree(tmp_path / "x", {**TREE, "a": np.zeros(1)}, loose="['a']")
    np.testing.assert_array_equal(other["a"], TREE["a"])
    more = load_tree(tmp_path / "x", {**TREE, "c": np.zeros(1)}, loose="['c']")
    assert more["c"] is None
    fewer = load_tree(tmp_path / "x", {"a": TREE["a"]}, loose="['b']")
    np.testing.assert_array_equal(fewer["a"], TREE["a"])
