"""What a study asks for: lists of values, variants, and where each of them was written."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w

from synergy.errors import UsageError, unknown
from synergy.options import Option, checked
from synergy.runs.config import usual_net
from synergy.runs.groups import NAMED, OutputConfig, option_classes
from synergy.studies import space

STUDY_NAME = "study.toml"
"""Name of the file that a study keeps in its folder."""
NAMES = {group.flag: group.name for group in NAMED}
"""Keys that name a class, and the group of each: dataset, model, net."""
SWITCHES = ("load_best_args", "nearest_best_args")
LEFT_TO_THE_STUDY = ("experiment_id", "notes")
"""Options of a run that its study fills in."""
OUTPUT = "output_dir"
PLURALS = {"datasets": "dataset", "models": "model", "nets": "net", "seeds": "seed", "buffer_sizes": "buffer_size"}
"""Keys that read better with a list."""

_RANGE = re.compile(r"(\d+)-(\d+)")
_NO_PLACES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Variant:
    """A named change of a study's options, such as an ablation.

    Examples:
        >>> Variant("without-anchor", {"penalty_weight": (0.0,)}).name
        'without-anchor'
    """

    name: str
    values: Mapping[str, tuple[Any, ...]]
    place: str = field(default="", compare=False)
    """The line of a file it is from; empty for one that is from no file."""


@dataclass(frozen=True)
class Request:
    """A study as it was asked for.

    Attributes:
        values: all values of each option; `dataset`, `model` and `net` are keys too.
        variants: each is run with all values; empty for a plain grid.
        output_dir: the folder of the study.
        switches: `load_best_args` and `nearest_best_args`, as far as they are given.
        search: what is searched; None for a study that runs all its values.

    Examples:
        >>> request = asked({"models": ["er", "sgd"], "dataset": "rot-digits", "seeds": "0-2", "output_dir": "S"})
        >>> request.values["model"], request.values["seed"]
        (('er', 'sgd'), (0, 1, 2))
    """

    values: Mapping[str, tuple[Any, ...]]
    variants: tuple[Variant, ...]
    output_dir: Path
    switches: Mapping[str, bool] = field(default_factory=dict)
    search: space.Search | None = None

    def to_toml(self) -> str:
        """The text of a study file that asks for the same. The folder is left out: the file lies in it."""
        content: dict[str, Any] = {name: _written(values) for name, values in self.values.items()} | dict(self.switches)
        variants = [{"name": each.name} | {k: _written(v) for k, v in each.values.items()} for each in self.variants]
        content |= {"variant": variants} if variants else {}
        content |= {} if self.search is None else {"search": self.search.to_mapping()}
        return tomli_w.dumps(content)


def read(path: Path, more: Mapping[str, Any] = MappingProxyType({})) -> Request:
    """The study in a file, or in the folder of a study.

    Args:
        path: a TOML file, or a folder with a `study.toml`.
        more: keys that replace those of the file, as from flags.

    Raises:
        UsageError: the file cannot be read, or asks for what is not allowed; the message names the line.
    """
    own_folder = {OUTPUT: str(path)} if path.is_dir() else {}
    path = path / STUDY_NAME if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read the study {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a TOML file in UTF-8: {error}") from error
    replaced = {singular(name) for name in more}
    content = {name: value for name, value in content.items() if singular(name) not in replaced}
    return asked(own_folder | content | dict(more), lines(text, str(path)))


def asked(content: Mapping[str, Any], places: Mapping[str, str] = _NO_PLACES) -> Request:
    """The study that a mapping asks for.

    Args:
        content: as in a study file. A value may be a text with commas or a range, as in a flag.
        places: from a key (`variant.2.lr` inside the second variant) to where it was written.

    Raises:
        UsageError: a key is unknown, a value is not allowed, or a list is empty.
    """
    content = dict(content)
    searched = content.pop("search", None)
    variants = content.pop("variant", [])
    if not isinstance(variants, list) or not all(isinstance(each, dict) for each in variants):
        raise UsageError(f"{places.get('variant', 'variant')}: must be tables, each below a line [[variant]]")
    tables = {"": content} | {f"variant.{number}.": dict(each) for number, each in enumerate(variants, 1)}
    folder = _folder(content, places)
    switches = {name: _switch(name, content.pop(name), places) for name in SWITCHES if name in content}
    specs = _specs(tables, places)
    values = _values(content, "", specs, places)
    for name in ("dataset", "model"):
        if (name not in values and not all(_names(table, name) for key, table in tables.items() if key)) or (
            name not in values and not variants
        ):
            raise UsageError(f"{name}s is missing; allowed: the name of at least one {name}")
    read_variants = tuple(_variant(tables[prefix], prefix, specs, places) for prefix in tables if prefix)
    _check_names([each.name for each in read_variants], places)
    search = None if searched is None else space.read(searched, _searchable(specs, values, tables, places), places)
    return Request(values, read_variants, folder, switches, search)


def singular(key: str) -> str:
    """The option that a key of a study names: `seeds` is `seed`.

    >>> singular("buffer_sizes"), singular("n_tasks"), singular("class_weights"), singular("models")
    ('buffer_size', 'n_tasks', 'class_weights', 'model')
    """
    return PLURALS.get(key, key)


def lines(text: str, file: str) -> dict[str, str]:
    """Where each key of a study file stands: `"lr"`, or `"variant.2.lr"` in the second variant.

    >>> lines('lr = 1\\n[[variant]]\\nname = "a"', "s.toml")
    {'lr': 's.toml, line 1', 'variant': 's.toml, line 2', 'variant.1.name': 's.toml, line 3'}
    """
    found: dict[str, str] = {}
    prefix, variants = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        place = f"{file}, line {number}"
        if header := re.match(r"\s*\[+\s*([\w.\"'-]+)\s*\]+", line):
            name = header[1].strip("\"'")
            variants += name == "variant"
            prefix = f"variant.{variants}." if name == "variant" else f"{name}."
            found.setdefault(name, place)
        elif key := re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=", line):
            found.setdefault(prefix + key[1], place)
    return found


def _folder(content: dict[str, Any], places: Mapping[str, str]) -> Path:
    folder = content.pop(OUTPUT, None)
    if not isinstance(folder, str) or not folder:
        given = "is missing" if folder is None else f"given {folder!r}"
        raise UsageError(f"{places.get(OUTPUT, OUTPUT)}: {given}; allowed: the name of the study's folder")
    return Path(folder)


def _switch(name: str, value: Any, places: Mapping[str, str]) -> bool:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, bool) and value not in ("true", "false"):
        raise UsageError(f"{places.get(name, name)}: given {value!r}; allowed: true, false")
    return value in (True, "true")


def _names(table: Mapping[str, Any], key: str) -> list[str]:
    """The names that a table gives for `dataset`, `model` or `net`; empty if it gives none."""
    given = [value for name, value in table.items() if singular(name) == key]
    return [str(name) for value in given for name in _items(value)]


def _specs(tables: Mapping[str, Mapping[str, Any]], places: Mapping[str, str]) -> dict[str, Option]:
    """All options of all classes that the study names. Raises UsageError for a class that does not exist."""
    names = {key: dict.fromkeys(name for table in tables.values() for name in _names(table, key)) for key in NAMES}
    specs: dict[str, Option] = {}
    nets = names["net"] or dict.fromkeys(
        usual_net(name, places_of({"scenario": name}).get("scenario")) for name in names["dataset"]
    )
    for key, of_key in (("dataset", names["dataset"]), ("model", names["model"]), ("net", nets)):
        for name in of_key:
            of_class = option_classes({NAMES[key]: name}, places_of({NAMES[key]: name}))
            specs |= {spec.name: spec for options in of_class.values() for spec in options.specs()}
    if not specs:  # no class is named: the message about that comes next
        specs = {spec.name: spec for options in option_classes({}, {}).values() for spec in options.specs()}
    return {name: spec for name, spec in specs.items() if name not in (*LEFT_TO_THE_STUDY, OUTPUT)}


def _searchable(
    specs: Mapping[str, Option],
    values: Mapping[str, Any],
    tables: Mapping[str, Mapping[str, Any]],
    places: Mapping[str, str],
) -> dict[str, Option]:
    """The options of methods, networks and training that no line of the study gives already."""
    given = values.keys() | {singular(name) for table in tables.values() for name in table}
    for name in given & {key.removeprefix("search.space.") for key in places if key.startswith("search.space.")}:
        raise UsageError(f"{places[f'search.space.{name}']}: {name} is also given in {places.get(name, 'the study')}")
    datasets = dict.fromkeys(name for table in tables.values() for name in _names(table, "dataset"))
    of_streams = {
        option
        for name in datasets
        for option in NAMED[0].options(name, places_of({"scenario": name}).get("scenario")).names()
    }
    written = OutputConfig.names() | space.FIXED | of_streams
    return {name: spec for name, spec in specs.items() if name not in written | given}


def places_of(names: Mapping[str, str]) -> dict[str, str]:
    """Where the files of names are that have one, by group."""
    places = {group.name: group.registry.place_of(names[group.name]) for group in NAMED if group.name in names}
    return {group: place for group, place in places.items() if place is not None}


def _values(
    table: Mapping[str, Any], prefix: str, specs: Mapping[str, Option], places: Mapping[str, str]
) -> dict[str, tuple[Any, ...]]:
    values: dict[str, tuple[Any, ...]] = {}
    for key, given in table.items():
        name, place = singular(key), places.get(prefix + key)
        if name not in specs and name not in NAMES:
            allowed = [*specs, *NAMES, OUTPUT, *SWITCHES, *(["name"] if prefix else ["variant", "search"])]
            plural = ["models", "datasets", "seeds", "buffer_sizes"]
            raise unknown("option" if place is None else f"key in {place}:", key, [*allowed, *plural])
        if name in values:
            raise UsageError(f"{place or key}: '{name}' is given twice")
        values[name] = _typed(key, given, specs.get(name), place or key)
        if name in specs and place is not None:
            _check_limits(specs[name], values[name], place)
    return values


def _check_limits(spec: Option, values: Sequence[Any], place: str) -> None:
    """Raises UsageError for a value that is not allowed, with the line of the file that it is from."""
    try:
        for value in values:
            checked(spec, value)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error


def _typed(key: str, given: Any, spec: Option | None, place: str) -> tuple[Any, ...]:
    """All values that are given for an option, in their type. Raises UsageError for an empty list."""
    items = _items(given) if spec is None or not spec.many else _lists(given)
    if spec is not None and spec.kind is int and not spec.many:
        items = [number for item in items for number in _range(item, place)]
    if not items or any(item in ("", []) for item in items):
        raise UsageError(f"{place}: '{key}' is an empty list; allowed: at least one value, or no line for it")
    return tuple(item if spec is None else _value(spec, item, place) for item in items)


def _items(given: Any) -> list[Any]:
    """Single values: a text may hold several with commas between."""
    items = given if isinstance(given, list) else [given]
    return [part for item in items for part in (_parts(item) if isinstance(item, str) else [item])]


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _lists(given: Any) -> list[Any]:
    """Values that are lists themselves: a plain list is one of them, a list of lists has several."""
    if isinstance(given, list) and given and all(isinstance(item, list | str) for item in given):
        return [item if isinstance(item, list) else [*item.replace(",", " ").split()] for item in given]
    return [given] if isinstance(given, list) else [str(given).replace(",", " ").split()]


def _range(item: Any, place: str) -> Sequence[Any]:
    """`0-2` is 0, 1 and 2."""
    found = _RANGE.fullmatch(item) if isinstance(item, str) else None
    if found is None:
        return [item]
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise UsageError(f"{place}: given the range {item}; allowed: from the smaller to the larger, {last}-{first}")
    return range(first, last + 1)


def _value(spec: Option, item: Any, place: str) -> Any:
    if isinstance(item, list):
        return tuple(_value(replace(spec, many=False), part, place) for part in item)
    if isinstance(item, str) and spec.kind is not str:
        try:
            return {"true": True, "false": False}[item.lower()] if spec.kind is bool else spec.kind(item)
        except (ValueError, LookupError) as error:
            kind = {int: "a whole number, or a range such as 0-2", float: "a number", bool: "true, false"}[spec.kind]
            raise UsageError(f"{place}: {spec.name} is given {item!r}; allowed: {kind}") from error
    return item


def _variant(table: Mapping[str, Any], prefix: str, specs: Mapping[str, Option], places: Mapping[str, str]) -> Variant:
    name, place = table.get("name"), places.get(f"{prefix}name", f"{prefix}name".replace(".", " "))
    if not isinstance(name, str) or not re.fullmatch(r"[^\W_][\w.-]*", name):
        given = "has no name" if name is None else f"given the name {name!r}"
        raise UsageError(f"{place}: {given}; allowed: a name of letters, digits, '.', '_' and '-', as name = \"plain\"")
    values = {key: value for key, value in table.items() if key != "name"}
    return Variant(name, _values(values, prefix, specs, places), places.get(f"{prefix}name", ""))


def _check_names(names: Sequence[str], places: Mapping[str, str]) -> None:
    twice = [(number, name) for number, name in enumerate(names, 1) if name in names[: number - 1]]
    for number, name in twice:
        place = places.get(f"variant.{number}.name", "variant")
        raise UsageError(f"{place}: two variants are called '{name}'; give each a name of its own")


def _written(values: Sequence[Any]) -> Any:
    plain = [list(value) if isinstance(value, tuple) else value for value in values]
    return plain[0] if len(plain) == 1 and not isinstance(plain[0], list) else plain
