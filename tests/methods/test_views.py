"""Which view every method takes of what it holds: the random one to learn from it, the plain one to look at it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from synergy.methods import METHODS, method_class
from synergy.methods.base import Method, make_method
from synergy.types import Batch, Split, Task, ViewDraws
from tests.methods import small

OPTIONS = {
    "buffer_size": 6,
    "minibatch_size": 6,
    "gss_minibatch_size": 6,
    "batch_num": 1,
    "ema_update_freq": 1.0,
    "fisher_update_freq": 1.0,
    "steps_on_anchors": 1,
    "fitting_epochs": 1,
}


CLASSES = ((0, 1, 2), (3, 4))
"""Of the two tasks."""


class Spy:
    """Two views that cannot be taken for one another, and how many samples each was asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def decide(self, n: int, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(rng.random(n))

    def __call__(self, raw: Tensor, draws: ViewDraws) -> Tensor:
        if draws is None:
            return self.plain(raw)
        assert isinstance(draws, Tensor) and len(draws) == len(raw), "a draw for each sample"
        self.asked["random"] += len(raw)
        return small.VIEW.plain(raw).flip(3)

    def plain(self, raw: Tensor) -> Tensor:
        self.asked["plain"] += len(raw)
        return small.VIEW.plain(raw)

    def new(self) -> tuple[int, int]:
        """Samples seen at random and plainly since the last look."""
        asked = self.asked["random"], self.asked["plain"]
        self.asked.clear()
        return asked


def method_with(name: str, spy: Spy) -> Method:  # type: ignore[type-arg]
    kind = method_class(name)
    chosen = {key: value for key, value in OPTIONS.items() if key in kind.Config.names()}
    return make_method(kind, kind.Config(**chosen), small.setting(view=spy), small.budget())


def observe(method: Method, index: int) -> None:  # type: ignore[type-arg]
    """One batch of six from a task, one by one for a method that wants it so."""
    batch = small.batch(index, classes=CLASSES[index])
    size = method.only_batch_size or len(batch)
    for parts in zip(batch.raw.split(size), batch.inputs.split(size), batch.labels.split(size), strict=True):
        method.observe(Batch(*parts))


def task(index: int, earlier: tuple[Task, ...] = ()) -> Task:
    """Ten samples, some of each of its classes."""
    classes = CLASSES[index]
    labels = torch.tensor(classes)[torch.arange(10) % len(classes)]
    samples = Split(small.samples(100 + index, 10).raw, labels, classes)
    return Task(index, samples, lambda epoch: [torch.arange(10)], earlier=lambda: earlier)


@dataclass(frozen=True)
class Views:
    """Samples seen at random and plainly: in a step of the first task, at its end, as the second begins, in a step of
    that, at its end, and when an answer is asked for.
    """

    step: tuple[int, int] = (0, 0)
    end: tuple[int, int] = (0, 0)
    begin: tuple[int, int] = (0, 0)
    second_step: tuple[int, int] = (0, 0)
    second_end: tuple[int, int] = (0, 0)
    answer: tuple[int, int] = (0, 0)


def course(name: str) -> Views:
    """What a method looks at in two tasks. Its memory is full by the second batch, which is the first that counts."""
    spy = Spy()
    method = method_with(name, spy)
    first = task(0)
    second = task(1, (first,))
    method.begin_task(first)
    observe(method, 0)
    spy.new()
    seen = []
    for act in (
        lambda: observe(method, 0),
        lambda: method.end_task(first),
        lambda: method.begin_task(second),
        lambda: observe(method, 1),
        lambda: method.end_task(second),
        lambda: [answer(small.batch(4).inputs) for answer in method.predictors().values()],
    ):
        act()
        seen.append(spy.new())
    return Views(*seen)


REPLAY = Views(step=(6, 0), second_step=(6, 0))
EXPECTED = {
    "sgd": Views(),
    "joint": Views(second_end=(20, 0)),
    "er": REPLAY,
    "er_ace": REPLAY,
    "agem_r": Views(step=(0, 6), second_step=(0, 6)),
    # Three of the first task are all that memory keeps of it.
    "agem": Views(second_step=(3, 0)),
    "gem": Views(second_step=(3, 0)),
    "fdr": Views(end=(0, 6), second_step=(6, 0), second_end=(0, 3)),
    # What it warms up with, and what the frozen network sees.
    "lwf": Views(begin=(10, 0), second_step=(0, 6)),
    "ewc_on": Views(end=(0, 10), second_end=(0, 10)),
    "si": Views(),
    "der": REPLAY,
    "derpp": Views(step=(12, 0), second_step=(12, 0)),  # two draws
    "kder": REPLAY,
    # Replay; then the scores of the batch against as many from memory.
    "gss": Views(step=(6, 12), second_step=(6, 12)),
    # Replay; then the fine-tuning, and one sample for the shape of an anchor.
    "hal": Views(step=(3, 0), end=(3, 1), second_step=(3, 0), second_end=(6, 1)),
    "mer": Views(step=(36, 0), second_step=(36, 0)),  # a draw for each sample
    # Exemplars as the task's data and memory have them; then those that herding looks at, and the means.
    "icarl": Views(end=(0, 10), second_step=(3, 0), second_end=(0, 10), answer=(0, 5)),
    "pnn": Views(),
    "gdumb": Views(answer=(6, 0)),
    "ncm": Views(),
    "slda": Views(),
    "ranpac": Views(),
    "esmer": REPLAY,
    "clser": REPLAY,
    "synergy": Views(step=(12, 0), second_step=(12, 0)),  # replay, and the Fisher pass
}


@pytest.mark.parametrize("name", METHODS)
def test_what_is_learned_from_is_augmented_and_what_is_looked_at_is_not(name: str) -> None:
    assert course(name) == EXPECTED[name]
