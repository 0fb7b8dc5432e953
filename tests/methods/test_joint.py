"""Joint training: by hand, and after the last task of the run."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from synergy.methods.base import Answer, Budget, MethodConfig
from synergy.methods.joint import Joint
from synergy.types import Task
from tests.methods import small


def tasks(n: int) -> list[Task]:
    """Of ten samples each, every one with those before it."""
    made: list[Task] = []
    for index in range(n):
        alone = small.task(index)
        made.append(Task(index, alone.train(), alone.order, earlier=partial(tuple, list(made))))
    return made


def learn(budget: Budget, n: int) -> list[bool]:
    """Whether there is an answer after each of `n` tasks."""
    joint = Joint(MethodConfig(lr=0.1), small.setting(), budget)
    answers = []
    for task in tasks(n):
        joint.begin_task(task)
        assert joint.observe(small.batch(task.index)).losses == {}
        joint.end_task(task)
        answers.append(bool(joint.predictors()))
    return answers


def test_by_hand() -> None:
    joint = Joint(MethodConfig(lr=0.3), small.setting(), small.budget(n_epochs=2, batch_size=6))
    for task in tasks(2):
        joint.begin_task(task)
        joint.end_task(task)
    parts = [task.train() for task in tasks(2)]
    raw, labels = torch.cat([part.raw for part in parts]), torch.cat([part.labels for part in parts])
    net, rng = small.build_net("net"), small.setting().rng("order")
    for _ in range(2):
        order = rng.permutation(20)
        for start in (0, 6, 12, 18):
            chosen = order[start : start + 6]
            small.step(net, F.cross_entropy(net(small.VIEW.plain(raw[chosen])), labels[chosen]), lr=0.3)
    answer = joint.predictors()["joint"]
    assert isinstance(answer, Answer)
    small.assert_same_weights(answer.net, net)


@pytest.mark.parametrize(
    ("max_tasks", "expected"),
    [
        (None, [False, False, True]),
        (3, [False, False, True]),
        (7, [False, False, True]),
        (2, [False, True]),
        (1, [True]),
    ],
)
def test_it_answers_after_the_last_task_of_the_run(max_tasks: int | None, expected: list[bool]) -> None:
    budget = small.budget(n_tasks=3, max_tasks=max_tasks)
    assert learn(budget, len(expected)) == expected


def test_it_takes_no_more_steps_than_the_tasks_of_a_partial_run() -> None:
    joint = Joint(MethodConfig(lr=0.3), small.setting(), small.budget(n_epochs=5, batch_size=6, max_steps_per_task=2))
    for task in tasks(2):
        joint.begin_task(task)
        joint.end_task(task)
    parts = [task.train() for task in tasks(2)]
    raw, labels = torch.cat([part.raw for part in parts]), torch.cat([part.labels for part in parts])
    net, order = small.build_net("net"), small.setting().rng("order").permutation(20)
    for start in (0, 6, 12, 18):  # 2 steps for each of 2 tasks
        chosen = order[start : start + 6]
        small.step(net, F.cross_entropy(net(small.VIEW.plain(raw[chosen])), labels[chosen]), lr=0.3)
    small.assert_same_weights(joint.net, net)
