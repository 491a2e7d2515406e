"""The validation split during training: quick metrics of a network, and at the end its calibration; no intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, UInt8

from ebox.datasets.folder import UNKNOWN_TARGET, Dataset
from ebox.errors import InputError
from ebox.evaluation.calibration import Method, fit_calibration
from ebox.evaluation.inference import predict
from ebox.evaluation.metrics import auprc, auroc
from ebox.mesh.hosts import gather_rows, own_part
from ebox.models.ensemble import AnyNetwork, SomeNetwork, rescale
from ebox.settings.reading import EvaluationConfig


class ValidationSplit:
    """The validation split in memory; every process of a group predicts a part and gets all logits."""

    def __init__(self, data: Dataset, config: EvaluationConfig, mesh: Mesh) -> None:
        """Read the split of a dataset; the mesh holds the devices of this process."""
        rows = data.rows("validation")
        self._codes, self._targets = np.asarray(data.codes[rows]), np.asarray(data.targets[rows])
        self._clusters = data.examples["cluster"].to_numpy()[rows].astype(np.int64)
        self._tracks, self._config, self._mesh = data.tracks, config, mesh

    def predict(self, network: AnyNetwork) -> Float[np.ndarray, "example track"]:
        """The logits of the whole split."""
        own = self._codes[own_part(len(self._codes))]
        both, size = self._config.both_strands, self._config.batch_size
        logits = predict(network, own, both_strands=both, batch_size=size, mesh=self._mesh)
        return gather_rows(logits, len(self._codes))

    def measure(self, network: AnyNetwork) -> Mapping[str, float]:
        """Cross-entropy, AUROC and AUPRC, averaged over the tracks in which both classes are known."""
        return measure_validation(self._targets, self.predict(network))

    def calibrate(
        self, network: SomeNetwork, method: Method | Literal["auto"] = "auto"
    ) -> tuple[SomeNetwork, list[dict[str, Any]]]:
        """The network with calibrated logits, and the calibration of each track for `training.json`.

        Scale and offset become part of the network; the knots of an isotonic map are for the files of the model. An
        ensemble is calibrated as a whole, by the mean logits of its members.
        """
        logits, found = self.predict(network), []
        given = None if method == "auto" else method
        for track in range(logits.shape[1]):
            known = self._targets[:, track] != UNKNOWN_TARGET
            labels, values = self._targets[known, track] == 1, logits[known, track]
            found.append(fit_calibration(labels, values, self._clusters[known], given, seed=self._config.seed))
        scale, offset = (np.array([getattr(one, name) for one in found], np.float32) for name in ("scale", "offset"))
        return rescale(network, scale, offset), [
            {"track": track, **one.facts()} for track, one in zip(self._tracks, found, strict=True)
        ]


def measure_validation(
    targets: UInt8[np.ndarray, "example track"], logits: Float[np.ndarray, "example track"]
) -> dict[str, float]:
    """Cross-entropy, AUROC and AUPRC, averaged over the tracks in which both classes are known.

    Raises:
        InputError: no track has both.
    """
    losses, rankings, precisions = [], [], []
    for track in range(targets.shape[1]):
        known = targets[:, track] != UNKNOWN_TARGET
        label, logit = targets[known, track] == 1, logits[known, track].astype(np.float64)
        if label.all() or not label.any():
            continue
        losses.append(float(np.mean(np.logaddexp(0.0, logit) - label * logit)))
        rankings.append(auroc(label, logit))
        precisions.append(auprc(label, logit))
    if not losses:
        raise InputError(
            "the validation split has no track with positives and negatives",
            remedy="build the dataset with another split",
        )
    return {"loss": float(np.mean(losses)), "auroc": float(np.mean(rankings)), "auprc": float(np.mean(precisions))}
