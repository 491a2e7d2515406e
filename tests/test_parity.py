"""The certificate of 1 against N."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ebox.diagnosis.parity import ParityCase, ParityResult, certify_parity, read_numbers, write_parity
from ebox.errors import InputError
from ebox.verbs.train import worker_arguments


def test_a_certificate_holds_only_if_all_of_it_does(tmp_path: Path):
    good, far = ParityCase(2, "devices", 4e-7, True), ParityCase(4, "devices", 2e-6, True)
    unsteady = ParityCase(2, "processes", 0.0, False)
    assert ParityResult((good,), {}).holds
    assert not ParityResult((good, far), {}).holds
    assert not ParityResult((good, unsteady), {}).holds
    write_parity(ParityResult((good, far), {}), tmp_path / "parity.json")
    facts = json.loads((tmp_path / "parity.json").read_text())
    assert (facts["holds"], facts["format"], facts["cases"][1]["workers"]) == (False, "ebox-parity", 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("train.batch_statistics=group", "train.group_examples=8"),
        ("model.architecture=convnext", "model.pooling=['mean', 'attention']", "model.attention_heads=2"),
    ],
    ids=["global", "groups on several workers", "blocks and attention"],
)
def test_one_and_several_workers_train_the_same_model_here(overrides: tuple[str, ...]):
    result = certify_parity(worker_arguments, (2, 8), overrides=overrides)
    assert result.facts()["overrides"] == list(overrides)
    assert [(case.workers, case.kind) for case in result.cases] == [
        (2, "devices"),
        (8, "devices"),
        (2, "processes"),
    ]
    assert result.holds, result.cases
    assert any(case.relative_difference > 0.0 for case in result.cases)


def test_a_certificate_with_unknown_settings_is_refused():
    with pytest.raises(InputError, match="batch_statistic") as caught:
        certify_parity(worker_arguments, (2,), overrides=("train.batch_statistic=group",))
    assert str(caught.value).count("What to do") == 1


def test_a_training_that_fails_says_why():
    with pytest.raises(InputError, match="no GPU that JAX can use") as caught:
        certify_parity(worker_arguments, platform="gpu")
    assert str(caught.value).count("What to do") == 1


@pytest.mark.parametrize("text", ["", "two", "1", "2,,4", "2,99", "-2"])
def test_what_is_no_list_of_workers_is_refused(text: str):
    with pytest.raises(InputError, match="not a list of numbers of workers"):
        read_numbers(text)


def test_a_list_of_workers_is_read():
    assert read_numbers("2, 4") == (2, 4)
