"""The contract checks over every method and every digits scenario, and that they can fail."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from synergy import checks
from synergy.methods import METHODS, method_class
from synergy.run import check_compatible
from synergy.scenarios import SCENARIOS, scenario_class

DIGITS = [name for name in SCENARIOS if name.endswith("-digits")]
SMALL: dict[str, Any] = {"buffer_size": 20, "minibatch_size": 8, "fitting_epochs": 4}
"""A memory that overflows, and update probabilities between never and always, in a few steps."""


def compatible(method: str, scenario: str) -> bool:
    """Whether the method answers under a protocol that the scenario is judged under."""
    return not method_class(method).protocols.isdisjoint(scenario_class(scenario).protocols)


PAIRS = [pair for pair in itertools.product(METHODS, DIGITS) if compatible(*pair)]


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_every_method_on_every_digits_scenario(method: str, name: str) -> None:
    kind = method_class(method)
    stream = checks.scenario(name, batch_size=kind.only_batch_size or 8, options={"n_tasks": 2})
    check_compatible(method, kind, name, type(stream))
    options = SMALL | {"fisher_update_freq": 0.5, "stable_model_update_freq": 0.5}
    config = kind.Config(**{key: value for key, value in options.items() if key in kind.Config.names()})
    checks.check_method(kind, config, stream)


@pytest.mark.parametrize("name", DIGITS)
def test_every_digits_scenario(name: str) -> None:
    checks.check_scenario(lambda seed: checks.scenario(name, seed=seed))
