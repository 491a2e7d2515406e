"""The gradient noise scale of a training, measured with its own train step (McCandlish 2018, appendix A.1)."""

from __future__ import annotations

from ebox.planning.profiles import NoiseScale
from ebox.progress import Progress, quiet
from ebox.settings.reading import Config
from ebox.training.inputs import TrainingData


def measure_noise_scale(data: TrainingData, config: Config, *, progress: Progress = quiet) -> NoiseScale:
    """Train on the first device as the settings say, and measure the noise of the gradient on the way.

    Args:
        data: An opened dataset.
        config: The settings of the training; its batch is kept, only on one device.
        progress: Called with a phrase, the number done, and the total number.

    Raises:
        InputError: there is nothing to train on, or the noise can't be told from the gradient.
    """
    raise NotImplementedError
