"""Reads the tuned values of the package, and finds those for a run.

A file `<scenario>.toml` beside this one holds a list of `[[preset]]` entries:

    method       name of the method
    variant      which stream of the scenario (optional; all entries of a file have one, or none has)
    buffer_size  samples in memory, for methods that have one
    source       "published: <repository>" or "chosen here: <how>"
    note         a remark for the reader (optional)
    values       option -> value, of the method and of the training run
    unused       further values in the source, which the method's rule does not use (optional)
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from synergy.errors import UsageError

Value: TypeAlias = float | int | str | bool

_SOURCES = ("published: ", "chosen here: ")
_REQUIRED = frozenset({"method", "source", "values"})
_ALLOWED = _REQUIRED | {"variant", "buffer_size", "note", "unused"}
_TEXTS = frozenset({"method", "source", "variant", "note"})


@dataclass(frozen=True)
class Preset:
    """Tuned values for a method on a scenario.

    Attributes:
        scenario: name of the scenario.
        variant: stream of the scenario, for one with several (`weight_dist` of gcil-cifar100).
        method: name of the method.
        buffer_size: samples in memory for which the values were tuned; None for a method without memory.
        values: option -> value, of the method and of the training run. Read-only.
        unused: further values in the source, which the method's rule does not use. Read-only.
        source: "published: <repository>" or "chosen here: <how>".
        note: a remark for the reader; may be empty.
    """

    scenario: str
    variant: str | None
    method: str
    buffer_size: int | None
    values: Mapping[str, Value]
    source: str
    unused: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))
    note: str = ""


def available(scenario: str | None = None, method: str | None = None, variant: str | None = None) -> tuple[Preset, ...]:
    """All presets, or those of a scenario, a method, a variant; sorted by scenario, variant, method, buffer size.

    Examples:
        >>> [preset.buffer_size for preset in available("rot-mnist", "synergy")]
        [200, 500, 1000]
    """
    return tuple(
        preset
        for preset in _all_presets()
        if (scenario is None or preset.scenario == scenario)
        and (method is None or preset.method == method)
        and (variant is None or preset.variant == variant)
    )


def find(
    scenario: str, method: str, buffer_size: int | None, variant: str | None = None, nearest: bool = False
) -> Preset:
    """The preset for a run.

    Args:
        scenario: name of the scenario.
        method: name of the method.
        buffer_size: samples in memory; ignored for a method without memory.
        variant: stream of the scenario, for one with several.
        nearest: if there is no preset for `buffer_size`, take the nearest size (of two, the smaller).

    Raises:
        UsageError: there is no such preset; the message lists those that exist.

    Examples:
        >>> find("rot-mnist", "synergy", 300, nearest=True).buffer_size
        200
    """
    _check_variant(scenario, variant)
    candidates = available(scenario, method, variant)
    if not candidates:
        raise _no_method(scenario, method, variant)
    if candidates[0].buffer_size is None:
        return candidates[0]
    return _of_size(candidates, buffer_size, nearest)


def parse(scenario: str, text: str) -> tuple[Preset, ...]:
    """The presets in the text of `<scenario>.toml`, in its order.

    Raises:
        AssertionError: an entry is malformed; the message says which one and why.
    """
    where = f"presets/{scenario}.toml"
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AssertionError(f"{where}: {error}") from error
    entries = document.get("preset")
    assert set(document) == {"preset"} and isinstance(entries, list), f"{where}: must hold [[preset]] entries only"
    presets = tuple(_preset(scenario, entry, f"{where}, entry {n}") for n, entry in enumerate(entries, start=1))
    _check_together(presets, where)
    return presets


def read(path: Path) -> tuple[Preset, ...] | None:
    """The presets in a file of a user; each entry also names its `scenario`. None if the file is of another kind.

    Raises:
        UsageError: an entry is malformed.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None  # whoever reads the other kind says what is wrong
    if "preset" not in document:
        return None
    try:
        entries = document["preset"]
        assert set(document) == {"preset"} and isinstance(entries, list), f"{path}: must hold [[preset]] entries only"
        return tuple(_with_scenario(entry, f"{path}, entry {n}") for n, entry in enumerate(entries, start=1))
    except AssertionError as error:
        raise UsageError(str(error)) from error


def choose(
    presets: Sequence[Preset], where: str, scenario: str | None, method: str | None, buffer_size: int | None
) -> Preset:
    """The one of some presets that is for this scenario, method and memory size, as far as they are known.

    Args:
        where: the presets are, for errors.

    Raises:
        UsageError: there is none, or there are several.

    Examples:
        >>> choose(available("rot-mnist"), "presets", None, "synergy", 500).buffer_size
        500
    """
    asked = {"scenario": scenario, "method": method, "buffer_size": buffer_size}
    known = {name: value for name, value in asked.items() if value is not None}
    found = [each for each in presets if all(vars(each)[name] in (value, None) for name, value in known.items())]
    if len(found) == 1:
        return found[0]
    held = "; ".join(dict.fromkeys(f"{each.method} on {_label(each)}, buffer {each.buffer_size}" for each in presets))
    given = ", ".join(f"{name} {value}" for name, value in known.items()) or "nothing"
    flags = "--dataset, --model and --buffer_size"
    raise UsageError(f"{where}: {len(found)} presets for {given}; it holds {held}; choose one with {flags}")


def _with_scenario(entry: Any, where: str) -> Preset:
    assert isinstance(entry, dict), f"{where}: must be a [[preset]] table"
    scenario = entry.get("scenario")
    assert isinstance(scenario, str) and scenario, f'{where}: must name its scenario, as scenario = "rot-digits"'
    return _preset(scenario, {name: value for name, value in entry.items() if name != "scenario"}, where)


