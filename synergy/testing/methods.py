"""Contract checks of a method: its steps, its answers, its randomness, its state, its decisions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from synergy.engine.recorders import StaticBuffers
from synergy.engine.replay import Replays
from synergy.methods.base import Method, MethodConfig, has_batch_norm, make_method
from synergy.scenarios.base import AnyScenario
from synergy.state import State, same
from synergy.testing.checks import Check, global_randomness_untouched, global_states, require, run_all
from synergy.testing.parts import budget, first_steps, setting
from synergy.types import Batch, Step

ATOL = 1e-4
"""Outputs that differ by less are equal: a batch of another size is computed in another order."""


def method_checks(method: type[Method[Any]], config: MethodConfig, stream: AnyScenario) -> list[Check]:
    """The checks of a method, in order. They share one training of a few steps of every task.

    Args:
        method: its class.
        config: its options; a small memory shows more.
        stream: to learn from.

    Examples:
        >>> from synergy import testing
        >>> from synergy.methods.er import ER
        >>> checks = method_checks(ER, ER.Config(buffer_size=20, minibatch_size=8), testing.scenario("seq-digits"))
        >>> for check in checks[:3]:
        ...     print(check.name, "-", check.reason)
        ...     check()
        losses - A step gives finite, detached scalars; one of them, their sum, is called 'loss'.
        batch - A step leaves its batch as it was.
        outputs - A step returns the outputs of `outputs_of` for its batch, as they were before the step.
    """
    return _MethodTrial(method, config, stream).checks()


def check_method(method: type[Method[Any]], config: MethodConfig, stream: AnyScenario) -> None:
    """Run all checks of a method; the arguments are those of `method_checks`.

    Raises:
        AssertionError: says which clause of the contract is broken.

    Examples:
        >>> from synergy import testing
        >>> from synergy.methods.sgd import FineTuning
        >>> check_method(FineTuning, FineTuning.Config(lr=0.1), testing.scenario("rot-digits", options={"n_tasks": 2}))
    """
    run_all(method_checks(method, config, stream))


@dataclass(frozen=True)
class _Record:
    """A step of a training: its batch, a copy of the batch from before, its result, and a predictor's answer before."""

    batch: Batch
    before: list[Tensor]
    step: Step
    expected: Tensor | None


@dataclass(frozen=True)
class _Training:
    """A few steps of every task, one by one; and whether that used global randomness."""

    learner: Method[Any]
    records: list[_Record]
    state: State
    global_randomness: bool


