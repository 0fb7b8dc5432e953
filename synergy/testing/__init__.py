"""Contract checks that users run on their own method, scenario, memory or network.

    from synergy import testing
    testing.check_method(MyMethod, MyMethod.Config(lr=0.1), testing.scenario("seq-digits"))
    testing.check_scenario(lambda seed: testing.scenario("seq-digits", seed=seed))
    testing.check_memory(lambda seed: MyMemory(6, np.random.default_rng(seed)), keeps="newest")
    testing.check_net(lambda generator: MyNet(generator), inputs, n_classes=10)

A check that fails raises an AssertionError which says what was broken. `memory_checks` and `net_checks` give the checks
one by one, each with a name and its reason.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from synergy.data import sources
from synergy.methods import method_class
from synergy.methods.base import Budget, Method, MethodConfig, Setting, has_batch_norm, make_method
from synergy.randomness import generator, torch_generator
from synergy.scenarios import scenario_class
from synergy.scenarios.base import AnyScenario, StreamSetting
from synergy.state import State, same
from synergy.testing.checks import Check, global_randomness_untouched
from synergy.testing.memories import check_memory, memory_checks
from synergy.testing.nets import check_net, net_checks
from synergy.types import Batch, Step, Task

__all__ = [
    "Check",
    "budget",
    "check_memory",
    "check_method",
    "check_net",
    "check_scenario",
    "memory_checks",
    "net_checks",
    "scenario",
    "setting",
    "trained",
]

STEPS = 6
"""Steps of each task that a check trains; long enough for a memory to fill and an average to move."""


def scenario(name: str, *, seed: int = 0, batch_size: int = 8, options: Mapping[str, Any] | None = None) -> AnyScenario:
    """A scenario on the CPU, small batches."""
    kind = scenario_class(name)
    setting = StreamSetting(sources.load(kind.dataset), seed, batch_size, torch.device("cpu"))
    return kind(kind.Config(**(options or {})), setting)


def setting(of: AnyScenario, seed: int = 0) -> Setting:
    """What a method needs to learn from a scenario with its usual network."""

    def build_net(name: str) -> nn.Module:
        return of.build_net(torch_generator(seed, f"net/{name}"))

    return Setting(build_net, of.view, of.n_classes, seed)


def budget(of: AnyScenario) -> Budget:
    """That of one epoch of a whole scenario."""
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
    return _trained(kind, kind.Config(**options), scenario(stream, batch_size=kind.only_batch_size or 8))


def check_method(method: type[Method[Any]], config: MethodConfig, stream: AnyScenario) -> None:
    """All checks of a method: losses, told outputs, purity, predictors, determinism, save and restore.

    Raises:
        AssertionError: says which part of the contract is broken.
    """
    with global_randomness_untouched():
        whole = _trained(method, config, stream)
        _check_predictors(whole, stream)
        again = _trained(method, config, stream)
        assert same(whole.state_dict(), again.state_dict()), "the same seed gave other weights or another state"
        _check_restored(method, config, stream, whole.state_dict())


def check_scenario(build: Callable[[int], AnyScenario]) -> None:
    """All checks of a scenario, built from a seed by `build`: shapes, labels, order, independence of all but the seed.

    Raises:
        AssertionError: says which part of the contract is broken.
    """
    with global_randomness_untouched():
        one, other = build(1), build(2)
        for index in range(one.n_tasks):
            _check_task(one.task(index), index, one)
        _check_tests(one)
        assert same(_stream(one), _stream(one)), "the same scenario gave another stream the second time"
        assert same(_stream(one), _stream(build(1))), "the same seed gave another stream"
        assert not same(_stream(one), _stream(other)), "another seed gave the same stream"


def _trained(method: type[Method[Any]], config: MethodConfig, stream: AnyScenario) -> Method[Any]:
    learner = make_method(method, config, setting(stream), budget(stream))
    for task, batches in _tasks(stream):
        learner.begin_task(task)
        for batch in batches:
            expected = _expected_outputs(learner, batch)
            step = _check_step(learner, batch)
            _check_outputs(step.outputs, batch, learner.outputs_of, expected)
        learner.end_task(task)
    return learner


def _tasks(stream: AnyScenario, skip: int = 0) -> Iterator[tuple[Task, list[Batch]]]:
    """The first steps of every task; one augmentation generator for all, as in training."""
    rng = generator(0, "stream/augment")
    for index in range(skip, stream.n_tasks):
        task = stream.task(index)
        samples = itertools.islice(task.batches(0), STEPS)
        view = stream.view
        yield task, [Batch(raw, view(raw, view.decide(len(raw), rng)), labels) for raw, labels in samples]


def _check_step(learner: Method[Any], batch: Batch) -> Step:
    before = [tensor.clone() for tensor in (batch.raw, batch.inputs, batch.labels)]
    step = learner.observe(batch)
    losses = step.losses
    for name, value in losses.items():
        assert value.shape == (), f"loss '{name}' is not a scalar but of shape {tuple(value.shape)}"
        assert not value.requires_grad, f"loss '{name}' is not detached"
        assert math.isfinite(float(value)), f"loss '{name}' is {float(value)}"
    assert not losses or "loss" in losses, f"the losses {list(losses)} have no sum called 'loss'"
    after = (batch.raw, batch.inputs, batch.labels)
    assert all(map(torch.equal, before, after)), "observe changed the batch it was given"
    return step


def _expected_outputs(learner: Method[Any], batch: Batch) -> Tensor | None:
    """The outputs that `observe` must return; None with BatchNorm, where they cannot be known from outside."""
    if learner.outputs_of is None:
        return None
    predictors = learner.predictors()
    assert learner.outputs_of in predictors, f"outputs_of is '{learner.outputs_of}', the predictors {list(predictors)}"
    nets = [part for part in vars(learner).values() if isinstance(part, nn.Module)]
    return None if any(map(has_batch_norm, nets)) else predictors[learner.outputs_of](batch.inputs)


def _check_outputs(outputs: Tensor | None, batch: Batch, name: str | None, expected: Tensor | None) -> None:
    assert (outputs is None) == (name is None), f"outputs_of is {name!r}, the step returned {type(outputs).__name__}"
    if outputs is not None:
        assert len(outputs) >= len(batch), f"{len(outputs)} outputs were returned for a batch of {len(batch)}"
        assert not outputs.requires_grad, "the outputs that were returned are not detached"
        first = outputs[: len(batch)]
        right = expected is None or torch.allclose(first, expected, atol=1e-4)
        assert right, f"the outputs that were returned are not what '{name}' said before the step"


def _check_predictors(learner: Method[Any], stream: AnyScenario) -> None:
    before = learner.state_dict()
    predictors = learner.predictors()
    assert predictors, "a trained method has no predictor"
    split = stream.tests(stream.n_tasks - 1)[0]
    inputs = stream.view.plain(split.raw[:5])
    for name, predictor in predictors.items():
        scores = predictor(inputs)
        expected = (len(inputs), stream.n_classes)
        assert scores.shape == expected, f"'{name}' answers with shape {tuple(scores.shape)}, expected {expected}"
        assert not scores.requires_grad, f"'{name}' answers with a gradient attached"
        assert not scores.isnan().any(), f"'{name}' answers with what is no number"
        assert torch.equal(scores, predictor(inputs)), f"'{name}' answers otherwise when asked again"
        alone = torch.cat([predictor(one) for one in inputs.split(1)])
        assert torch.allclose(scores, alone, atol=1e-4), f"'{name}' answers by what else is in the batch"
    assert same(before, learner.state_dict()), "predicting changed the method"


def _check_restored(method: type[Method[Any]], config: MethodConfig, stream: AnyScenario, expected: State) -> None:
    """Hand over to a new object in the middle of every task, and see that nothing is lost."""
    learner = make_method(method, config, setting(stream), budget(stream))
    for task, batches in _tasks(stream):
        learner.begin_task(task)
        for number, batch in enumerate(batches):
            if number == len(batches) // 2:
                learner = _handed_over(learner, method, config, stream)
            learner.observe(batch)
        learner.end_task(task)
    assert same(expected, learner.state_dict()), "a method that was saved and restored went on otherwise"


def _handed_over(
    learner: Method[Any], method: type[Method[Any]], config: MethodConfig, stream: AnyScenario
) -> Method[Any]:
    fresh = make_method(method, config, setting(stream), budget(stream))
    fresh.load_state_dict(learner.state_dict())
    assert same(fresh.state_dict(), learner.state_dict()), "a restored state is not the one that was saved"
    return fresh


def _check_task(task: Task, index: int, stream: AnyScenario) -> None:
    assert task.index == index, f"task {index} calls itself {task.index}"
    earlier = [each.index for each in task.earlier()]
    assert earlier == list(range(index)), f"the tasks before task {index} are given as {earlier}"
    order = task.order(0)
    used = torch.cat(list(order))
    assert len(used.unique()) == len(used), f"task {task.index} shows a sample twice in an epoch"
    for raw, labels in itertools.islice(task.batches(0), 3):
        assert raw.dtype == torch.uint8, f"raw samples are {raw.dtype}, expected uint8"
        assert labels.dtype == torch.int64, f"labels are {labels.dtype}, expected int64"
        assert 0 < len(labels) == len(raw) <= stream.setting.batch_size, f"a batch of {len(raw)} samples"
        assert set(labels.tolist()) <= set(task.classes), f"task {task.index} shows a label that is not its own"
    assert max(task.classes) < stream.n_classes, "a label without an output"
    middle = len(order) // 2
    entered, passed = task.batches(0, start=middle), itertools.islice(task.batches(0), middle, None)
    assert same(list(next(entered)), list(next(passed))), "entering the stream at a batch gave another batch"


def _check_tests(stream: AnyScenario) -> None:
    counts = {len(stream.tests(after)) for after in range(-1, stream.n_tasks)}
    assert len(counts) == 1, f"the number of test splits changes over time: {sorted(counts)}"
    for split in stream.tests(stream.n_tasks - 1):
        assert len(split), "a test split without samples"
        assert set(split.labels.tolist()) <= set(split.classes), "a test label that is not one of the split's classes"


def _stream(of: AnyScenario) -> list[Tensor]:
    """The first batches of every task."""
    tasks = (of.task(index) for index in range(of.n_tasks))
    return [part for task in tasks for batch in itertools.islice(task.batches(0), 3) for part in batch]
