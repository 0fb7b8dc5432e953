"""The configuration of a run: typed, from flags and TOML, and back."""

from __future__ import annotations

import re
import reprlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import tomli_w

from synergy import presets
from synergy.errors import UsageError, unknown
from synergy.methods import method_class
from synergy.options import Options, option
from synergy.scenarios import scenario_class

if TYPE_CHECKING:  # the command line prints its help without torch
    from synergy.methods.base import MethodConfig
    from synergy.scenarios.base import ScenarioConfig

OptionsT = TypeVar("OptionsT", bound=Options)

CONFIG_NAME = "config.toml"
"""Of the file in a run's folder."""
TABLES = ("scenario", "method", "training", "output")

_RUN_ID = re.compile(r"(?!.*\.jsonl$)[^\W_][\w.-]*")
"""Names a folder beside `results.jsonl`, never one elsewhere."""
LONGEST_RUN_ID = 200
"""Bytes; file systems allow 255, and a number may come at its end."""


@dataclass(frozen=True)
class TrainingConfig(Options):
    """Options of the training run."""

    n_epochs: int | None = option(None, "passes over each task; by default the scenario's own number", low=1)
    batch_size: int | None = option(None, "samples of a stream batch; by default the scenario's own number", low=1)
    seed: int = option(0, "of everything random", low=0)
    data_dir: str | None = option(None, "folder of the data sets; by default SYNERGY_DATA, and if unset the hub")
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    precision: str = option("fp32", "of convolutions and matrix products", choices=("fp32", "tf32", "bf16"))
    memory_format: str = option("contiguous", "of convolutions", choices=("contiguous", "channels_last"))
    validation: bool = option(False, "hold out 10 % of the training set and evaluate on it, not on the test set")
    max_steps_per_task: int | None = option(None, "stop every task after this many steps (a partial run)", low=1)
    max_tasks: int | None = option(None, "stop after this many tasks (a partial run)", low=1)
    fisher_memory_mb: int = option(1024, "bound on intermediate results of a Fisher pass, MiB", low=1)


