"""A method at work on a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from synergy.device import autocast, check_shortage, exactness
from synergy.errors import UsageError
from synergy.memory.base import Forgetful
from synergy.methods.base import Method
from synergy.randomness import TorchRandomness, generator
from synergy.state import State, restore_fresh
from synergy.stream.labels import Labels
from synergy.stream.recipe import Recipe
from synergy.stream.template import check_normalised, check_range
from synergy.types import Batch, Losses, Predictor

CHANCE = "learner/network"
"""Whose random numbers those of a network in training are."""

Context: TypeAlias = Callable[[], AbstractContextManager[object]]


class Trainer:
    """A method's steps, with errors in the user's terms, its answers, its growth, and its state.

    Args:
        recipe: of the method.
        outputs: of the network.
        labels: known so far; None where targets are numbers.
        draws: whether the network draws random numbers in training, as dropout does.
        heard: is told the outputs of every step; see `Setting.on_outputs`.

    Attributes:
        method: as the recipe makes it.
        takes_whole_batches: otherwise sample by sample, so that some may have been learned when one is refused.
    """

    def __init__(
        self,
        recipe: Recipe,
        outputs: int,
        labels: Labels | None,
        draws: bool,
        heard: Callable[[Batch, Tensor], None],
    ) -> None:
        self.method: Method[Any] = recipe.method(outputs, labels, heard)
        self._schedulers = recipe.schedules(self.method)
        self._seed = recipe.options.seed
        self._randomness = partial(TorchRandomness, self._seed, CHANCE, recipe.template.device)
        self._chance = self._randomness() if draws else None
        self._context = _context(recipe, self._chance)
        self.takes_whole_batches = self.method.only_batch_size != 1
        step = self.method.observe if self.method.only_batch_size is None else partial(_in_its_size, self.method)
        self._observe: Callable[[Batch], Losses] = step

    def step(self, batch: Batch) -> Losses:
        """Learn from one batch.

        Raises:
            UsageError: a BatchNorm cannot normalise such a batch, an embedding has no row of a number in it, or the
                method learns from batches of another size only.
            TrainingError: memory ran out.
        """
        try:
            if self._context is nullcontext:  # to enter and leave even that one takes longer than a small layer
                return self._observe(batch)
            with self._context():
                return self._observe(batch)
        except (ValueError, LookupError, RuntimeError, MemoryError) as error:
            _explain(error, len(batch))
            raise

    def schedule(self) -> None:
        """A step of every learning rate schedule."""
        for scheduler in self._schedulers:
            scheduler.step()

    def predictors(self) -> dict[str, Predictor]:
        """What can answer; a method that trains to answer does so now, with the same chances whenever it does.

        Raises:
            UsageError, TrainingError: it trains, and what is in memory cannot be learned; as `step`.
        """
        if not self.method.trains_to_answer:
            return self.method.predictors()
        try:
            with self._context(), torch.inference_mode(False), torch.enable_grad(), self._randomness().drawing():
                return self.method.predictors()
        except (ValueError, LookupError, RuntimeError, MemoryError) as error:
            _explain(error, 1)
            raise

    @property
    def outputs(self) -> int:
        """Of the network."""
        return self.method.setting.n_classes

    def shrink(self, buffer_size: int, outputs: int) -> None:
        """Keep no more than `buffer_size` samples, drawn at random, now that each is about to hold `outputs` logits."""
        rng = generator(self._seed, f"learner/shrink/{outputs}")
        for memory in self.method.memories():
            if isinstance(memory, Forgetful) and buffer_size < memory.capacity:
                memory.shrink(buffer_size, rng)

    def grow(self, outputs: int, labels: Labels, recipe: Recipe) -> None:
        """Have `outputs` more, if any, now that `labels` are known."""
        total = self.outputs + outputs
        if outputs:
            self.method.grow(outputs, recipe.template.grow(outputs))
        self.method.setting = replace(self.method.setting, n_classes=total, objective=recipe.objective(total, labels))

    def state_dict(self) -> State:
        return {
            "learned": self.method.state_dict(),
            "schedulers": [scheduler.state_dict() for scheduler in self._schedulers],
            "chance": None if self._chance is None else self._chance.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on where the state was taken. Raises ValueError, and what torch raises, if it is of another method."""
        restore_fresh(self.method, state["learned"], "method")
        for scheduler, saved in zip(self._schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        if self._chance is not None:
            restore_fresh(self._chance, state["chance"], "chance")


def _in_its_size(method: Method[Any], batch: Batch) -> Losses:
    """A step with a batch of the one size that a method learns from; one sample at a time if that is 1.

    Returns:
        The losses of the last step.

    Raises:
        UsageError: the batch is of another size.
    """
    size = method.only_batch_size
    if size == 1:
        parts = zip(batch.raw.split(1), batch.inputs.split(1), batch.labels.split(1), strict=True)
        losses = [method.observe(Batch(*part)) for part in parts]
        return losses[-1]
    if size != len(batch):
        raise UsageError(
            f"samples: given a batch of {len(batch)}; allowed: {size}, the one size the method learns from"
        )
    return method.observe(batch)


def _explain(error: Exception, n: int) -> None:
    """Raises a UsageError or TrainingError in its place if the error is a known one of a step with `n` samples."""
    if isinstance(error, ValueError):
        check_normalised(error, n)
    elif isinstance(error, LookupError):
        check_range(error)
    elif isinstance(error, RuntimeError | MemoryError):
        check_shortage(error)


def _context(recipe: Recipe, chance: TorchRandomness | None) -> Context:
    """That of a step: how exactly is computed, and who draws; `nullcontext` itself if there is nothing to do."""
    precision, device = recipe.options.precision, recipe.template.device
    contexts = [
        partial(exactness, precision) if device.type == "cuda" else nullcontext,
        autocast(precision, device),
        nullcontext if chance is None else chance.drawing,
    ]
    needed = [each for each in contexts if each is not nullcontext]

    @contextmanager
    def all_of_them() -> Iterator[None]:
        with ExitStack() as stack:
            for each in needed:
                stack.enter_context(each())
            yield

    return all_of_them if needed else nullcontext
