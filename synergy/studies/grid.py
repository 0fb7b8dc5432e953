"""From a request to its runs: each an ordinary configuration, in a folder named by what differs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synergy import presets
from synergy.errors import UsageError
from synergy.methods import METHOD_CLASSES
from synergy.runs.config import PresetChoice, RunConfig, build, usual_net
from synergy.runs.fitting import check_compatible
from synergy.runs.groups import BY_DEVICE, option_classes
from synergy.runs.naming import run_name
from synergy.scenarios import SCENARIO_CLASSES
from synergy.studies.request import SWITCHES, Request, Variant, places_of

CHECKPOINT_EVERY = 1000
"""Steps between two checkpoints of a run, unless the study says another number."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study.

    Attributes:
        name: of its folder.
        config: all of its options.
        differs: what tells it from the other runs, by option.

    Examples:
        >>> from synergy.studies.request import asked
        >>> request = asked({"model": "er", "dataset": "rot-digits", "seeds": "0-1", "output_dir": "S"})
        >>> [run.name for run in planned(request).runs]
        ['rot-digits-er-buffer500-seed0', 'rot-digits-er-buffer500-seed1']
    """

    name: str
    config: RunConfig
    differs: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """All runs of a study, one seed after the other.

    Attributes:
        remarks: in a line each, what the study leaves out and why.
    """

    runs: tuple[PlannedRun, ...]
    remarks: tuple[str, ...]


def planned(request: Request) -> Plan:
    """The runs that a study asks for.

    An option holds for the runs whose scenario, method or network has it. A variant holds for the runs that have all
    of its options.

    Raises:
        UsageError: a value is not allowed, two variants are the same run, a variant or an option fits no run, or no
            run is left.
    """
    found: dict[str, tuple[str | None, PlannedRun]] = {}
    remarks: dict[str, None] = {}
    used: set[str] = set()
    for dataset, model, net, variant in _places(request):
        values = {**request.values, **({} if variant is None else variant.values)}
        specs = _option_names(dataset, model, net)
        if variant is not None and not variant.values.keys() <= specs | {"dataset", "model", "net"}:
            continue
        used |= {"" if variant is None else variant.name}
        try:
            files = places_of({"scenario": dataset, "method": model})
            method, scenario = (
                METHOD_CLASSES.load(model, files.get("method")),
                SCENARIO_CLASSES.load(dataset, files.get("scenario")),
            )
            check_compatible(model, method, dataset, scenario)
        except UsageError as error:
            remarks[f"left out: {model} on {dataset}: {error}"] = None
            continue
        lists = {name: values[name] for name in values if name in specs}
        for point in itertools.product(*lists.values()):
            given = dict(zip(lists, point, strict=True)) | ({} if net is None else {"net": net})
            run, remark = _run(request, dataset, model, given, variant)
            remarks |= {} if remark is None else {remark: None}
            key = identity(run.config)
            other = found.setdefault(key, (None if variant is None else variant.name, run))[0]
            if variant is not None and other != variant.name:
                place = f"{variant.place}: " if variant.place else ""
                raise UsageError(
                    f"{place}variants '{other}' and '{variant.name}' are the same run: {run.name}; drop one"
                )
    _check_used(request, used)
    if not found:
        raise UsageError("; ".join(remarks) or "the study has no runs")
    runs = sorted((run for _, run in found.values()), key=lambda run: _order_of_seed(request, run))
    return Plan(_with_names(runs), tuple(remarks))


def _order_of_seed(request: Request, run: PlannedRun) -> int:
    """The place of a run's seed among those asked for: all runs of the first seed come first."""
    seeds = request.values.get("seed", ())
    seed = run.config.training.seed
    return seeds.index(seed) if seed in seeds else 0


def identity(config: RunConfig) -> str:
    """What makes two configurations the same run: all options but what is written and where things are.

    Usual values that depend on the device are not known before the run is prepared: they count as none.
    """
    tables = config.as_mapping()
    usual = {name for name in BY_DEVICE if config.provenance.get(name, "default") == "default"}
    left_out = usual | {"data_dir", "device"}
    training = {name: value for name, value in tables["training"].items() if name not in left_out}
    kept = {name: table for name, table in tables.items() if name != "output"} | {"training": training}
    return json.dumps([kept, dict(config.files)], sort_keys=True)


def _places(request: Request) -> Iterator[tuple[str, str, str | None, Variant | None]]:
    for variant in request.variants or (None,):
        values = {**request.values, **({} if variant is None else variant.values)}
        for dataset, model in itertools.product(values["dataset"], values["model"]):
            for net in values.get("net", (None,)):
                yield dataset, model, net, variant


def _option_names(dataset: str, model: str, net: str | None) -> set[str]:
    net = usual_net(dataset, places_of({"scenario": dataset}).get("scenario")) if net is None else net
    names = {"scenario": dataset, "method": model, "net": net}
    configs = option_classes(names, places_of(names))
    return {name for options in configs.values() for name in options.names()}


def _run(
    request: Request, dataset: str, model: str, given: Mapping[str, Any], variant: Variant | None
) -> tuple[PlannedRun, str | None]:
    """A run without its place in a folder, and a remark about it."""
    wanted, nearest = (request.switches.get(name, False) for name in SWITCHES)
    choice = PresetChoice(wanted, nearest)
    remark = None
    if (wanted or nearest) and not presets.available(dataset, model):
        remark = f"no tuned values for {model} on {dataset}: it runs with its defaults"
        choice = PresetChoice()
    usual = {"checkpoint_every": CHECKPOINT_EVERY, "keep": 1}
    config = build(dataset, model, usual | dict(given) | {"output_dir": str(request.output_dir)}, choice)
    by_study = dict.fromkeys({*usual, "experiment_id"} - given.keys(), "study")
    config = replace(config, provenance={**config.provenance, **by_study})
    differs: dict[str, Any] = {"dataset": dataset, "model": model}
    differs |= {} if variant is None else {"variant": variant.name}
    tables = [request.values, *(each.values for each in request.variants)]
    varied = {name for table in tables for name, values in table.items() if len(values) > 1}
    size = config.method.as_mapping().get("buffer_size")
    differs |= {} if size is None else {"buffer_size": size}
    differs |= {name: value for name, value in given.items() if name in varied - {"buffer_size", "seed"}}
    differs["seed"] = config.training.seed
    return PlannedRun(run_name(differs), config, differs), remark


def _with_names(runs: Sequence[PlannedRun]) -> tuple[PlannedRun, ...]:
    """The runs with a folder name of their own each."""
    taken: dict[str, int] = {}
    named = []
    for run in runs:
        taken[run.name] = taken.get(run.name, 0) + 1
        name = run.name if taken[run.name] == 1 else f"{run.name}-{taken[run.name]}"
        output = replace(run.config.output, experiment_id=name)
        named.append(replace(run, name=name, config=replace(run.config, output=output)))
    return tuple(named)


def _check_used(request: Request, used: set[str]) -> None:
    """Raises UsageError for a variant whose options no run has together."""
    for variant in request.variants:
        if variant.name not in used:
            names = ", ".join(variant.values)
            place = f"{variant.place}: " if variant.place else ""
            raise UsageError(f"{place}variant '{variant.name}': no run of the study has all of its options ({names})")
