"""Configurations: what wins over what, tuned values, and the way to a file and back."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from synergy import presets
from synergy.errors import UsageError
from synergy.methods import METHODS, method_class
from synergy.nets import NETS, net_class
from synergy.nets.mlp import MLPConfig
from synergy.presets import Preset
from synergy.runs.config import PresetChoice, RunConfig, build
from synergy.runs.config_file import from_toml, in_present_form, read_config
from synergy.runs.groups import GROUPS, OutputConfig, TrainingConfig
from synergy.scenarios import SCENARIOS, scenario_class

BEST = PresetChoice(wanted=True)
NEAREST = PresetChoice(nearest=True)


def named(preset: Preset) -> str:
    return "-".join(str(part) for part in (preset.scenario, preset.variant, preset.method, preset.buffer_size) if part)


def what_a_preset_is_for(preset: Preset) -> dict[str, Any]:
    """The options that choose it."""
    variant = scenario_class(preset.scenario).variant_option
    given = {"buffer_size": preset.buffer_size, variant: preset.variant}
    return {name: value for name, value in given.items() if name is not None and value is not None}


RUNNABLE = [preset for preset in presets.available() if preset.method in METHODS and preset.scenario in SCENARIOS]


@pytest.mark.parametrize("preset", RUNNABLE, ids=named)
def test_a_preset_gives_exactly_its_values(preset: Preset) -> None:
    given = what_a_preset_is_for(preset)
    config = build(preset.scenario, preset.method, given, BEST)
    values = config.scenario.as_mapping() | config.method.as_mapping() | config.training.as_mapping()
    assert preset.values.items() <= values.items()
    assert preset.values.keys() <= method_class(preset.method).Config.names() | TrainingConfig.names()
    from_preset = {name for name, origin in config.provenance.items() if origin == f"preset: {preset.source}"}
    assert from_preset == set(preset.values)
    plain = build(preset.scenario, preset.method, given | dict(preset.values))
    assert plain == config


def test_there_are_presets_to_test() -> None:
    assert len(RUNNABLE) > 50
    assert {preset.method for preset in presets.available()} <= set(METHODS)
    assert {preset.scenario for preset in presets.available()} <= set(SCENARIOS)


def test_flags_win_over_presets_over_files_over_defaults() -> None:
    (preset,) = [p for p in presets.available("rot-mnist", "synergy") if p.buffer_size == 500]
    assert {"lr", "reg_weight", "ema_alpha"} <= preset.values.keys()
    from_file = {"lr": 0.7, "reg_weight": 0.7, "notes": "from a file", "seed": 7}
    given = {"buffer_size": 500, "lr": 0.9, "seed": 9}
    config = build("rot-mnist", "synergy", given, BEST, from_file)
    values = config.method.as_mapping() | config.training.as_mapping() | config.output.as_mapping()
    origins = {name: (values[name], config.provenance[name]) for name in ("lr", "reg_weight", "notes", "seed")}
    assert origins == {
        "lr": (0.9, "flag"),
        "reg_weight": (preset.values["reg_weight"], f"preset: {preset.source}"),
        "notes": ("from a file", "configuration file"),
        "seed": (9, "flag"),
    }
    assert config.provenance["fisher_memory_mb"] == "default"
    assert config.provenance["n_tasks"] == "default"


def test_every_value_has_an_origin() -> None:
    config = build("rot-digits", "synergy", {})
    options = [vars(config)[group.name].names() for group in GROUPS]
    assert len(options) == 5
    assert config.provenance.keys() == frozenset({"net"}).union(*options)


def test_the_scenario_gives_epochs_and_batch_size() -> None:
    config = build("seq-mnist", "er", {"n_epochs": 3})
    assert (config.training.n_epochs, config.training.batch_size) == (3, 10)
    assert config.provenance["n_epochs"] == "flag"
    assert config.provenance["batch_size"] == "default of seq-mnist"


def test_a_method_of_one_batch_size_gives_that() -> None:
    only = {name: method_class(name).only_batch_size for name in METHODS}
    name = next(name for name, size in only.items() if size is not None)
    config = build("seq-mnist", name, {})
    assert config.training.batch_size == only[name]
    assert config.provenance["batch_size"] == f"default of {name}"


def test_a_size_without_preset_names_those_that_have_one() -> None:
    expected = (
        r"no preset of method 'synergy' for scenario 'rot-mnist' with buffer size 300; "
        r"there are some for 200, 500, 1000; add --nearest_best_args to take the nearest, 200"
    )
    with pytest.raises(UsageError, match=expected):
        build("rot-mnist", "synergy", {"buffer_size": 300}, BEST)


def test_the_nearest_preset_says_which_it_is() -> None:
    config = build("rot-mnist", "synergy", {"buffer_size": 300}, NEAREST)
    (preset,) = [p for p in presets.available("rot-mnist", "synergy") if p.buffer_size == 200]
    assert config.method.as_mapping()["buffer_size"] == 300
    assert config.provenance["lr"] == f"preset (of buffer size 200): {preset.source}"
    assert preset.values.items() <= (config.method.as_mapping() | config.training.as_mapping()).items()


def test_the_size_that_chooses_a_preset_may_come_from_a_file_or_a_default() -> None:
    of_file = build("rot-mnist", "synergy", {}, BEST, {"buffer_size": 1000})
    of_default = build("rot-mnist", "synergy", {}, BEST)
    found = {p.buffer_size: p.values for p in presets.available("rot-mnist", "synergy")}
    assert found[1000].items() <= (of_file.method.as_mapping() | of_file.training.as_mapping()).items()
    assert found[500].items() <= (of_default.method.as_mapping() | of_default.training.as_mapping()).items()


@pytest.mark.parametrize(
    ("scenario", "method", "options", "message"),
    [
        ("rot-mnst", "er", {}, "unknown scenario 'rot-mnst'; did you mean 'rot-mnist'"),
        ("rot-mnist", "synergi", {}, "unknown method 'synergi'; did you mean 'synergy'"),
        ("rot-mnist", "er", {"ema_alpha": 0.5}, "unknown option of er on rot-mnist (flag) 'ema_alpha'"),
        ("mnist-360", "er", {"n_tasks": 3}, "unknown option of er on mnist-360 (flag) 'n_tasks'"),
        ("rot-mnist", "er", {"buffer_size": 0}, "buffer_size: given 0; allowed: at least 1"),
        ("rot-mnist", "er", {"max_tasks": -1}, "max_tasks: given -1; allowed: at least 1"),
        ("rot-mnist", "er", {"device": "gpu"}, "device: given 'gpu'; allowed: one of auto, cpu, cuda, mps"),
    ],
)
def test_what_cannot_be_built(scenario: str, method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as complaint:
        build(scenario, method, options)
    assert str(complaint.value).startswith(message)


def test_an_option_in_the_file_that_the_method_does_not_have() -> None:
    with pytest.raises(UsageError, match=r"unknown option of er on rot-digits \(configuration file\) 'ema_alpha'"):
        build("rot-digits", "er", {}, from_file={"ema_alpha": 0.9})


@pytest.mark.parametrize("name", ["run-1", "a.b_c", "7", "größe", "x" * 200])
def test_names_for_a_run(name: str) -> None:
    assert OutputConfig(experiment_id=name).experiment_id == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/b", "/a", "a\\b", "-a", ".a", "a b", "a\nb", "results.jsonl", "x" * 201]
)
def test_names_that_would_leave_the_output_folder_or_hide_in_it(name: str) -> None:
    with pytest.raises(UsageError, match="experiment_id: given "):
        OutputConfig(experiment_id=name)


CONFIG = build(
    "rot-digits",
    "synergy",
    {"n_tasks": 2, "rotation_angles": [10, 20.5], "lr": 0.05, "seed": 3, "notes": 'two\nlines, "quoted"'},
)


def built_from(path: Path, text: str) -> RunConfig:
    """Write a file and build what it says."""
    path.write_text(text)
    content = from_toml(path)
    return build(content.scenario_name, content.method_name, {}, from_file=content.values)


def test_a_configuration_comes_back_from_its_file(tmp_path: Path) -> None:
    assert built_from(tmp_path / "config.toml", CONFIG.to_toml()) == CONFIG
    tables = CONFIG.as_mapping()
    assert tables["output"].pop("output_dir") == "runs"
    assert tomllib.loads(CONFIG.to_toml()) == {**tables, "provenance": CONFIG.provenance}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_defaults_of_every_method_come_back_from_a_file(tmp_path: Path, scenario: str) -> None:
    for method in METHODS:
        config = build(scenario, method, {})
        again = built_from(tmp_path / "config.toml", config.to_toml())
        assert again == config
        assert set(again.provenance.values()) <= {"configuration file", "default"}
        assert again.provenance["net"] == "configuration file"


def test_a_configuration_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.to_toml())
    assert (read_config(path), read_config(path).provenance) == (CONFIG, CONFIG.provenance)
    path.write_text(CONFIG.to_toml().partition("[provenance]")[0])
    assert read_config(path).provenance["seed"] == "configuration file"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("provenance = 3", "the table 'provenance' must name the origin of options, each as a text"),
        ("[provenance]\nseed = 3", "the table 'provenance' must name the origin of options, each as a text"),
        ('[provenance]\nsed = "flag"', "unknown option in the table 'provenance' of .* 'sed'; did you mean 'seed'"),
        ("files = 3", "the table 'files' must name the files of scenario, method and net, each as a text"),
        ("[files]\nmethod = 3", "the table 'files' must name the files of scenario, method and net, each as a text"),
    ],
)
def test_damaged_tables_of_origins_and_files(tmp_path: Path, table: str, message: str) -> None:
    path = tmp_path / "config.toml"
    # First: a value outside of tables stands before them.
    path.write_text(f"{table}\n{HEAD}")
    with pytest.raises(UsageError, match=message):
        read_config(path)


def test_provenance_makes_no_difference() -> None:
    given = build("rot-digits", "er", {"lr": 0.1})
    assert given == build("rot-digits", "er", {})
    assert given != build("rot-digits", "er", {"lr": 0.2})


HEAD = '[scenario]\nname = "rot-digits"\n[method]\nname = "er"\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[scenario", "is not TOML: "),
        (b"\xff\xfe", "is not TOML: "),
        (b"seed = " + b"9" * 5000, "is not TOML: "),
        (b"", "the table 'scenario' needs a name"),
        (b"[scenario]\nname = 3\n", "the table 'scenario' needs a name"),
        (b'[scenario]\nname = "rot-digits"\n', "the table 'method' needs a name"),
        (HEAD.encode() + b"[trainig]\nseed = 1\n", "'trainig'; did you mean 'training'? allowed: files, method, net,"),
        (HEAD.encode() + b"[net]\nname = 3\n", "the table 'net' needs a name"),
        (b"training = 3\n" + HEAD.encode(), "'training' must be a table"),
    ],
)
def test_what_is_no_configuration_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as complaint:
        from_toml(path)
    assert message in str(complaint.value)
    assert str(path) in str(complaint.value)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_configuration_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot read the configuration"):
        from_toml(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed = 1.5", "seed: given 1.5; allowed: a value of type int"),
        ("seed = 1979-05-27", "seed: given datetime.date(1979, 5, 27); allowed: a value of type int"),
        ("seed = [1]", "seed: given [1]; allowed: a value of type int"),
        ("seed = {a = 1}", "seed: given {'a': 1}; allowed: a value of type int"),
        ('validation = "yes"', "validation: given 'yes'; allowed: a value of type bool"),
        (f"lr = {10**400}", "allowed: a whole number below 2^63"),
        ("lr = nan", "lr: given nan; allowed: a finite number"),
    ],
)
def test_a_value_in_a_file_that_is_not_allowed(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UsageError) as complaint:
        built_from(tmp_path / "config.toml", f"{HEAD}[training]\n{line}\n")
    assert message in str(complaint.value)


@pytest.mark.parametrize(
    ("scenario", "options", "partial"),
    [
        ("rot-digits", {}, False),
        ("rot-digits", {"max_tasks": 2}, True),
        ("rot-digits", {"max_steps_per_task": 2}, True),
        ("seq-cifar10", {}, False),
        ("seq-cifar10", {"width": 20}, True),
        ("seq-cifar10", {"width": 80}, False),
        ("rot-digits", {"hidden": 99}, True),
        ("rot-digits", {"hidden": 100}, False),
        ("gcil-cifar100", {"width": 63}, True),
    ],
)
def test_smaller_runs_are_partial(scenario: str, options: dict[str, Any], partial: bool) -> None:
    assert build(scenario, "er", options).partial is partial


def test_a_run_can_be_put_together_without_the_command_line() -> None:
    config = build("rot-digits", "er", {"seed": 4})
    assert config == RunConfig(
        "rot-digits",
        "er",
        "mlp",
        scenario_class("rot-digits").Config(),
        method_class("er").Config(),
        MLPConfig(),
        TrainingConfig(n_epochs=1, batch_size=16, seed=4),
    )


def test_the_scenario_gives_the_network() -> None:
    usual = {name: scenario_class(name).default_net for name in SCENARIOS}
    assert set(usual.values()) == {"mlp", "resnet18"} < set(NETS)
    for name, net in usual.items():
        config = build(name, "er", {})
        assert (config.net_name, config.provenance["net"]) == (net, f"default of {name}")
        assert config.as_mapping()["net"] == {"name": net, **config.net.as_mapping()}


def test_another_network_has_its_own_options() -> None:
    config = build("seq-cifar10", "er", {"net": "mlp", "hidden": 30})
    assert config.as_mapping()["net"] == {"name": "mlp", "hidden": 30}
    assert (config.provenance["net"], config.provenance["hidden"]) == ("flag", "flag")
    with pytest.raises(UsageError, match=r"unknown option of er on seq-cifar10 \(flag\) 'width'"):
        build("seq-cifar10", "er", {"net": "mlp", "width": 30})
    with pytest.raises(UsageError, match="unknown network 'mpl'; did you mean 'mlp'"):
        build("seq-cifar10", "er", {"net": "mpl"})
    with pytest.raises(UsageError, match="net: given 3; allowed: the name of a network"):
        build("seq-cifar10", "er", {"net": 3})


def test_no_two_groups_have_an_option_of_one_name() -> None:
    for scenario in SCENARIOS:
        for method in METHODS:
            for net in NETS:
                build(scenario, method, {"net": net})


OLD = """
[scenario]
name = "seq-cifar10"
n_tasks = 5
width = 20

