"""The configuration of a run: typed, and where every value came from."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import tomli_w

from synergy import presets
from synergy.errors import UsageError, unknown
from synergy.methods import METHOD_CLASSES
from synergy.nets import NET_CLASSES
from synergy.options import Options
from synergy.runs.groups import GROUPS, NAMED, OutputConfig, TrainingConfig, option_classes
from synergy.scenarios import SCENARIO_CLASSES

if TYPE_CHECKING:  # the command line prints its help without torch
    from torch import nn

    from synergy.methods.base import Method, MethodConfig
    from synergy.nets.base import NetConfig
    from synergy.scenarios.base import Scenario, ScenarioConfig

CONFIG_NAME = "config.toml"
"""Name of the configuration file in a run's folder."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run does.

    Attributes:
        scenario_name: in any form that `synergy.registry` knows, as given.
        method_name: likewise.
        net_name: likewise.
        scenario: its options.
        method: its options.
        net: its options.
        training: options of every run.
        output: where every run writes, and what.
        provenance: origin of the value of each option, and of `net`: a flag, a file, a default or a preset.
        files: absolute path of the file of each name that is a `file.py:Class`, and of the data of a `split:FOLDER`, by
            group.

    Examples:
        >>> config = build("rot-digits", "er", {"buffer_size": 200})
        >>> config.net_name, config.net.as_mapping(), config.partial
        ('mlp', {'hidden': 100}, False)
    """

    scenario_name: str
    method_name: str
    net_name: str
    scenario: ScenarioConfig
    method: MethodConfig
    net: NetConfig
    training: TrainingConfig = field(default_factory=TrainingConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    provenance: Mapping[str, str] = field(default_factory=dict, compare=False)
    files: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def partial(self) -> bool:
        """Whether a budget cut the run short, or the network is smaller than that of the benchmark.

        Fewer tasks or epochs by the options of a scenario make another benchmark; the configuration says so.
        """
        budget = self.training.max_steps_per_task is not None or self.training.max_tasks is not None
        return budget or self.net.reduced

    def scenario_class(self) -> type[Scenario[Any]]:
        """The class of the scenario."""
        return SCENARIO_CLASSES.load(self.scenario_name, self.files.get("scenario"))

    def method_class(self) -> type[Method[Any]]:
        """The class of the method."""
        return METHOD_CLASSES.load(self.method_name, self.files.get("method"))

    def net_class(self) -> type[nn.Module]:
        """The class of the network."""
        return NET_CLASSES.load(self.net_name, self.files.get("net"))

    def as_mapping(self) -> dict[str, Any]:
        """Nested mapping as in `config.toml`, a table for each group."""
        tables: dict[str, Any] = {group.name: vars(self)[group.name].as_mapping() for group in GROUPS}
        names = {group.name: {"name": vars(self)[f"{group.name}_name"]} for group in NAMED}
        return {name: names.get(name, {}) | options for name, options in tables.items()}

    def to_toml(self) -> str:
        """The configuration and the origins of its values, for the folder of the run.

        `output_dir` is left out: the file lies in it. `config_file.read_config` reads the text back.
        """
        tables = self.as_mapping()
        del tables["output"]["output_dir"]
        files = {"files": dict(self.files)} if self.files else {}
        return tomli_w.dumps(tables | files | {"provenance": dict(self.provenance)})


@dataclass(frozen=True)
class PresetChoice:
    """Whether to start from tuned values.

    Attributes:
        wanted: take the preset of this scenario, method and memory size.
        nearest: if that size has none, take the preset of the nearest size.
        own: take this one, with its memory size and its stream.

    Examples:
        >>> build("rot-mnist", "er", {"buffer_size": 200}, PresetChoice(wanted=True)).method.lr
        0.2
    """

    wanted: bool = False
    nearest: bool = False
    own: presets.Preset | None = None


def build(
    scenario_name: str,
    method_name: str,
    given: Mapping[str, Any],
    preset_choice: PresetChoice = PresetChoice(),
    from_file: Mapping[str, Any] = MappingProxyType({}),
    files: Mapping[str, str] = MappingProxyType({}),
) -> RunConfig:
    """Put a configuration together: what is given wins over the preset, that over the file, that over the defaults.

    Args:
        scenario_name: in any form that `synergy.registry` knows.
        method_name: likewise.
        given: values by option, of any group; `net` names the network, by default the scenario's usual one.
        preset_choice: whether to start from tuned values.
        from_file: the same as `given`, from the `config.toml` of another run.
        files: where the files of names from that `config.toml` are, by group; other files are looked up from the
            working directory.

    Raises:
        UsageError: a name is unknown, a value is not allowed, or the preset does not exist.

    Examples:
        >>> config = build("seq-cifar10", "er", {"width": 20, "lr": 0.03})
        >>> config.net.width, config.provenance["width"], config.provenance["net"], config.partial
        (20, 'flag', 'default of seq-cifar10', True)
    """
    net_name, net_origin = _net(scenario_name, files, given, from_file)
    names = {"scenario": scenario_name, "method": method_name, "net": net_name}
    if net_origin != FROM_FILE:
        files = {group: file for group, file in files.items() if group != "net"}
    here = {group.name: group.registry.place_of(names[group.name]) for group in NAMED}
    places = {group: place for group in names if (place := files.get(group) or here[group]) is not None}
    configs = option_classes(names, places)
    scenario = SCENARIO_CLASSES.load(scenario_name, places.get("scenario"))
    method = METHOD_CLASSES.load(method_name, places.get("method"))
    values: dict[str, Any] = {"n_epochs": scenario.default_epochs, "batch_size": scenario.default_batch_size}
    provenance = {name: "default" for config in configs.values() for name in sorted(config.names())}
    provenance |= dict.fromkeys(values, f"default of {scenario_name}") | {"net": net_origin}
    if method.only_batch_size is not None:
        values["batch_size"] = method.only_batch_size
        provenance["batch_size"] = f"default of {method_name}"
    ready_made = (preset_choice.wanted or preset_choice.nearest) and preset_choice.own is None
    if ready_made and {**from_file, **given}.get("features") is not None:
        raise UsageError("features: given with tuned values, which are for images; allowed: one of them")
    if preset_choice.own is not None:
        preset = _own_preset(preset_choice, scenario.variant_option)
    else:
        variant = _value(configs["scenario"], scenario.variant_option, {**from_file, **given})
        size = _value(configs["method"], "buffer_size", {**from_file, **given})
        preset = _preset(scenario_name, variant, method_name, size, preset_choice)
    for origin, layer in ((FROM_FILE, from_file), preset, ("flag", given)):
        for name, value in layer.items():
            if name not in provenance:
                raise unknown(f"option of {method_name} on {scenario_name} ({origin})", name, provenance)
            if name != "net":
                values[name] = value
                provenance[name] = origin
    options: dict[str, Any] = {
        group: config(**{name: values[name] for name in config.names() & values.keys()})
        for group, config in configs.items()
    }
    return RunConfig(scenario_name, method_name, net_name, **options, provenance=provenance, files=places)


FROM_FILE = "configuration file"
"""The origin of a value from the `config.toml` of another run."""


def usual_net(scenario_name: str, file: str | None = None, *, features: bool = False) -> str:
    """The name of the network that a scenario has by default, on its samples or on features of them."""
    if features:
        return "linear"
    return SCENARIO_CLASSES.load(scenario_name, file).default_net


def _net(
    scenario: str, files: Mapping[str, str], given: Mapping[str, Any], from_file: Mapping[str, Any]
) -> tuple[str, str]:
    """Name of the network and origin of the name."""
    for origin, layer in (("flag", given), (FROM_FILE, from_file)):
        if "net" in layer:
            if not isinstance(layer["net"], str):
                raise UsageError(f"net: given {reprlib.repr(layer['net'])}; allowed: the name of a network")
            return layer["net"], origin
    if given.get("features", from_file.get("features")) is not None:
        return usual_net(scenario, features=True), "default of features"
    return usual_net(scenario, files.get("scenario")), f"default of {scenario}"


def _value(options: type[Options], name: str | None, given: Mapping[str, Any]) -> Any:
    """The value given for an option, else its default; None for an option that does not exist."""
    defaults = {spec.name: spec.default for spec in options.specs()}
    return given.get(name, defaults[name]) if name in defaults else None


def _own_preset(choice: PresetChoice, variant_option: str | None) -> tuple[str, Mapping[str, Any]]:
    """A preset of the user's with what it is for. Raises UsageError if one of the package is asked for too."""
    preset = choice.own
    assert preset is not None
    if choice.wanted or choice.nearest:
        raise UsageError("--load_best_args: given beside a file of tuned values; allowed: one of them")
    place = {variant_option: preset.variant, "buffer_size": preset.buffer_size}
    known = {name: value for name, value in place.items() if name is not None and value is not None}
    return f"preset: {preset.source}", {**known, **preset.values}


def _preset(
    scenario: str, variant: str | None, method: str, size: int | None, choice: PresetChoice
) -> tuple[str, Mapping[str, Any]]:
    if not (choice.wanted or choice.nearest):
        return "", {}
    preset = presets.find(scenario, method, size, variant, nearest=choice.nearest)
    taken = f" (of buffer size {preset.buffer_size})" if preset.buffer_size not in (None, size) else ""
    return f"preset{taken}: {preset.source}", preset.values
