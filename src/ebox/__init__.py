"""Train convolutional networks on DNA to find where a transcription factor binds.

The verbs of the command line are functions here: `simulate`, `build`, `train`, `evaluate`, `explain`, `predict`,
`plan`, `report`, `run`, `tune`, `doctor`, `bench`. Everything is loaded when it is first asked for, so that
importing ebox costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebox.version import __version__ as __version__

if TYPE_CHECKING:
    from ebox.datasets.folder import open_dataset
    from ebox.datasets.sources import DatasetSources, read_sources
    from ebox.errors import InputError
    from ebox.explanation.filters import read_filters
    from ebox.models.files import load_model
    from ebox.sequences.simulation import SimulationConfig, read_simulation_config
    from ebox.settings.reading import Config, read_config
    from ebox.verbs.bench import bench
    from ebox.verbs.build import build
    from ebox.verbs.config import describe_config
    from ebox.verbs.demo import demo
    from ebox.verbs.doctor import doctor
    from ebox.verbs.evaluate import evaluate
    from ebox.verbs.explain import explain
    from ebox.verbs.plan import plan
    from ebox.verbs.predict import predict
    from ebox.verbs.report import report
    from ebox.verbs.run import run
    from ebox.verbs.simulate import simulate
    from ebox.verbs.train import train
    from ebox.verbs.tune import tune

# The public names and the modules that hold them. Those of `ebox.verbs` are the verbs of the command line, in the
# order of its list.
PLACES = {
    "run": "ebox.verbs.run",
    "demo": "ebox.verbs.demo",
    "build": "ebox.verbs.build",
    "train": "ebox.verbs.train",
    "tune": "ebox.verbs.tune",
    "evaluate": "ebox.verbs.evaluate",
    "predict": "ebox.verbs.predict",
    "explain": "ebox.verbs.explain",
    "doctor": "ebox.verbs.doctor",
    "bench": "ebox.verbs.bench",
    "plan": "ebox.verbs.plan",
    "report": "ebox.verbs.report",
    "simulate": "ebox.verbs.simulate",
    "describe_config": "ebox.verbs.config",
    "Config": "ebox.settings.reading",
    "DatasetSources": "ebox.datasets.sources",
    "InputError": "ebox.errors",
    "SimulationConfig": "ebox.sequences.simulation",
    "load_model": "ebox.models.files",
    "open_dataset": "ebox.datasets.folder",
    "read_config": "ebox.settings.reading",
    "read_filters": "ebox.explanation.filters",
    "read_simulation_config": "ebox.sequences.simulation",
    "read_sources": "ebox.datasets.sources",
}

__all__ = [
    "Config",
    "DatasetSources",
    "InputError",
    "SimulationConfig",
    "bench",
    "build",
    "demo",
    "describe_config",
    "doctor",
    "evaluate",
    "explain",
    "load_model",
    "open_dataset",
    "plan",
    "predict",
    "read_config",
    "read_filters",
    "read_simulation_config",
    "read_sources",
    "report",
    "run",
    "simulate",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    import importlib

    if name not in PLACES:
        raise AttributeError(f"module 'ebox' has no attribute {name!r}")
    value = getattr(importlib.import_module(PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Names that are not loaded yet count too."""
    return sorted({*globals(), *PLACES})
