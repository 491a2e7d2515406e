"""Train convolutional networks on DNA to find where a transcription factor binds.

The verbs of the command line are functions here: `simulate`, `build`, `train`, `evaluate`, `explain`, `predict`,
`report`, `run`, `doctor`. Everything is loaded when it is first asked for, so that importing ebox costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebox.version import __version__ as __version__

if TYPE_CHECKING:
    from ebox.datasets.build import build_dataset as build
    from ebox.datasets.folder import open_dataset
    from ebox.datasets.sources import DatasetSources
    from ebox.diagnosis.findings import doctor
    from ebox.errors import InputError
    from ebox.explanation import read_filters
    from ebox.models.files import load_model
    from ebox.sequences import SimulationConfig, simulate, write_simulation
    from ebox.settings.reading import Config, DataConfig, read_config
    from ebox.verbs.demo import demo
    from ebox.verbs.evaluate import evaluate
    from ebox.verbs.explain import explain
    from ebox.verbs.predict import predict
    from ebox.verbs.report import report
    from ebox.verbs.run import run
    from ebox.verbs.train import train

_PLACES = {
    "Config": ("ebox.settings.reading", "Config"),
    "DataConfig": ("ebox.settings.reading", "DataConfig"),
    "DatasetSources": ("ebox.datasets.sources", "DatasetSources"),
    "InputError": ("ebox.errors", "InputError"),
    "SimulationConfig": ("ebox.sequences", "SimulationConfig"),
    "build": ("ebox.datasets.build", "build_dataset"),
    "demo": ("ebox.verbs.demo", "demo"),
    "doctor": ("ebox.diagnosis.findings", "doctor"),
    "evaluate": ("ebox.verbs.evaluate", "evaluate"),
    "explain": ("ebox.verbs.explain", "explain"),
    "load_model": ("ebox.models.files", "load_model"),
    "open_dataset": ("ebox.datasets.folder", "open_dataset"),
    "predict": ("ebox.verbs.predict", "predict"),
    "read_config": ("ebox.settings.reading", "read_config"),
    "read_filters": ("ebox.explanation", "read_filters"),
    "report": ("ebox.verbs.report", "report"),
    "run": ("ebox.verbs.run", "run"),
    "simulate": ("ebox.sequences", "simulate"),
    "train": ("ebox.verbs.train", "train"),
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
