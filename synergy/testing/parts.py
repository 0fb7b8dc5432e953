"""Ready-made scenarios, settings and trained methods, for checks and for examples."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from synergy.methods import method_class
from synergy.methods.base import Budget, Method, Setting, make_method
from synergy.randomness import generator, torch_generator
from synergy.scenarios import scenario_class
from synergy.scenarios.base import AnyScenario, StreamSetting
from synergy.types import Batch, Task

STEPS = 6
"""Steps of each task that a check trains; long enough for a memory to fill and an average to move."""


def scenario(name: str, *, seed: int = 0, batch_size: int = 8, options: Mapping[str, Any] | None = None) -> AnyScenario:
    """A scenario on the CPU, with small batches.

    Args:
        name: such as "seq-digits".
        seed: of the stream.
        batch_size: samples of a batch.
        options: of the scenario.

    Examples:
        >>> scenario("rot-digits", options={"n_tasks": 3}).n_tasks
        3
    """
    kind = scenario_class(name)
    config = kind.Config(**(options or {}))
    return kind(config, StreamSetting(kind.read_source(config, None), seed, batch_size, torch.device("cpu")))


def setting(of: AnyScenario, seed: int = 0) -> Setting:
    """What a method needs to learn from a scenario with its usual network.

    Examples:
        >>> setting(scenario("seq-digits")).n_classes
        10
    """

    def build_net(name: str) -> nn.Module:
        return of.build_net(torch_generator(seed, f"net/{name}"))

    return Setting(build_net, of.view, of.n_classes, seed)


def budget(of: AnyScenario) -> Budget:
    """The budget of one epoch of every task of a scenario.

    Examples:
        >>> budget(scenario("seq-digits"))
        Budget(n_tasks=5, n_epochs=1, batch_size=8, max_tasks=None, max_steps_per_task=None)
    """
    return Budget(of.n_tasks, 1, of.setting.batch_size)


def trained(method: str, stream: str, **options: Any) -> Method[Any]:
    """A method of the library after a few steps of every task of a scenario, for examples.

    Args:
        method: its name.
        stream: name of the scenario.
        **options: of the method.

    Examples:
        >>> list(trained("er", "seq-digits", lr=0.05).predictors())
        ['working']
    """
    kind = method_class(method)
    of = scenario(stream, batch_size=kind.only_batch_size or 8)
    learner = make_method(kind, kind.Config(**options), setting(of), budget(of))
    for task, batches in first_steps(of):
        learner.begin_task(task)
        for batch in batches:
            learner.observe(batch)
        learner.end_task(task)
    return learner


def first_steps(stream: AnyScenario) -> Iterator[tuple[Task, list[Batch]]]:
    """Every task with its first batches; one generator draws the views of all, as in training."""
    rng, view = generator(0, "stream/augment"), stream.view
    for index in range(stream.n_tasks):
        task = stream.task(index)
        samples = itertools.islice(task.batches(0), STEPS)
        yield task, [Batch(raw, view(raw, view.decide(len(raw), rng)), labels) for raw, labels in samples]
