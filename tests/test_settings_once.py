"""A setting is said once: a field that is added is found in the help, in `ebox config` and in the identity of a run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import ebox
from ebox.cli.app import list_verbs, make_app
from ebox.cli.parameters import list_parts, read_args
from ebox.sequences.simulation import SimulationConfig
from ebox.settings import flags, reading, sections
from ebox.settings.fields import setting
from ebox.settings.sections import Config, TrainConfig
from ebox.training.checkpoints import RunIdentity


class LongerTrainConfig(TrainConfig):
    """The section with one more field."""

    sharpness: float = setting(0.25, "How sharp it is.", flag="--sharpness")
    note_every: int = setting(3, "Steps between two notes.", changes_result=False)


class LongerConfig(Config):
    """All settings, with the longer section."""

    train: LongerTrainConfig = LongerTrainConfig()


@pytest.fixture
def longer(monkeypatch: pytest.MonkeyPatch) -> type[Config]:
    """Put the field into the settings, as if it stood in its section."""
    for module in (flags, reading, sections):
        monkeypatch.setattr(module, "Config", LongerConfig)
    return LongerConfig


def help_of(verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("sys.argv", ["ebox", verb, "--help"])
    with pytest.raises(SystemExit):
        make_app(verb)()
    return capsys.readouterr().out


def test_an_added_field_is_an_option_with_help_and_default(
    longer: type[Config], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for verb in ("train", "run"):
        told = help_of(verb, capsys, monkeypatch)
        assert re.search(r"--sharpness <float>\s+How sharp it is\. \(default 0\.25\)", told)
        assert "note-every" not in told
    assert "--sharpness" not in help_of("build", capsys, monkeypatch)


def test_an_added_field_is_read_from_its_option(longer: type[Config]):
    chosen = flags.list_flags(("train",))
    given = {flag.parameter: None for flag in chosen} | {"sharpness": 0.5}
    config = reading.read_config(None, (), flags.read_flags(chosen, given))
    assert isinstance(config, LongerConfig)
    assert config.train.sharpness == 0.5


def test_an_added_field_is_printed_as_a_settings_file(longer: type[Config]):
    text = reading.describe_settings(longer())
    assert "# How sharp it is.\nsharpness = 0.25" in text
    assert "note_every = 3" in text


def test_an_added_field_belongs_to_the_identity_unless_it_says_otherwise(longer: type[Config]):
    identity = RunIdentity.of(longer(), "data").settings
    assert identity["train"]["sharpness"] == 0.25
    assert "note_every" not in identity["train"]


def test_the_identity_is_network_training_and_what_passes_between_workers():
    identity = Config().identity()
    assert list(identity) == ["model", "train", "transfer", "parallel", "ensemble"]
    assert set(identity["parallel"]) == {
        *("exchange", "hierarchical", "node_devices", "rank", "top_fraction"),
        *("sync", "local_steps", "outer_rate", "outer_momentum"),
    }
    free = {"checkpoint_every_seconds", "checkpoint_every_steps", "log_every_steps", "calibrate", "calibrate_by"}
    assert set(TrainConfig.model_fields) - set(identity["train"]) == free


def test_every_setting_says_what_it_means():
    for section, model in {**Config.list_sections(), "simulation": SimulationConfig}.items():
        for name, field in model.model_fields.items():
            assert field.description, f"{section}.{name}"
            assert field.description[-1] in ".;)", f"{section}.{name}"


def test_one_flag_sets_every_seed():
    (seed,) = [flag for flag in flags.list_flags(("train",)) if flag.name == "--seed"]
    assert seed.keys == ("data.seed", "train.seed", "evaluation.seed", "tuning.seed")


def test_kinds_with_commas_are_several():
    (kinds,) = [flag for flag in flags.list_flags(("data",)) if flag.name == "--negative-kinds"]
    assert kinds.read("given, shuffled") == ["given", "shuffled"]


@pytest.mark.parametrize("name", list(list_verbs()))
def test_every_option_of_a_verb_is_explained(name: str):
    verb, module = list_verbs()[name]
    function = verb.find_function(module)
    parts = list_parts(verb, function)
    options = [option for part in parts for option in part.options]
    assert all(option.help.strip(" .;") for option in options)
    assert len({option.name for option in options}) == len(options)
    assert callable(module.describe)


@pytest.mark.parametrize("name", list(list_verbs()))
def test_what_a_verb_says_of_its_parameters_is_of_parameters_that_it_has(name: str):
    verb, module = list_verbs()[name]
    options = [option.parameter for part in list_parts(verb, verb.find_function(module)) for option in part.options]
    assert {*verb.arguments, *verb.options, *verb.needed} <= set(options)
    assert not set(verb.hidden) & set(options)
    assert set(verb.hidden) <= set(verb.find_function(module).__annotations__)


@pytest.mark.parametrize("name", list(list_verbs()))
def test_a_verb_is_a_documented_function_of_the_package(name: str):
    verb, module = list_verbs()[name]
    function = verb.find_function(module)
    assert getattr(ebox, function.__name__) is function
    parameters = [each for each in function.__annotations__ if each != "return"]
    assert set(parameters) == set(read_args(function))
    assert "return" in function.__annotations__


def test_the_sections_that_a_verb_names_are_there():
    known = set(Config.list_sections())
    for verb, _ in list_verbs().values():
        assert {name.split(".")[0] for name in verb.settings} <= known
        assert set(verb.of_run) <= known


def find_rows_of_none(source: str) -> list[int]:
    """The lines of calls that hand on three values of None or more, by position or by name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        # To replace a column by None is to leave it out.
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") != "replace":
            given = [*node.args, *(word.value for word in node.keywords)]
            if sum(isinstance(each, ast.Constant) and each.value is None for each in given) >= 3:
                found.append(node.lineno)
    return found


def test_no_call_hands_on_a_row_of_none():
    source = Path(ebox.__file__).parent
    assert [
        f"{path.relative_to(source)}:{line}"
        for path in source.rglob("*.py")
        for line in find_rows_of_none(path.read_text(encoding="utf-8"))
    ] == []


@pytest.mark.parametrize(
    "call", ["f(1, None, None, None)", "f(\n    None,\n    None,\n    None,\n)", "f(None, a=None, b=None)"]
)
def test_a_row_of_none_is_found(call: str):
    assert find_rows_of_none(call) == [1]
    assert find_rows_of_none("f(None, a=None)") == []
