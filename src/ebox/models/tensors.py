"""Pytrees to safetensors and back: named arrays with a checksum, no pickle, so that a file can't run code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from ebox.errors import InputError
from ebox.storage.publishing import publish_folder, read_json
from ebox.storage.run_folder import TENSOR_FACTS

Tree = TypeVar("Tree")
TENSORS = "tensors.safetensors"


def save_tree(folder: Path, tree: Any, facts: dict[str, Any], *, overwrite: bool = True) -> None:
    """Publish a folder with the arrays of a pytree and JSON facts beside them.

    Args:
        folder: Where to.
        tree: Arrays, named by their paths in the tree.
        facts: What to keep beside them; the checksum and the number of bytes are added.
        overwrite: Replace a folder that is there.
    """
    from safetensors.numpy import save

    data = save(_named_arrays(tree))
    with publish_folder(folder, overwrite=overwrite, mark=TENSOR_FACTS) as temporary:
        (temporary / TENSORS).write_bytes(data)
        whole = {**facts, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        text = json.dumps(whole, indent=2, allow_nan=False)
        (temporary / TENSOR_FACTS).write_text(text + "\n", encoding="utf-8")


def read_facts(folder: Path) -> dict[str, Any]:
    """Read the JSON facts of a folder that `save_tree` published."""
    facts = read_json(folder / TENSOR_FACTS)
    if not isinstance(facts, dict) or "sha256" not in facts:
        raise InputError("holds no checksum, so ebox did not write it", file=folder / TENSOR_FACTS)
    return facts


def load_tree(folder: Path, like: Tree, *, loose: str | None = None) -> Tree:
    """Read the arrays back into the shape of `like`.

    Args:
        folder: What `save_tree` published.
        like: A tree of arrays of the same names, shapes and dtypes.
        loose: Start of the names of arrays that may have other shapes, or be absent: such a leaf is then none.

    Raises:
        InputError: the file is missing, truncated, changed (its checksum differs), or of another network.
    """
    return _fill(like, read_arrays(folder), folder / TENSORS, loose)


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a folder by their names.

    Raises:
        InputError: the file is missing, truncated or changed.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    facts, file = read_facts(folder), folder / TENSORS
    remedy = "copy the folder again, or train again"
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", file=file, remedy=remedy) from None
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        problem = f"is corrupt: {len(data)} bytes with another checksum, {facts.get('bytes')} bytes were written"
        raise InputError(problem, file=file, remedy=remedy)
    try:
        return load(data)
    except SafetensorError as error:
        raise InputError(f"is not a safetensors file: {error}", file=file, remedy=remedy) from None


def _named_arrays(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf, order="C") for path, leaf in leaves}


def _fill(like: Tree, arrays: dict[str, np.ndarray], file: Path, loose: str | None) -> Tree:
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(path) for path, _ in paths]
    strange = sorted(name for name in set(names) ^ set(arrays) if loose is None or not name.startswith(loose))
    if strange:
        raise InputError(
            f"belongs to another network: {strange[0]!r} is in only one of the two",
            file=file,
            remedy="use the settings that it was trained with",
        )
    for name, (_, leaf) in zip(names, paths, strict=True):
        if loose is not None and name.startswith(loose):
            continue
        if arrays[name].shape != np.shape(leaf) or arrays[name].dtype != np.asarray(leaf).dtype:
            found, expected = arrays[name].shape, np.shape(leaf)
            raise InputError(f"{name} has shape {found}, this network needs {expected}", file=file)
    return jax.tree_util.tree_unflatten(structure, [arrays.get(name) for name in names])
