"""Train convolutional networks on DNA to find where a transcription factor binds.

The verbs of the command line are functions here: `simulate`, `build`, `train`, `evaluate`, `explain`, `predict`,
`report`, `run`, `doctor`. Everything is loaded when it is first asked for, so that importing ebox costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebox.config import Config, DataConfig, read_config
    from ebox.datasets.build import build_dataset as build
    from ebox.datasets.folder import open_dataset
    from ebox.datasets.sources import DatasetSources
    from ebox.diagnosis import doctor
    from ebox.errors import InputError
    from ebox.explaining import explain
    from ebox.explanation import read_filters
    from ebox.pipeline import demo, run
    from ebox.prediction import predict
    from ebox.sequences import SimulationConfig, simulate, write_simulation
    from ebox.stages import evaluate, report, train
    from ebox.training import load_model

__version__ = "0.1.0"

_PLACES = {
    "Config": ("ebox.config", "Config"),
    "DataConfig": ("ebox.config", "DataConfig"),
    "DatasetSources": ("ebox.datasets.sources", "DatasetSources"),
    "InputError": ("ebox.errors", "InputError"),
    "SimulationConfig": ("ebox.sequences", "SimulationConfig"),
    "build": ("ebox.datasets.build", "build_dataset"),
    "demo": ("ebox.pipeline", "demo"),
    "doctor": ("ebox.diagnosis", "doctor"),
    "evaluate": ("ebox.stages", "evaluate"),
    "explain": ("ebox.explaining", "explain"),
    "load_model": ("ebox.training", "load_model"),
    "open_dataset": ("ebox.datasets.folder", "open_dataset"),
    "predict": ("ebox.prediction", "predict"),
    "read_config": ("ebox.config", "read_config"),
    "read_filters": ("ebox.explanation", "read_filters"),
    "report": ("ebox.stages", "report"),
    "run": ("ebox.pipeline", "run"),
    "simulate": ("ebox.sequences", "simulate"),
    "train": ("ebox.stages", "train"),
    "write_simulation": ("ebox.sequences", "write_simulation"),
}

__all__ = [
    "Config",
    "DataConfig",
    "DatasetSources",
    "InputError",
    "SimulationConfig",
    "build",
    "demo",
    "doctor",
    "evaluate",
    "explain",
    "load_model",
    "open_dataset",
    "predict",
    "read_config",
    "read_filters",
    "report",
    "run",
    "simulate",
    "train",
    "write_simulation",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    import importlib

    if name not in _PLACES:
        raise AttributeError(f"module 'ebox' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Names that are not loaded yet count too."""
    return sorted({*globals(), *_PLACES})