class _MethodTrial:
    """The clauses of the contract, each a method that raises AssertionError if the method breaks it."""

    def __init__(self, method: type[Method[Any]], config: MethodConfig, stream: AnyScenario) -> None:
        self.method, self.config, self.stream = method, config, stream

    def checks(self) -> list[Check]:
        """Those of every method, then those of one that decides ahead."""
        return [
            Check(
                "losses",
                "A step gives finite, detached scalars; one of them, their sum, is called 'loss'.",
                self.losses,
            ),
            Check("batch", "A step leaves its batch as it was.", self.batch),
            Check(
                "outputs",
                "A step returns the outputs of `outputs_of` for its batch, as they were before the step.",
                self.outputs,
            ),
            Check("scores", "Every predictor gives detached scores without NaN, [B, n_classes].", self.scores),
            Check("answers again", "A predictor gives the same answer when it is asked again.", self.answers_again),
            Check("answers alone", "A predictor answers by the sample, not by its batch.", self.answers_alone),
            Check("answers only", "Predicting leaves the method as it was.", self.answers_only),
            Check("same seed", "The same seed gives the same bits.", self.same_seed),
            Check("global randomness", "A method uses its own generators only.", self.global_randomness),
            Check("restored", "A restored method has the state that was saved.", self.restored),
            Check("resumed", "A restored method goes on exactly as the saved one does.", self.resumed),
            *(self._checks_of_decisions() if self.method.waits is None else []),
        ]

    def _checks_of_decisions(self) -> list[Check]:
        return [
            Check("decides ahead", "Decisions made many steps ahead give the same bits.", self.decides_ahead),
            Check("static buffers", "Steps on buffers that are used again give the same bits.", self.static_buffers),
        ]

    # Steps.

    @cached_property
    def training(self) -> _Training:
        before, records = global_states(), []
        learner = self._fresh()
        for task, batches in first_steps(self.stream):
            learner.begin_task(task)
            for batch in batches:
                copies = [tensor.clone() for tensor in (batch.raw, batch.inputs, batch.labels)]
                expected = _expected_outputs(learner, batch)
                records.append(_Record(batch, copies, learner.observe(batch), expected))
            learner.end_task(task)
        return _Training(learner, records, learner.state_dict(), not same(before, global_states()))

    def losses(self) -> None:
        for record in self.training.records:
            losses = record.step.losses
            for name, value in losses.items():
                require(value.shape == (), f"the loss '{name}' has the shape {tuple(value.shape)}, expected a scalar")
                require(not value.requires_grad, f"the loss '{name}' is not detached")
                require(math.isfinite(float(value)), f"the loss '{name}' is {float(value)}")
            require(not losses or "loss" in losses, f"the losses {list(losses)} have no sum called 'loss'")

    def batch(self) -> None:
        for record in self.training.records:
            after = (record.batch.raw, record.batch.inputs, record.batch.labels)
            require(all(map(torch.equal, record.before, after)), "a step changed its batch")

    def outputs(self) -> None:
        name = self.method.outputs_of
        predictors = list(self.training.learner.predictors())
        require(name is None or name in predictors, f"outputs_of is '{name}', the predictors {predictors}")
        for record in self.training.records:
            outputs, n = record.step.outputs, len(record.batch)
            found = type(outputs).__name__
            require((outputs is None) == (name is None), f"outputs_of is {name!r}, a step returned {found}")
            if outputs is not None:
                require(len(outputs) >= n, f"a step returned {len(outputs)} outputs for a batch of {n}")
                require(not outputs.requires_grad, "the outputs that a step returned are not detached")
                right = record.expected is None or torch.allclose(outputs[:n], record.expected, atol=ATOL)
                require(right, f"the outputs that a step returned are not those of '{name}' before the step")

    # Answers.

    @cached_property
    def _inputs(self) -> Tensor:
        """Some test samples as a network sees them."""
        split = self.stream.tests(self.stream.n_tasks - 1)[0]
        return self.stream.view.plain(split.raw[:5])

    def scores(self) -> None:
        predictors = self.training.learner.predictors()
        require(bool(predictors), "a trained method has no predictor")
        expected = (len(self._inputs), self.stream.n_classes)
        for name, predictor in predictors.items():
            scores = predictor(self._inputs)
            require(scores.shape == expected, f"'{name}' gives the shape {tuple(scores.shape)}, expected {expected}")
            require(not scores.requires_grad, f"'{name}' gives scores with a gradient attached")
            require(not scores.isnan().any(), f"'{name}' gives NaN")

    def answers_again(self) -> None:
        for name, predictor in self.training.learner.predictors().items():
            right = torch.equal(predictor(self._inputs), predictor(self._inputs))
            require(right, f"'{name}' answers otherwise when asked again")

    def answers_alone(self) -> None:
        for name, predictor in self.training.learner.predictors().items():
            alone = torch.cat([predictor(one) for one in self._inputs.split(1)])
            right = torch.allclose(predictor(self._inputs), alone, atol=ATOL)
            require(right, f"'{name}' answers by what else is in the batch")

    def answers_only(self) -> None:
        learner = self._trained_again()
        before = learner.state_dict()
        for predictor in learner.predictors().values():
            predictor(self._inputs)
        require(same(before, learner.state_dict()), "predicting changed the method")

    # Randomness and state.

    def same_seed(self) -> None:
        again = self._trained_again().state_dict()
        require(same(self.training.state, again), "the same seed gave other weights or another state")

    def global_randomness(self) -> None:
        require(not self.training.global_randomness, "training used a global random generator; own one instead")
        with global_randomness_untouched():
            learner = self.training.learner
            for predictor in learner.predictors().values():
                predictor(self._inputs)
            self._fresh().load_state_dict(learner.state_dict())

    def restored(self) -> None:
        def hand_over(learner: Method[Any]) -> Method[Any]:
            fresh = self._handed_over(learner)
            require(same(fresh.state_dict(), learner.state_dict()), "a restored state is not the one that was saved")
            return learner

        self._trained_in_two_parts(hand_over)

    def resumed(self) -> None:
        state = self._trained_in_two_parts(self._handed_over).state_dict()
        require(same(self.training.state, state), "a method that was saved and restored went on otherwise")

    # Decisions.

    def decides_ahead(self) -> None:
        def learn(learner: Method[Any], batches: list[Batch]) -> list[Step]:
            decided = learner.decide_ahead([len(batch) for batch in batches])
            return [learner.compute(batch, now) for batch, now in zip(batches, decided, strict=True)]

        self._require_same_bits(learn, "decided ahead")

    def static_buffers(self) -> None:
        def learn(learner: Method[Any], batches: list[Batch]) -> list[Step]:
            replays = Replays(learner, StaticBuffers(), warm_ups=0)
            steps = list(replays.ahead(batches))
            require(not replays.restless, "it holds other tensors after every step, so that no step can be replayed")
            return steps

        self._require_same_bits(learn, "on static buffers")

    def _require_same_bits(self, learn: Callable[[Method[Any], list[Batch]], list[Step]], how: str) -> None:
        learner, steps = self._fresh(), []
        for task, batches in first_steps(self.stream):
            learner.begin_task(task)
            steps += learn(learner, batches)
            learner.end_task(task)
        for number, (record, step) in enumerate(zip(self.training.records, steps, strict=True), 1):
            right = same(record.step.losses, step.losses) and same(record.step.outputs, step.outputs)
            require(right, f"{how}, step {number} gave other losses or outputs than `observe`")
        require(same(self.training.state, learner.state_dict()), f"{how}, training ended in another state")

    # Methods at work.

    def _fresh(self) -> Method[Any]:
        return make_method(self.method, self.config, setting(self.stream), budget(self.stream))

    def _handed_over(self, learner: Method[Any]) -> Method[Any]:
        fresh = self._fresh()
        fresh.load_state_dict(learner.state_dict())
        return fresh

    def _trained_again(self) -> Method[Any]:
        return self._trained_in_two_parts(lambda learner: learner)

    def _trained_in_two_parts(self, hand_over: Callable[[Method[Any]], Method[Any]]) -> Method[Any]:
        """A method that learned as in `training`, handed over in the middle of every task."""
        learner = self._fresh()
        for task, batches in first_steps(self.stream):
            learner.begin_task(task)
            for number, batch in enumerate(batches):
                if number == len(batches) // 2:
                    learner = hand_over(learner)
                learner.observe(batch)
            learner.end_task(task)
        return learner


def _expected_outputs(learner: Method[Any], batch: Batch) -> Tensor | None:
    """What `outputs_of` says of a batch; None with BatchNorm, which gives other outputs in training."""
    if learner.outputs_of is None:
        return None
    nets = [part for part in vars(learner).values() if isinstance(part, nn.Module)]
    predictor = learner.predictors().get(learner.outputs_of)
    return None if predictor is None or any(map(has_batch_norm, nets)) else predictor(batch.inputs)
