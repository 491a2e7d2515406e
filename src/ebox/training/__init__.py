"""Training: example order, batches, the compiled step, the loop, checkpoints and the model of a run.

Owns the names of the files in a run folder. Reads an opened dataset, gets its devices from `parallel`, and is told
how to measure a network by whoever calls it, so that it needs nothing of `evaluation`.
"""

from ebox.models.files import LoadedModel, load_model, save_model
from ebox.training.loop import TrainingResult, fit

__all__ = ["LoadedModel", "TrainingResult", "fit", "load_model", "save_model"]
