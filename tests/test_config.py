"""Settings: typed, frozen, TOML in and out."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ebox.errors import InputError
from ebox.settings.reading import Config, describe_settings, format_config, make_config, read_config, write_config


def test_settings_survive_toml_even_where_none_is_not_the_default(tmp_path: Path):
    config = make_config({"train": {"negatives_per_positive": None, "max_steps": 7}, "data": {"length_bp": 500}})
    write_config(config, tmp_path / "c.toml")
    assert read_config(tmp_path / "c.toml") == config
    assert config.train.negatives_per_positive is None


def test_described_settings_read_back_equal(tmp_path: Path):
    (tmp_path / "c.toml").write_text(describe_settings(Config()))
    assert read_config(tmp_path / "c.toml") == Config()


def test_later_overrides_win_and_flags_win_over_them(tmp_path: Path):
    (tmp_path / "c.toml").write_text("[train]\nepochs = 3\nbatch_size = 8\n")
    config = read_config(tmp_path / "c.toml", ["train.epochs=4", "train.epochs=5"], {"train.seed": 9})
    assert (config.train.epochs, config.train.batch_size, config.train.seed) == (5, 8, 9)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epoch=3", "did you mean 'train.epochs'"),
        ("trian.epochs=3", "did you mean 'train'"),
        ("train.num_filters=4", "did you mean 'model.num_filters'"),
        ("parallel.exchange=exakt", "'powersgd' (found 'exakt'); did you mean 'exact'?"),
        ("data.negatives=['schuffled']", "(found 'schuffled'); did you mean 'shuffled'?"),
        ("train.batch_size=-1", "greater than 0 (found -1)"),
        ("train.dropout=1.0", "train.dropout"),
        ("epochs=3", "not section.key=value"),
        ("data.split_fractions=[0.5,0.2,0.1]", "sum to 0.8"),
        ("data.test_chroms=['chr2']", "chr2 is in"),
    ],
)
def test_a_wrong_setting_is_named_with_the_remedy(override: str, words: str):
    with pytest.raises(InputError) as caught:
        read_config(None, [override])
    assert words in str(caught.value)
    assert "What to do" in str(caught.value)


def test_a_settings_file_that_is_not_toml_is_named(tmp_path: Path):
    path = tmp_path / "c.toml"
    path.write_bytes(b"\x00\xff[")
    with pytest.raises(InputError, match="is not TOML"):
        read_config(path)
    with pytest.raises(InputError, match="no such settings file"):
        read_config(tmp_path / "absent.toml")


def test_settings_can_not_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Config().train.epochs = 3  # type: ignore[misc]


def test_formatted_settings_hold_every_key():
    text = format_config(Config())
    for section in ("data", "model", "train", "parallel", "ensemble", "evaluation"):
        for key in getattr(Config(), section).model_dump():
            assert f"{key} =" in text
