"""Whether method, scenario and schedule fit each other, before anything is built of them."""

from __future__ import annotations

import warnings

from synergy.errors import UsageError
from synergy.methods.base import Method, MethodConfig
from synergy.runs.training import Schedule
from synergy.scenarios.base import AnyScenario


def check_compatible(
    method_name: str, method: type[Method[MethodConfig]], scenario_name: str, scenario: type[AnyScenario] | AnyScenario
) -> None:
    """Raises UsageError if the method cannot learn from the scenario, with the reason.

    Args:
        scenario: the class, which says what may be; or a scenario, whose options have decided.
    """
    if method.needs_boundaries and not scenario.boundaries:
        raise UsageError(
            f"method {method_name} needs task boundaries and {scenario_name} has none; allowed there: "
            "methods that need none ('synergy list' shows which)"
        )
    if not method.protocols & set(scenario.protocols):
        raise UsageError(
            f"method {method_name} answers under {', '.join(sorted(method.protocols))} only; "
            f"{scenario_name} is judged under {', '.join(scenario.protocols)}"
        )


def check_schedule(schedule: Schedule, scenario: AnyScenario) -> None:
    """Raises UsageError if there are fewer tasks than asked for, or one would not be learned; warns of a phase."""
    if schedule.max_tasks is not None and schedule.max_tasks > scenario.n_tasks:
        raise UsageError(
            f"max_tasks: given {schedule.max_tasks}; allowed: at most {scenario.n_tasks}, the tasks of "
            f"{scenario.name} (or leave it out)"
        )
    small = [task for task in map(scenario.task, range(schedule.tasks(scenario))) if not schedule.steps(task)]
    if small and (scenario.boundaries or len(small) == schedule.tasks(scenario)):
        size = min(map(len, small))
        raise UsageError(
            f"batch_size: given {scenario.setting.batch_size}; allowed: at most {size}, the samples of the smallest "
            "task: an incomplete last batch is dropped, and nothing of that task would be learned"
        )
    if small:
        phases = ", ".join(str(task.index + 1) for task in small)
        warnings.warn(
            f"nothing is learned in phase {phases}: fewer samples than a batch (lower batch_size)", stacklevel=2
        )
