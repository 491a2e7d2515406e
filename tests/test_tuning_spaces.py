"""A space of settings: what it holds, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebox.errors import InputError
from ebox.settings.reading import Config, make_config
from ebox.tuning.members import MEMBER_SETTINGS, SWITCHES
from ebox.tuning.spaces import DEFAULT_SPACE, Choices, Range, read_space


def write(folder: Path, text: str) -> Path:
    path = folder / "space.toml"
    path.write_text(text)
    return path


def test_the_space_of_ebox_holds_its_own_defaults():
    space = read_space()
    assert set(space.find(Config())) == set(space.facts())
    assert len(space.dimensions) > 12
    assert "print-space" not in DEFAULT_SPACE.read_text()


def test_values_of_a_trial_become_settings(tmp_path: Path):
    text = (
        "[model]\nnum_filters = {low = 8, high = 32, step = 8}\ndilations = {choices = [[1], [2, 4]]}\n"
        "[train]\nlearning_rate = {low = 1e-4, high = 1, log = true}\n"
        'positive_weight = {choices = ["balanced", 2.0]}\nclip_norm = {choices = ["none", 1.0]}\n'
    )
    space = read_space(write(tmp_path, text))
    kept = {
        "model.num_filters": 24,
        "model.dilations": "[1]",
        "train.learning_rate": 0.5,
        "train.positive_weight": '"balanced"',
        "train.clip_norm": '"none"',
    }
    config = space.apply(make_config({"train": {"epochs": 3, "clip_norm": 2.0}}), kept)
    assert (config.model.num_filters, config.model.dilations) == (24, (1,))
    assert (config.train.learning_rate, config.train.positive_weight, config.train.clip_norm) == (0.5, "balanced", None)
    assert config.train.epochs == 3
    assert space.read(kept)["model.dilations"] == [1]


def test_only_values_on_the_steps_of_a_range_are_in_it():
    stepped = Range("model.num_filters", 8, 32, 8, whole=True)
    assert [stepped.keep(value) for value in (8, 16, 20, 40, True, "8")] == [8, 16, None, None, None, None]
    assert Range("train.dropout", 0.0, 0.6, 0.2).keep(0.4) == 0.4
    assert Range("train.dropout", 0.0, 0.6, 0.2).keep(0.5) is None
    assert Choices("train.shift_bp", (0, 4)).keep(4) == "4"


def test_whole_settings_take_whole_numbers_and_others_all(tmp_path: Path):
    text = "[model]\nnum_filters = {low = 8.0, high = 9.0}\n[train]\nlearning_rate = {low = 1, high = 2}\n"
    filters, rate = read_space(write(tmp_path, text)).dimensions
    assert isinstance(filters, Range)
    assert isinstance(rate, Range)
    assert (filters.whole, filters.low, type(filters.low)) == (True, 8, int)
    assert not rate.whole


def test_a_given_value_is_found_however_its_choice_is_written(tmp_path: Path):
    (tmp_path / "space.toml").write_text(
        "[train]\nmutation_rate = {choices = [0, 0.01]}\nclip_norm = {choices = ['none', 1]}\n"
        "batch_size = {choices = [32, 64.0]}\n[model]\ndilations = {choices = [[2], []]}\n"
    )
    space = read_space(tmp_path / "space.toml")
    config = make_config(
        {"train": {"mutation_rate": 0.0, "clip_norm": "none", "batch_size": 64}, "model": {"dilations": [2]}}
    )
    assert space.holds(config)
    assert space.apply(Config(), space.find(config)).train.clip_norm is None
    assert space.facts()["train.clip_norm"] == {"choices": [None, 1.0]}


def test_rates_are_settings_that_do_not_change_a_shape():
    assert SWITCHES < MEMBER_SETTINGS <= set(type(Config().train).model_fields)
    space = read_space()
    assert "train.learning_rate" not in space.shape_keys
    assert {"model.num_filters", "train.batch_size", "train.shift_bp"} <= set(space.shape_keys)


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("[train]\nlearning_rat = {low = 1, high = 2}", "did you mean 'learning_rate'", "ebox config"),
        ("[trian]\nx = 1", r"\[trian\] can't be searched.*did you mean 'train'", "print-space"),
        ("[data]\nlength_bp = {low = 100, high = 200}", r"\[data\] can't be searched", "print-space"),
        ("train = 3", "is 3, not a section", r"\[train\]"),
        ("", "holds no setting", "print-space"),
        ("[train]\ndropout = {low = 0.5, high = 0.5}", "empty range: low = 0.5 is not below", "high above low"),
        ("[train]\ndropout = {low = 0.5, high = 0.1}", "empty range", "high above low"),
        ("[train]\ndropout = {low = 0.5}", "no low and high", "write dropout ="),
        ("[train]\ndropout = {low = 0.1, high = 0.2, stp = 1}", "has 'stp'; did you mean 'step'", "write dropout ="),
        ("[train]\ndropout = {low = 0.1, high = 1.5}", "refuses: dropout: Input should be less than 1", "change it"),
        ("[train]\ndropout = {low = '0', high = 0.5}", "low = '0', not a number", "write dropout"),
        ("[train]\ndropout = {low = 0.1, high = nan}", "high = nan, not a number", "write dropout"),
        ("[train]\ndropout = {low = 0.0, high = 0.5, log = true}", "log = true with low = 0", "low above 0"),
        ("[train]\ndropout = {low = 0.1, high = 0.5, log = 1}", "log = 1, not true or false", "write dropout"),
        ("[train]\ndropout = {low = 0.1, high = 0.5, log = true, step = 0.1}", "with step = 0.1", "leave step out"),
        ("[train]\ndropout = {low = 0.0, high = 0.5, step = 0.2}", "with step = 0.2", "high = 0.4"),
        ("[train]\ndropout = {low = 0.0, high = 0.5, step = 0}", "has step = 0", "above 0"),
        ("[model]\nnum_filters = {low = 8, high = 32, step = 1.5}", "has step = 1.5", "whole number above 0"),
        ("[model]\nnum_filters = {low = 8.5, high = 32}", "refuses: num_filters: .*integer.*8.5", "change it"),
        ("[model]\nactivation = {choices = ['relu', 'gellu']}", "did you mean 'gelu'", "change it"),
        ("[model]\nactivation = {choices = []}", r"choices = \[\], not a list", "at least one"),
        ("[model]\nactivation = {choices = ['relu', 'relu']}", "'relu' twice", "once"),
        ("[train]\ndropout = {choices = [0.0, 0]}", "the choice 0 twice", "once"),
        ("[train]\nbatch_size = 64", "is 64, not a range", "--set train.batch_size"),
        ("[train]\nseed = {low = 0, high = 9}", "set by the search itself", "--set train.seed"),
        ("[train]\nlog_every_steps = {low = 1, high = 9}", "changes no result", "--set train.log_every_steps"),
        ("[train", "is not TOML", "print-space"),
    ],
)
def test_a_wrong_space_is_refused_with_file_and_remedy(tmp_path: Path, text: str, problem: str, remedy: str):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=problem) as caught:
        read_space(path)
    assert caught.value.file == str(path)
    assert caught.value.remedy is not None
    import re

    assert re.search(remedy, caught.value.remedy)


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="no such file of a space"):
        read_space(tmp_path / "none.toml")
