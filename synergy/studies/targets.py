"""What a search looks at: each method on each scenario, with the options that it tries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from synergy.errors import UsageError
from synergy.runs.config import RunConfig
from synergy.runs.groups import GROUPS
from synergy.runs.naming import run_name
from synergy.studies.grid import PlannedRun, planned
from synergy.studies.request import Request
from synergy.studies.space import Search


@dataclass(frozen=True)
class Target:
    """A method on a scenario, whose options are searched.

    Attributes:
        name: what its runs are called before the number of the trial.
        config: of its runs, but for the searched options and the seed.
        search: with the part of the space that the method or its network has.

    Examples:
        >>> from synergy.studies.request import asked
        >>> search = {"trials": 5, "space": {"lr": [0.1, 0.2]}}
        >>> asked_for = {"model": "er", "dataset": "rot-digits", "output_dir": "S", "search": search}
        >>> (target,) = targets(asked(asked_for))
        >>> target.run(3, {"lr": 0.2}, seed=0).name
        'rot-digits-er-buffer500-trial3-seed0'
    """

    name: str
    config: RunConfig
    search: Search
    seeds: tuple[int, ...]

    def run(self, number: int, point: Mapping[str, Any], seed: int) -> PlannedRun:
        """A run of a trial.

        Raises:
            UsageError: the values do not go together.
        """
        name = f"{self.name}-trial{number}-seed{seed}"
        budget = {"max_tasks": 1} if self.search.first_task_only else {}
        chosen = {**point, "validation": True, "seed": seed, **budget, "experiment_id": name}
        config = with_values(self.config, chosen, f"search, trial {number}")
        return PlannedRun(name, config, {"trial": number, **point, "seed": seed})


def with_values(config: RunConfig, values: Mapping[str, Any], origin: str) -> RunConfig:
    """A configuration with other values, each of which some group has. Raises UsageError for one not allowed."""
    groups = {group.name: vars(config)[group.name] for group in GROUPS}
    changed: dict[str, Any] = {
        name: replace(options, **{key: values[key] for key in options.names() & values.keys()})
        for name, options in groups.items()
    }
    return replace(config, **changed, provenance={**config.provenance, **dict.fromkeys(values, origin)})


def targets(request: Request) -> tuple[Target, ...]:
    """What a study searches: each method on each scenario, with each combination of its other lists.

    Raises:
        UsageError: as `planned` does, an option is searched that no method has, or a value of the space is not allowed.
    """
    search = request.search
    assert search is not None
    seeds = request.values.get("seed", (0,))
    plan = planned(replace(request, values={**request.values, "seed": seeds[:1]}))
    found = []
    for run in plan.runs:
        names = {name for group in GROUPS for name in vars(run.config)[group.name].names()}
        space = {name: where for name, where in search.space.items() if name in names}
        if not space:
            raise UsageError(
                f"search: {run.differs['model']} has none of the searched options {', '.join(search.space)}"
            )
        differs = {name: value for name, value in run.differs.items() if name != "seed" and name not in space}
        target = Target(run_name(differs), run.config, replace(search, space=space), seeds)
        _check_values(target)
        found.append(target)
    return tuple(found)


def _check_values(target: Target) -> None:
    for name, where in target.search.space.items():
        for value in where.samples:
            try:
                with_values(target.config, {name: value}, "search")
            except UsageError as error:
                raise UsageError(f"{target.search.places.get(name, 'search')}: {error}") from error