@dataclass(frozen=True)
class OutputConfig(Options):
    """What a run leaves, and where."""

    output_dir: str = option("runs", "folder of all runs")
    experiment_id: str | None = option(
        None, "name of the run's folder, with -2 if there is one; by default of what is run"
    )
    csv_log: bool = option(False, "also write the published code's CSV columns, a file for each predictor")
    tensorboard: bool = option(False, "also write TensorBoard events")
    checkpoint_every: int | None = option(None, "write a checkpoint after this many steps and after every task", low=1)
    keep: int = option(2, "checkpoints to keep, the newest", low=1)
    notes: str | None = option(None, "free text, kept in the record")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.output_dir:
            raise UsageError("output_dir: given ''; allowed: the name of a folder ('.' for this one)")
        name = self.experiment_id
        if name is not None and not (_RUN_ID.fullmatch(name) and len(name.encode()) <= LONGEST_RUN_ID):
            raise UsageError(
                f"experiment_id: given {reprlib.repr(name)}; allowed: up to {LONGEST_RUN_ID} bytes of letters, digits, "
                "'.', '_' and '-', a letter or digit first, without .jsonl at the end"
            )


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run does.

    Attributes:
        scenario_name, method_name: keys of the tables of scenarios and methods.
        scenario, method: their own options.
        training, output: those of every run.
        provenance: where each value came from: a flag, a file, a default or a preset.
    """

    scenario_name: str
    method_name: str
    scenario: ScenarioConfig
    method: MethodConfig
    training: TrainingConfig = TrainingConfig()
    output: OutputConfig = OutputConfig()
    provenance: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def partial(self) -> bool:
        """Whether the run was cut short by a budget, or its network made narrower.

        Fewer tasks or epochs by the options of a scenario make another benchmark, which the configuration tells.
        """
        budget = self.training.max_steps_per_task is not None or self.training.max_tasks is not None
        return budget or self.scenario.reduced

    def as_mapping(self) -> dict[str, Any]:
        """Nested mapping as in `config.toml`."""
        return {
            "scenario": {"name": self.scenario_name, **self.scenario.as_mapping()},
            "method": {"name": self.method_name, **self.method.as_mapping()},
            "training": self.training.as_mapping(),
            "output": self.output.as_mapping(),
        }

    def to_toml(self) -> str:
        """The complete configuration and where its values came from; `from_toml` and `as_it_was` read it back."""
        return tomli_w.dumps(self.as_mapping() | {"provenance": dict(self.provenance)})


@dataclass(frozen=True)
class PresetChoice:
    """Whether to start from tuned values.

    Attributes:
        wanted: take the preset of this scenario, method and memory size.
        nearest: where there is none for that size, take that of the nearest.
    """

    wanted: bool = False
    nearest: bool = False


def build(
    scenario_name: str,
    method_name: str,
    given: Mapping[str, Any],
    preset_choice: PresetChoice = PresetChoice(),
    from_file: Mapping[str, Any] = MappingProxyType({}),
) -> RunConfig:
    """Put a configuration together: what is given wins over the preset, that over the file, that over the defaults.

    Args:
        given: option name -> value, of any of the four groups of options.
        from_file: the same, from the `config.toml` of another run.

    Raises:
        UsageError: a name is unknown, a value not allowed, or the preset does not exist.
    """
    scenario, method = scenario_class(scenario_name), method_class(method_name)
    groups = (scenario.Config, method.Config, TrainingConfig, OutputConfig)
    values: dict[str, Any] = {"n_epochs": scenario.default_epochs, "batch_size": scenario.default_batch_size}
    provenance = {name: "default" for group in groups for name in sorted(group.names())}
    provenance |= dict.fromkeys(values, f"default of {scenario_name}")
    if method.only_batch_size is not None:
        values["batch_size"] = method.only_batch_size
        provenance["batch_size"] = f"default of {method_name}"
    variant = _value(scenario.Config, scenario.variant_option, {**from_file, **given})
    size = _value(method.Config, "buffer_size", {**from_file, **given})
    preset = _preset(scenario_name, variant, method_name, size, preset_choice)
    for origin, layer in (("configuration file", from_file), preset, ("flag", given)):
        for name, value in layer.items():
            if name not in provenance:
                raise unknown(f"option of {method_name} on {scenario_name} ({origin})", name, provenance)
            values[name] = value
            provenance[name] = origin
    return RunConfig(
        scenario_name,
        method_name,
        _group(scenario.Config, values),
        _group(method.Config, values),
        _group(TrainingConfig, values),
        _group(OutputConfig, values),
        provenance,
    )


def from_toml(path: Path) -> tuple[str, str, dict[str, Any]]:
    """Scenario name, method name and all options in a `config.toml`, or in that of a run's folder.

    Raises:
        UsageError: the file is missing, is not TOML, or has other tables than a configuration.
    """
    content = _content(path)
    # Of the run that the file is from; this one has its values from the file.
    content.pop("provenance", None)
    values: dict[str, Any] = {}
    names = {}
    for table, options in content.items():
        if table not in TABLES:
            raise unknown(f"table in {path}", table, TABLES)
        if not isinstance(options, dict):
            raise UsageError(f"{path}: '{table}' must be a table")
        names[table] = options.pop("name", None)
        values |= options
    for table in ("scenario", "method"):
        if not isinstance(names.get(table), str):
            raise UsageError(f"{path}: the table '{table}' needs a name")
    return str(names["scenario"]), str(names["method"]), values


def chosen_in(path: Path) -> dict[str, Any]:
    """The options in a `config.toml` without those that were defaults there, for a run of something else.

    Raises:
        UsageError: as `from_toml`.
    """
    values = from_toml(path)[2]
    origins = _content(path).get("provenance", {})
    if not isinstance(origins, dict):
        return values
    return {name: value for name, value in values.items() if not str(origins.get(name)).startswith("default")}


def as_it_was(path: Path) -> RunConfig:
    """The configuration in the `config.toml` of a run, with the origin that every value had there.

    Raises:
        UsageError: as `from_toml` and `build` do.
    """
    scenario, method, values = from_toml(path)
    config = build(scenario, method, {}, from_file=values)
    origins = _content(path).get("provenance", {})
    known = isinstance(origins, dict) and all(isinstance(origin, str) for origin in origins.values())
    if not known or not origins.keys() <= config.provenance.keys():
        raise UsageError(f"{path}: the table 'provenance' must name the origin of options, each as a text")
    return replace(config, provenance={**config.provenance, **origins})


def _content(path: Path) -> dict[str, Any]:
    try:
        path = path / CONFIG_NAME if path.is_dir() else path
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number too long, or nested too deep
        raise UsageError(f"the configuration {path} is not TOML: {error}") from error


def _group(options: type[OptionsT], values: Mapping[str, Any]) -> OptionsT:
    return options(**{name: values[name] for name in options.names() & values.keys()})


def _value(options: type[Options], name: str | None, given: Mapping[str, Any]) -> Any:
    """What is given for an option, or its default; None if there is no such option."""
    defaults = {spec.name: spec.default for spec in options.specs()}
    return given.get(name, defaults[name]) if name in defaults else None


def _preset(
    scenario: str, variant: str | None, method: str, size: int | None, choice: PresetChoice
) -> tuple[str, Mapping[str, Any]]:
    if not (choice.wanted or choice.nearest):
        return "", {}
    preset = presets.find(scenario, method, size, variant, nearest=choice.nearest)
    taken = f" (of buffer size {preset.buffer_size})" if preset.buffer_size not in (None, size) else ""
    return f"preset{taken}: {preset.source}", preset.values
