"""The configuration of a run from its `config.toml`, also from one that an earlier version wrote."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from synergy.errors import UsageError, unknown
from synergy.nets import NET_CLASSES
from synergy.runs.config import CONFIG_NAME, RunConfig, build, usual_net
from synergy.runs.groups import GROUPS, NAMED
from synergy.scenarios import SCENARIO_CLASSES


@dataclass(frozen=True)
class FileContent:
    """What a `config.toml` says.

    Attributes:
        scenario_name, method_name: of the run it is from.
        values: by option; `net` holds the name of the network. A file without `net` means the usual network.
        files: absolute path of the file of each name that is a `file.py:Class`, by group.
        origins: where the values came from, by option.
    """

    scenario_name: str
    method_name: str
    values: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    def chosen(self) -> dict[str, Any]:
        """The values except defaults, for a run of another scenario, method or network."""
        return {name: v for name, v in self.values.items() if not self.origins.get(name, "").startswith("default")}


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
    config = build(content.scenario_name, content.method_name, {}, from_file=content.values, files=content.files)
    if not content.origins.keys() <= config.provenance.keys():
        strange = min(content.origins.keys() - config.provenance.keys())
        raise unknown(f"option in the table 'provenance' of {path}", strange, config.provenance)
    return replace(config, provenance={**config.provenance, **content.origins})


def _texts(path: Path, content: dict[str, Any], table: str, what: str) -> dict[str, str]:
    """Take a table of texts out of the content of a file; empty if it has no such table."""
    texts = content.pop(table, {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise UsageError(f"{path}: the table '{table}' must name the {what}, each as a text")
    return texts


def _content(path: Path) -> dict[str, Any]:
    try:
        path = path / CONFIG_NAME if path.is_dir() else path
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, a number too long, or nested too deep
        raise UsageError(f"the configuration {path} is not TOML: {error}") from error


def with_net(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of a record, with the group `net` also where it was written before there was one.

    Earlier versions gave a scenario its usual network, whose width was an option of the scenario.
    """
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
