"""What the doctor says before a training, and that it is so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebox.datasets.build import build_dataset
from ebox.datasets.sources import DatasetSources
from ebox.diagnosis.preflight import _remark_on_statistics, check_training, find_largest_batch
from ebox.errors import InputError
from ebox.planning.compilation import StepShape, compile_train_step
from ebox.sequences import write_fasta
from ebox.settings.reading import DataConfig, make_config
from ebox.verbs.doctor import describe_preflight, doctor

SMALL = {"num_filters": 8, "filter_width_bp": 7, "dense_units": [8], "dilations": [2]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name in ("bound", "unbound"):
        codes = rng.integers(0, 4, (150, 60), np.uint8)
        write_fasta(folder / f"{name}.fa", [f"{name}{number}" for number in range(150)], codes)
    build_dataset(
        DataConfig(),
        folder / "dataset",
        DatasetSources(positives=folder / "bound.fa", negatives=(folder / "unbound.fa",)),
    )
    return folder / "dataset"


@pytest.mark.slow
def test_a_training_is_foreseen(dataset: Path):
    config = make_config({"model": SMALL, "train": {"batch_size": 20, "epochs": 2}, "parallel": {"devices": 8}})
    found = check_training(dataset, config)
    assert found.num_steps == 2 * -(-found.num_examples // 20)
    assert found.training_seconds == pytest.approx(found.num_steps * found.step_seconds)
    assert 0.0 < found.step_seconds < found.compile_seconds
    assert found.largest_batch_size > 1000
    assert found.largest_batch_size % 8 == 0
    assert any("leaves places on 8 devices empty; 24 fills them" in remark for remark in found.remarks)
    text = describe_preflight(found)
    assert "8 x cpu (cpu)" in text
    assert "largest batch" in text


@pytest.mark.parametrize(
    ("train", "remark"),
    [
        ({"batch_size": 64}, "two messages in each layer at every step; with train.batch_statistics=group"),
        ({"batch_size": 64, "batch_statistics": "group"}, "set train.group_examples=16"),
        ({"batch_size": 30, "batch_statistics": "group"}, "set a train.batch_size that the workers share evenly"),
        ({"batch_size": 64, "batch_statistics": "group", "group_examples": 16}, None),
        ({"batch_size": 64, "batch_statistics": "device"}, None),
    ],
)
def test_what_normalisation_waits_for_is_said(train: dict[str, Any], remark: str | None):
    found = list(_remark_on_statistics(make_config({"train": train}), 4))
    assert len(found) == (remark is not None)
    assert all(remark in one for one in found)


@pytest.mark.slow
def test_the_largest_batch_is_that_which_the_compiler_would_still_fit():
    from ebox.mesh import find_devices, make_mesh
    from ebox.settings.reading import ParallelConfig

    mesh, shape = make_mesh(find_devices(ParallelConfig(devices=1))), StepShape(200, 1, 1)

    def compiled(batch: int):
        return compile_train_step(mesh, make_config({"model": SMALL, "train": {"batch_size": batch}}), shape)

    small, large, free = compiled(64), compiled(256), 2**28
    batch = find_largest_batch(small, large, free, 1)
    assert 0.75 * free < compiled(batch).memory.total < 0.85 * free


@pytest.mark.slow
def test_the_doctor_takes_a_dataset(dataset: Path):
    result = doctor(dataset=dataset, overrides=["model.num_filters=8", "train.max_steps=20"])
    assert result.training is not None
    assert result.training.num_steps == 20


def test_the_doctor_refuses_settings_without_a_dataset():
    with pytest.raises(InputError, match="need --for or --topology"):
        doctor(overrides=["model.num_filters=8"])
