"""From sources to a dataset folder: cleaned, labelled, balanced, split examples, with a report on quality.

Owns what is dropped and why, the making of negatives, the splits and their audit, and the dataset folder on disk
(docs/formats.md). Needs NumPy and Polars, not JAX.
"""

from ebox.datasets.build import build_dataset
from ebox.datasets.folder import SPLITS, Dataset, open_dataset

__all__ = ["SPLITS", "Dataset", "build_dataset", "open_dataset"]