@cache
def _all_presets() -> tuple[Preset, ...]:
    files = [file for file in resources.files("synergy.presets").iterdir() if file.name.endswith(".toml")]
    texts = {file.name.removesuffix(".toml"): file.read_text(encoding="utf-8") for file in files}
    presets = [preset for scenario, text in texts.items() for preset in parse(scenario, text)]
    return tuple(sorted(presets, key=lambda p: (p.scenario, p.variant or "", p.method, p.buffer_size or 0)))


def _preset(scenario: str, entry: Any, where: str) -> Preset:
    assert isinstance(entry, dict), f"{where}: must be a [[preset]] table"
    _check_names(entry, where)
    _check_scalars(entry, where)
    values = _table(entry["values"], f"{where}: values")
    unused = _table(entry.get("unused", {}), f"{where}: unused")
    assert values, f"{where}: values is empty"
    both = sorted(values.keys() & unused.keys())
    assert not both, f"{where}: in values and in unused: {', '.join(both)}"
    given: dict[str, Any] = {"variant": None, "buffer_size": None} | entry | {"values": values, "unused": unused}
    return Preset(scenario=scenario, **given)


def _check_names(entry: Mapping[str, Any], where: str) -> None:
    missing, unknown = sorted(_REQUIRED - entry.keys()), sorted(entry.keys() - _ALLOWED)
    assert not missing, f"{where}: lacks {', '.join(missing)}"
    assert not unknown, f"{where}: unknown {', '.join(unknown)}; allowed: {', '.join(sorted(_ALLOWED))}"


def _check_scalars(entry: Mapping[str, Any], where: str) -> None:
    for name in sorted(_TEXTS & entry.keys()):
        assert isinstance(entry[name], str) and entry[name], f"{where}: {name} must be text, given {entry[name]!r}"
    size, source = entry.get("buffer_size", 1), entry["source"]
    assert type(size) is int and size > 0, f"{where}: buffer_size must be at least 1, given {size!r}"
    named = any(source.startswith(kind) and source.removeprefix(kind).strip() for kind in _SOURCES)
    assert named, f"{where}: source must be 'published: <repository>' or 'chosen here: <how>', given {source!r}"


def _table(table: Any, where: str) -> Mapping[str, Value]:
    assert isinstance(table, dict), f"{where} must be a table, given {table!r}"
    for name, value in table.items():
        assert isinstance(value, float | int | str), f"{where}: {name} must be a number, text or flag, given {value!r}"
    return MappingProxyType(table)


def _check_together(presets: Sequence[Preset], where: str) -> None:
    with_variant = {preset.variant is not None for preset in presets}
    assert len(with_variant) < 2, f"{where}: all entries must have a variant, or none"
    sizes: dict[tuple[str | None, str], list[int | None]] = {}
    for preset in presets:
        sizes.setdefault((preset.variant, preset.method), []).append(preset.buffer_size)
    for (variant, method), given in sizes.items():
        what = f"{where}: method '{method}'" + (f", variant '{variant}'" if variant else "")
        assert len(set(given)) == len(given), f"{what}: two entries for one buffer size, {given}"
        assert given == [None] or None not in given, f"{what}: entries with and without buffer_size"


def _check_variant(scenario: str, variant: str | None) -> None:
    presets = available(scenario)
    if not presets:
        known = sorted({preset.scenario for preset in available()})
        raise UsageError(f"scenario '{scenario}' has no presets; scenarios with presets: {', '.join(known)}")
    variants = sorted({preset.variant for preset in presets if preset.variant is not None})
    if variant is None and variants:
        raise UsageError(f"the presets for scenario '{scenario}' need a variant: one of {', '.join(variants)}")
    if variant is not None and variant not in variants:
        there_are = f"its variants with presets: {', '.join(variants)}" if variants else "its presets have no variant"
        raise UsageError(f"no presets for {_place(scenario, variant)}; {there_are}")


def _of_size(candidates: Sequence[Preset], buffer_size: int | None, nearest: bool) -> Preset:
    by_size = {preset.buffer_size: preset for preset in candidates if preset.buffer_size is not None}
    first, sizes = candidates[0], ", ".join(map(str, by_size))
    what = f"of method '{first.method}' for {_place(first.scenario, first.variant)}"
    if buffer_size is None:
        raise UsageError(f"the presets {what} need a --buffer_size: one of {sizes}")
    size = min(by_size, key=lambda size: (abs(size - buffer_size), size))
    if size != buffer_size and not nearest:
        raise UsageError(
            f"no preset {what} with buffer size {buffer_size}; there are some for {sizes}; "
            f"add --nearest_best_args to take the nearest, {size}"
        )
    return by_size[size]


def _no_method(scenario: str, method: str, variant: str | None) -> UsageError:
    methods = sorted({preset.method for preset in available(scenario, variant=variant)})
    elsewhere = sorted({_label(preset) for preset in available(method=method)}) or ["none"]
    return UsageError(
        f"no preset of method '{method}' for {_place(scenario, variant)}; methods with presets there: "
        f"{', '.join(methods)}; scenarios with presets of '{method}': {', '.join(elsewhere)}"
    )


def _place(scenario: str, variant: str | None) -> str:
    return f"scenario '{scenario}'" + (f", variant '{variant}'" if variant is not None else "")


def _label(preset: Preset) -> str:
    return preset.scenario + (f" ({preset.variant})" if preset.variant is not None else "")
