"""Training: example order, batches, the compiled step, the loop, checkpoints and the model of a run.

Reads an opened dataset and gets its devices from `mesh`. The caller hands it the function that measures a network, so
it needs nothing of `evaluation`.
"""

from ebox.models.files import LoadedModel, load_model, save_model
from ebox.training.loop import TrainingResult, fit

__all__ = ["LoadedModel", "TrainingResult", "fit", "load_model", "save_model"]
