"""Operations of an example, counted by the settings, against the weights of a network that is built from them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from ebox.models.architectures import build_model
from ebox.planning.operations import count_operations
from ebox.settings.reading import ModelConfig


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"architecture": "motif", "strands": "one"},
        {"body_filters": 48, "dilations": (2, 4, 8), "dense_units": (32, 16), "pooling": ("mean", "max")},
    ],
)
def test_every_weight_is_multiplied_wherever_its_layer_is(settings: dict[str, Any]):
    model = ModelConfig(**settings)
    network = build_model(model, 1, 200, np.random.default_rng(0))
    body = sum(leaf.size for leaf in jax.tree.leaves(network.body) if leaf.ndim > 1)
    head = sum(leaf.size for leaf in jax.tree.leaves(network.head) if leaf.ndim > 1)
    first = network.motifs.convolution.weight.size
    # Products are made forward, for the weights and for the inputs, which the first layer needs not.
    assert count_operations(model, 200) == 2 * (2 * 200 * first + 3 * (50 * body + head))


def test_a_filter_that_reads_both_strands_is_multiplied_twice():
    one, both = (count_operations(ModelConfig(architecture="motif", strands=name), 200) for name in ("one", "both"))
    assert both - one == 2 * 2 * 200 * 15 * 4 * 128