[method]
name = "er"
lr = 0.1
buffer_size = 500
minibatch_size = 32

[training]
n_epochs = 50
batch_size = 32

[provenance]
width = "flag"
n_tasks = "default"
"""
"""As versions wrote it that had the width among the options of a scenario."""


def test_a_file_from_before_networks_were_a_group(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(OLD)
    config = read_config(tmp_path / "config.toml")
    assert config.as_mapping()["net"] == {"name": "resnet18", "width": 20}
    assert "width" not in config.as_mapping()["scenario"]
    assert (config.provenance["width"], config.provenance["n_tasks"], config.partial) == ("flag", "default", True)


def test_a_record_from_before_networks_were_a_group() -> None:
    old = {name: table for name, table in tomllib.loads(OLD).items() if name != "provenance"}
    now = in_present_form(old)
    assert (now["net"], "width" in now["scenario"]) == ({"name": "resnet18", "width": 20}, False)
    assert "net" not in old and old["scenario"]["width"] == 20, "the record itself stays"
    assert in_present_form({"scenario": {"name": "rot-digits"}})["net"] == {"name": "mlp", "hidden": 100}
    nameless: dict[str, Any] = {"scenario": {"name": []}}
    for other in ({}, {"scenario": 3}, {"scenario": {"name": "theirs"}}, nameless, now):
        assert in_present_form(other) == other


OWN = """
from dataclasses import dataclass
from synergy.methods.er import ER
from synergy.methods.base import ReplayConfig
from synergy.nets.mlp import MLP, MLPConfig
from synergy.options import option

