"""What a learner has made of its stream so far, and how one more batch is learned."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import isfinite, prod
from typing import Any, TypeVar

import torch
from torch import Tensor

from synergy.device import memory_errors
from synergy.engine.prequential import Prequential, hits, squared_errors
from synergy.engine.savepoint import Savepoint
from synergy.engine.worker import Worker
from synergy.errors import TrainingError, UsageError, unknown
from synergy.interrupts import uninterrupted
from synergy.methods.base import Method
from synergy.nets.named import Packing
from synergy.randomness import generator
from synergy.stream.explained import SHORT_OF_MEMORY, explained
from synergy.stream.intake import Intake, as_samples, check_finite, column_names
from synergy.stream.labels import Labels
from synergy.stream.options import ANSWERING, LEARNING, OFF
from synergy.stream.recipe import Recipe
from synergy.stream.rehearsal import rehearse_layouts
from synergy.types import Batch, Losses, Predictor

T = TypeVar("T")

CHUNK = 1000
"""Most samples that a network answers at once."""
LOOK_STEPS = 100
"""On an accelerator the loss is looked at once in so many batches, since a look waits for the device."""
LABEL_BYTES = torch.int64.itemsize


class Progress:
    """Labels, form of samples, the method at work, and counts.

    Args:
        recipe: how the method is made, once the first batch has come.
        labels: known in advance; None where targets are numbers.

    Attributes:
        worker: the method at work; None before the first batch.
        batches: learned so far.
        last_losses: of the latest batch.
        output: shape of the network's output for one sample, from the first batch on.
        proved: whether the answers after the latest batch are known to be finite.
        whole: False while something changes, and after a change that could not be taken back.

    Examples:
        >>> from synergy import Learner
        >>> learner = Learner(torch.nn.Linear(2, 1), "er")
        >>> _ = learner.observe([[0.0, 1.0], [1.0, 0.0]], ["a", "b"])
        >>> progress = learner._progress
        >>> progress.batches, progress.labels.known, progress.output
        (1, ['a', 'b'], [1])
    """

    def __init__(self, recipe: Recipe, labels: Labels | None) -> None:
        self.recipe = recipe
        self.labels = labels
        self.worker: Worker | None = None
        self.batches = 0
        self.last_losses: Losses = {}
        self.output: list[int] = []
        self.intake = Intake(recipe.view.dtype, recipe.template.device)
        self.augment_rng = generator(recipe.options.seed, "learner/augment")
        self.prequential = Prequential(squared_errors if labels is None else hits)
        self.proved = False
        self.whole = True
        self.look_steps = 1 if recipe.template.device.type == "cpu" else LOOK_STEPS
        self._source = _prequential_source(recipe.options.prequential, recipe.kind)

    @property
    def classes(self) -> list[Hashable]:
        """The labels known so far, in the order of the outputs; none where targets are numbers."""
        return [] if self.labels is None else list(self.labels.known)

    # Changes: all or nothing

    def change(self, what: Callable[[], T]) -> T:
        """Do something to this; if it fails or is interrupted, everything is as it was before.

        Ctrl-C waits for the end of it.

        Raises:
            TrainingError: memory ran out, or an earlier change could not be taken back.
        """
        self.require_whole()
        with uninterrupted(), memory_errors(SHORT_OF_MEMORY), ExitStack() as undo:
            savepoint = Savepoint(self, self.labels, self.intake, attributes_of=[self.recipe.template])
            undo.callback(savepoint.go_back)
            self.whole = False
            result = what()
            self.whole = True
            undo.pop_all()
        savepoint.close()
        return result

    def learn(self, x: Any, y: Any) -> Losses:
        """Learn from one batch, within `change`. Arguments and errors as `Learner.observe`."""
        raw = self.intake(x)
        given = self._numbers(y) if self.labels is None else self.labels.outputs(y, len(raw))
        worker = self.worker or self._start(raw, given, column_names(x), self.intake.packing(x))
        known = len(self.classes)
        targets = self._outputs(worker, given, len(raw))
        with explained(len(raw)):
            view = self.recipe.view
            batch = Batch(raw, view(raw, view.decide(len(raw), self.augment_rng)), targets)
            answers = self._answers_before(worker, batch) if self._source == ANSWERING and self.batches else None
            step = worker.step(batch)
        worker.schedule()
        if self._source == LEARNING and self.batches:
            answers = step.outputs
        if answers is not None:
            self.prequential.add(answers, targets, None if self.labels is None else known)
        self.batches += 1
        self.last_losses = step.losses
        self.proved = False
        return step.losses

    def check_loss(self) -> None:
        """Raises TrainingError if the loss of the latest batch is not finite."""
        losses = self.last_losses
        if losses and not isfinite(losses["loss"].item()):
            raise self._diverged(f"the loss became {float(losses['loss'])} at")

    def _start(
        self,
        raw: Tensor,
        given: Tensor | list[Hashable],
        names: Sequence[Hashable] | None,
        packing: Packing | None,
    ) -> Worker:
        """Make the method, now that the first batch says what a sample and its target are like."""
        if packing is not None:
            self.recipe.template.take(packing)
        seen, layout = rehearse_layouts(self.recipe, raw, self.labels)
        self.recipe = replace(self.recipe, options=replace(self.recipe.options, memory_format=layout))
        self.output = seen.output
        outputs = prod(seen.output)
        target = LABEL_BYTES if self.labels is not None else outputs * self.recipe.view.dtype.itemsize
        self.recipe = self.recipe.sized(raw[0].nbytes, target, outputs)
        self.intake.fix(raw, packing)
        self.intake.fix_names(names)
        self.worker = self.recipe.worker(outputs, self.labels, draws=seen.draws, recomputes=seen.recomputes)
        return self.worker

    def _outputs(self, worker: Worker, given: Tensor | list[Hashable], n: int) -> Tensor:
        """Targets as the method takes them: numbers `[n, ...]`, or the output of each label, `int64 [n]`."""
        if self.labels is None:
            assert isinstance(given, Tensor)
            return self.numbers_in_shape(given, n)
        if isinstance(given, list):
            missing = max(0, len({*self.labels.known, *given}) - worker.outputs)
            if self.recipe.kind.stored_outputs:
                self._make_room(worker, worker.outputs + missing)
            given = self.labels.learn(given)
            head = self.recipe.template.grow(missing) if missing else None
            worker.grow(missing, head, self.recipe.objective(worker.outputs + missing, self.labels))
        return given.to(self.recipe.template.device)

    def _make_room(self, worker: Worker, outputs: int) -> None:
        """Keep to `buffer_bytes` although every stored sample is about to have so many outputs."""
        self.recipe = self.recipe.sized(self.intake.form().nbytes, LABEL_BYTES, outputs)
        worker.shrink(self.recipe.config.as_mapping()["buffer_size"], outputs)

    # Targets that are numbers

    def _numbers(self, y: Any) -> Tensor:
        dtype = self.recipe.view.dtype
        numbers = as_samples(y, dtype, self.recipe.template.device, "targets").to(dtype)
        check_finite(numbers, "targets")  # a whole number may be too large for the network's precision
        return numbers

    def numbers(self, y: Any, n: int) -> Tensor:
        """Numbers in the shape of the network's outputs for `n` samples, `[n, ...]`; `[n]` does for `[n, 1]`."""
        return self.numbers_in_shape(self._numbers(y), n)

    def numbers_in_shape(self, numbers: Tensor, n: int) -> Tensor:
        expected = [n, *self.output]
        if numbers.dim() == 1 and self.output == [1]:
            numbers = numbers[:, None]
        if list(numbers.shape) != expected:
            raise UsageError(
                f"targets: given shape {list(numbers.shape)}; allowed: {expected}, as the network's outputs"
            )
        return numbers

    # Answers

    def predictors(self) -> Mapping[str, Predictor]:
        """What can answer, the recommended one first; at least one.

        Raises:
            UsageError: nothing was learned yet, or memory is empty where the answer comes from memory.
            TrainingError: a method that trains to answer diverged, or memory ran out.
        """
        worker = self.require_trained("predict")
        with explained(1):
            found = worker.predictors()
        if not found:
            raise UsageError(
                "predict: there is nothing to answer from, since the memory is empty; observe a batch first"
            )
        return found

    def scores(self, raw: Tensor, predictor: str | None) -> Tensor:
        """Outputs of a predictor, `[B, ...]` in the network's precision; of known classes only. Errors as `Learner`."""
        found = self.predictors()
        answer = next(iter(found.values())) if predictor is None else _chosen(found, predictor)
        with explained(len(raw)):
            if len(raw) <= CHUNK:
                scores = self._answered(answer, self.recipe.view.plain(raw))
            else:
                parts = raw.tensor_split(-(-len(raw) // CHUNK))  # of equal size, so that none has a single sample
                scores = torch.cat([self._answered(answer, self.recipe.view.plain(part)) for part in parts])
        if not self.proved:
            # The step may have ruined the network, which no loss tells before the next step.
            if not scores.isfinite().all():
                raise self._diverged("the answers are NaN or infinite after")
            self.proved = True
        scores = scores.to(self.recipe.view.dtype)  # under autocast they come in another
        return scores if self.labels is None else scores[:, : len(self.labels)]

    def _answered(self, answer: Predictor, inputs: Tensor) -> Tensor:
        """Outputs for `[B, ...]`. Ctrl-C waits, since the network is in evaluation mode meanwhile."""
        assert self.worker is not None, "somebody answers"
        with uninterrupted(), self.worker.answering():
            return answer(inputs)

    def _answers_before(self, worker: Worker, batch: Batch) -> Tensor:
        """Test, then train: what `predict` would say of a batch that is about to be learned."""
        answer = next(iter(worker.predictors().values()))
        inputs = self.recipe.view.plain(batch.raw) if self.recipe.view.is_random else batch.inputs
        return self._answered(answer, inputs)

    def judged(self) -> str | None:
        """The predictor whose accuracy `prequential` counts."""
        if self.worker is None or self._source == OFF:
            return None
        method = self.worker.method
        return method.outputs_of if self._source == LEARNING else next(iter(method.predictors()), None)

    # What must be true

    def require_whole(self) -> None:
        """Raises TrainingError if a change stopped half-way and could not be taken back."""
        if not self.whole:
            raise TrainingError(
                "the learner stopped in the middle of a change and could not go back; go on with it as it was saved "
                "last, or with a fresh one"
            )

    def require_trained(self, what: str) -> Worker:
        """The method at work. Raises UsageError if it has learned nothing yet, and as `require_whole`."""
        self.require_whole()
        if self.worker is None or not self.batches:
            raise UsageError(f"{what}: nothing was learned yet; observe a batch first")
        return self.worker

    def _diverged(self, what: str) -> TrainingError:
        bound = "give clip_norm" if self.recipe.options.clip_norm is None else "scale the samples"
        return TrainingError(
            f"{what} batch {self.batches}; lower lr or {bound}, and go on with the learner as it was saved last, or "
            "with a fresh one"
        )


def _prequential_source(prequential: str, kind: type[Method[Any]]) -> str:
    """Whose outputs are counted before a batch is learned, if the method has such; otherwise the next best."""
    if prequential == LEARNING and kind.outputs_of is None:
        prequential = ANSWERING
    return OFF if prequential == ANSWERING and kind.trains_to_answer else prequential


def _chosen(predictors: Mapping[str, Predictor], name: str) -> Predictor:
    if not isinstance(name, str) or name not in predictors:
        raise unknown("predictor", str(name), predictors)
    return predictors[name]
