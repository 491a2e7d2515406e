"""From sources to a dataset folder: cleaned, labelled, balanced, split examples, with a report on quality.

Owns what is dropped and why, the making of negatives, the splits and their audit, and the dataset folder on disk
(docs/formats.md). Needs NumPy and Polars, not JAX.
"""
