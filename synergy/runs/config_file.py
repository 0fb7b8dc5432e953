"""The configuration of a run from its `config.toml`, also from one that an earlier version wrote."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from synergy.errors import UsageError, unknown
from synergy.nets import NET_CLASSES
from synergy.options import Options
from synergy.runs.config import CONFIG_NAME, RunConfig, build, usual_net
from synergy.runs.groups import GROUPS, NAMED, CommonGroup, OutputConfig, option_classes
from synergy.scenarios import SCENARIO_CLASSES

OWN = OutputConfig.names() | {"data_dir"}
"""Options that no other run inherits: what a run leaves, and where folders are on its machine."""


@dataclass(frozen=True)
class FileContent:
    """What a `config.toml` says.

    Attributes:
        scenario_name, method_name: of the run it is from.
        values: by option; `net` holds the name of the network. A file without `net` means the usual network.
        files: absolute path of the file of each name that is a `file.py:Class`, by group.
        origins: where the values came from, by option.

    Examples:
        >>> content = FileContent("rot-digits", "er", {"lr": 0.1, "seed": 3}, origins={"lr": "default", "seed": "flag"})
        >>> content.inherited(same=False)
        {'seed': 3}
    """

    scenario_name: str
    method_name: str
    values: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    def complete(self) -> dict[str, Any]:
        """All values of the run: an option that is newer than the file has the value that the run had without it."""
        names = {"scenario": self.scenario_name, "method": self.method_name}
        if "net" in self.values:
            names["net"] = self.values["net"]
        return _formerly(option_classes(names, self.files)) | dict(self.values)

    def inherited(self, *, same: bool) -> dict[str, Any]:
        """The values for another run: none of `OWN`, and no defaults if its scenario, method or network differs."""
        values = self.complete() if same else {name: v for name, v in self.values.items() if self._is_chosen(name)}
        return {name: value for name, value in values.items() if name not in OWN}

    def left_out(self) -> list[str]:
        """The options of `OWN` that were chosen, except names of folders of runs."""
        asked = self.values.keys() & OWN - {"output_dir", "experiment_id"}
        return sorted(name for name in asked if self._is_chosen(name))

    def _is_chosen(self, name: str) -> bool:
        return not self.origins.get(name, "").startswith("default")


def from_toml(path: Path) -> FileContent:
    """Read a `config.toml`, or the one in the folder of a run.

    Raises:
        UsageError: the file is missing, is no TOML, or has other tables than a configuration.
    """
    content = _content(path)
    origins = _texts(path, content, "provenance", "origin of options")
    files = _texts(path, content, "files", "files of scenario, method and net")
    values: dict[str, Any] = {}
    tables = [group.name for group in GROUPS]
    names = {}
    for table, options in content.items():
        if table not in tables:
            raise unknown(f"table in {path}", table, [*tables, "files", "provenance"])
        if not isinstance(options, dict):
            raise UsageError(f"{path}: '{table}' must be a table")
        names[table] = options.pop("name", None)
        values |= options
    for table in (group.name for group in NAMED):
        if not isinstance(names.get(table), str) and (table in names or table != "net"):
            raise UsageError(f"{path}: the table '{table}' needs a name")
    net = {"net": names["net"]} if "net" in names else {}
    return FileContent(str(names["scenario"]), str(names["method"]), values | net, files, origins)


def read_config(path: Path) -> RunConfig:
    """The configuration in the `config.toml` of a run, with the origins it names.

    Raises:
        UsageError: as `from_toml` and `build` do, or the origins are not those of options.
    """
    content = from_toml(path)
    config = build(content.scenario_name, content.method_name, {}, from_file=content.complete(), files=content.files)
    if not content.origins.keys() <= config.provenance.keys():
        strange = min(content.origins.keys() - config.provenance.keys())
        raise unknown(f"option in the table 'provenance' of {path}", strange, config.provenance)
    return replace(config, provenance={**config.provenance, **content.origins})


def _formerly(configs: Mapping[str, type[Options]]) -> dict[str, Any]:
    """The values of the options that were not there from the beginning, as runs had them before."""
    specs = [spec for config in configs.values() for spec in config.specs()]
    return {spec.name: spec.formerly for spec in specs if spec.formerly != spec.default}


def _texts(path: Path, content: dict[str, Any], table: str, what: str) -> dict[str, str]:
    """Take a table of texts out of the content of a file; empty if it has no such table."""
    texts = content.pop(table, {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise UsageError(f"{path}: the table '{table}' must name the {what}, each as a text")
    return texts


def _content(path: Path) -> dict[str, Any]:
    try:
        path = path / CONFIG_NAME if path.is_dir() else path
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors put a mark in front
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number too long, or nested too deep
        raise UsageError(f"the configuration {path} is not TOML: {error}") from error


def in_present_form(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of a record or a checkpoint, also of an earlier version, as this version would write it.

    Earlier versions had no group `net`: a scenario brought its usual network, and the network's width was an option of
    the scenario.
    An option that is newer than the configuration gets the value that runs had without it.
    """
    config = _with_net(config)
    return {group: _with_new_options(group, options) for group, options in config.items()}


def _with_new_options(group: str, options: Any) -> Any:
    if not isinstance(options, Mapping):
        return options
    name = options.get("name")
    return {**_former(group, name if isinstance(name, str) else None), **options}


@cache
def _former(group: str, name: str | None) -> Mapping[str, Any]:
    """The values that runs had before a group, of the class called `name`, got its newer options."""
    found = next((each for each in GROUPS if each.name == group), None)
    if isinstance(found, CommonGroup):
        kind = found.options
    elif found is not None and name is not None and name in found.registry.table:
        kind = found.options(name)
    else:
        return {}
    former = {spec.name: spec.formerly for spec in kind.specs() if spec.formerly is not None}
    return {option: list(value) if isinstance(value, tuple) else value for option, value in former.items()}


def _with_net(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration with the group `net`."""
    scenario = config.get("scenario")
    if "net" in config or not isinstance(scenario, Mapping):
        return config
    name = scenario.get("name")
    if not isinstance(name, str) or name not in SCENARIO_CLASSES.table:
        return config
    net = usual_net(name)
    options = NET_CLASSES.config_of(net, NET_CLASSES.load(net))
    moved = {option: scenario[option] for option in options.names() & scenario.keys()}
    left = {option: value for option, value in scenario.items() if option not in moved}
    return {**config, "scenario": left, "net": {"name": net, **options().as_mapping(), **moved}}
