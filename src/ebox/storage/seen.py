"""What `transfer.json` says of the examples that a network to begin with has seen, as it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COUNTS = ("of", "num_same", "num_related", "in_validation")


def count_seen(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of the test split, those of the `validation` split, and of how many datasets they are not known.

    Args:
        facts: Those of `transfer.json`.
    """
    test, validation = ({key: facts["seen"][split][key] for key in _COUNTS} for split in ("test", "validation"))
    return {
        **test,
        "validation": validation,
        "num_unknown": facts["num_unknown"],
        "num_sources": len(facts["sources"]),
    }