@dataclass(frozen=True)
class Config(ReplayConfig):
    VALUE

class Own(ER):
    Config = Config

@dataclass(frozen=True)
class NetConfig(MLPConfig):
    VALUE

class Net(MLP):
    Config = NetConfig
"""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "hidden: int = option(3, '')",
            "option 'hidden': both method own.py:Own and net mlp have it; rename it",
        ),
        ("seed: int = option(3, '')", "option 'seed': both method own.py:Own and training have it; rename it in one"),
        ("net: int = option(3, '')", "method own.py:Own: no option can be called 'net'; rename it in Config"),
        ("name: str = option('', '')", "method own.py:Own: no option can be called 'name'; rename it in Config"),
        ("rates: list = option(3, '')", "Config.rates: given the type <class 'list'>; allowed for an option: int,"),
    ],
)
def test_options_of_a_users_class_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN.replace("VALUE", value))
    with pytest.raises(UsageError) as complaint:
        build("rot-digits", "own.py:Own", {})
    assert str(complaint.value).startswith(message)


def test_a_name_stays_as_given_and_its_file_is_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN.replace("VALUE", "level: int = option(3, 'a number')").replace("level", "depth", 1))
    config = build("rot-digits", "own.py:Own", {"net": "./own.py:Net", "level": 4})
    assert (config.method_name, config.net_name) == ("own.py:Own", "./own.py:Net")
    assert config.files == dict.fromkeys(("method", "net"), str(tmp_path / "own.py"))
    Path("config.toml").write_text(config.to_toml())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    again = read_config(tmp_path / "config.toml")
    assert (again, again.files) == (config, config.files)
    assert again.method_class() is config.method_class()
    assert "files" not in again.as_mapping(), "a record says nothing of its sender's folders"
    with pytest.raises(UsageError, match="cannot read the file"):
        build("rot-digits", "own.py:Own", {})


def test_a_network_that_is_given_comes_from_here_and_not_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("there", "here"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own.py").write_text(OWN.replace("VALUE", "pass"))
    monkeypatch.chdir(tmp_path / "here")
    there = {"net": str(tmp_path / "there/own.py")}
    of_file = build("rot-digits", "er", {}, from_file={"net": "own.py:Net"}, files=there)
    of_flag = build("rot-digits", "er", {"net": "own.py:Net"}, files=there)
    assert (of_file.files, of_flag.files) == (there, {"net": str(tmp_path / "here/own.py")})
    assert issubclass(of_flag.net_class(), net_class("mlp"))
