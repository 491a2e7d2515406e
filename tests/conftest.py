"""Strict numerics, eight CPU devices, and where the real data is."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Many tests train the same small network: one compilation of it is enough for a whole run.
CACHE = "EBOX_TESTS_CACHE"
if CACHE not in os.environ:
    # The parallel runners of pytest-xdist inherit it.
    os.environ[CACHE] = tempfile.mkdtemp(prefix="ebox-tests-")
    atexit.register(shutil.rmtree, os.environ[CACHE], ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ[CACHE]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

# Types and shapes are checked at run time where there are arrays. Of the calls of all other modules, which mypy checks,
# it would take most of the time of their tests.
WITH_ARRAYS = (
    *(f"ebox.{name}" for name in ("datasets", "diagnosis", "drawing", "evaluation", "explanation", "mesh", "models")),
    *(f"ebox.{name}" for name in ("sequences", "training", "tuning", "workers")),
    *(f"ebox.planning.{name}" for name in ("learning_curve", "least_squares", "noise_scale", "power_laws")),
    *(f"ebox.planning.{name}" for name in ("step_time", "steps_to_target", "stragglers")),
)
install_import_hook(WITH_ARRAYS, "beartype.beartype")

# Files that take long by themselves: begun first, none of them is left over for one worker at the end. The first five
# take longest of the slow tests, and the others of those that are not.
LONG_FILES = (
    "test_planning_compilation",
    "test_parallel_processes",
    "test_parallel_cluster",
    "test_parity",
    "test_scaling",
    "test_readme",
    "test_cli",
    "test_preflight",
    "test_explaining",
    "test_training_schedules",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of long files first, in that order; the others stay as they are."""
    places = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data; where it is not, a skip that says so, or a failure with EBOX_REQUIRE_DATA=1."""
    place = Path(os.environ.get("EBOX_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (place / "tal1" / "bound.fa.gz").is_file():
        give_up = pytest.fail if os.environ.get("EBOX_REQUIRE_DATA") == "1" else pytest.skip
        give_up(f"the real data is not in {place}; set EBOX_DATA to its folder")
    return place
