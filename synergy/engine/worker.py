"""A method at work: its steps in their context, its answers, its growth, and its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from synergy.engine.context import step_context
from synergy.errors import UsageError
from synergy.memory.base import Forgetful, check_samples
from synergy.methods.base import Method
from synergy.ops.objectives import Objective
from synergy.randomness import TorchRandomness, generator
from synergy.state import State, check_sizes, restore_fresh
from synergy.types import Batch, Predictor, Step


@dataclass(frozen=True)
class Means:
    """How a method works, whatever it is.

    Attributes:
        device: of the networks.
        precision: of convolutions and matrix products: "fp32", "tf32" or "bf16".
        seed: of the run or the learner.
        randomness: name of the generator that networks with dropout draw from.
        memory_on: "device" or "host": where samples are kept.
    """

    device: torch.device
    precision: str = "fp32"
    seed: int = 0
    randomness: str = "network"
    memory_on: str = "device"


class Worker:
    """A method at work.

    Args:
        method: fresh; its memories are told where to keep samples.
        means: how it works.
        draws: whether its networks draw random numbers in training, as dropout does.
        recomputes: whether their backward passes draw again; None if nobody knows yet (see `TorchRandomness`).
        schedulers: of its optimisers.

    Examples:
        >>> import torch
        >>> from synergy import testing
        >>> method = testing.trained("er", "seq-digits", buffer_size=50)
        >>> worker = Worker(method, Means(torch.device("cpu")))
        >>> list(worker.predictors())
        ['working']
    """

    def __init__(
        self,
        method: Method[Any],
        means: Means,
        *,
        draws: bool = False,
        recomputes: bool | None = None,
        schedulers: Sequence[LRScheduler] = (),
    ) -> None:
        self.method = method
        self.means = means
        self._schedulers = list(schedulers)
        self._chance = self._fresh_chance() if draws else None
        if self._chance is not None:
            self._chance.recomputes = recomputes
        self.context = step_context(means.precision, means.device, self._chance)
        for memory in method.memories():
            memory.store.on_host = means.memory_on == "host"

    @property
    def outputs(self) -> int:
        """Outputs of the network."""
        return self.method.setting.n_classes

    def step(self, batch: Batch) -> Step:
        """Learn from one batch, in its context. What fails half-way has changed things: see `Savepoint`.

        Raises:
            UsageError: the method learns from batches of another size only.
        """
        with self.context():
            return self._observe(batch)

    def schedule(self) -> None:
        """A step of every learning rate schedule."""
        for scheduler in self._schedulers:
            scheduler.step()

    def _observe(self, batch: Batch) -> Step:
        size = self.method.only_batch_size
        if size in (None, len(batch)):
            return self.method.observe(batch)
        if size != 1:
            raise UsageError(
                f"samples: given a batch of {len(batch)}; allowed: {size}, the one size the method learns from"
            )
        parts = zip(batch.raw.split(1), batch.inputs.split(1), batch.labels.split(1), strict=True)
        steps = [self.method.observe(Batch(*part)) for part in parts]
        outputs = [step.outputs for step in steps if step.outputs is not None]
        return Step(steps[-1].losses, torch.cat(outputs) if outputs else None)

    def predictors(self) -> dict[str, Predictor]:
        """What can answer. A method that trains to answer does so now, with the same random numbers each time."""
        with self.context():
            if not self.method.trains_to_answer:
                return self.method.predictors()
            with self._fresh_chance().drawing(), torch.inference_mode(False), torch.enable_grad():
                return self.method.predictors()

    def shrink(self, buffer_size: int, outputs: int) -> None:
        """Keep at most `buffer_size` samples, drawn at random, before each sample holds `outputs` logits."""
        rng = generator(self.means.seed, f"learner/shrink/{outputs}")
        for memory in self.method.memories():
            if isinstance(memory, Forgetful) and buffer_size < memory.capacity:
                memory.shrink(buffer_size, rng)

    def grow(self, outputs: int, head: str | None, objective: Objective) -> None:
        """Give the network `outputs` more outputs at the end of its layer `head`; from now on minimise `objective`."""
        if outputs:
            assert head is not None, "a network that grows has a head"
            self.method.grow(outputs, head)
        self.method.setting = replace(self.method.setting, n_classes=self.outputs + outputs, objective=objective)

    def state_dict(self) -> State:
        return {
            "learned": self.method.state_dict(),
            "schedulers": [scheduler.state_dict() for scheduler in self._schedulers],
            "chance": None if self._chance is None else self._chance.state_dict(),
        }

    def load_state_dict(self, state: State, steps: int) -> None:
        """Go on where the state was taken.

        Args:
            state: from `state_dict`.
            steps: taken by then.

        Raises:
            ValueError, and what torch raises: it is of another method, or of another number of steps.
        """
        restore_fresh(self.method, state["learned"], "method")
        if self.method.counted_steps() not in (None, steps):
            raise ValueError(f"the method has counted {self.method.counted_steps()} steps of {steps}")
        for scheduler, saved in zip(self._schedulers, state["schedulers"], strict=True):
            check_sizes(saved, "schedulers")
            scheduler.load_state_dict(saved)
        if self._chance is not None:
            restore_fresh(self._chance, state["chance"], "chance")

    def check_memories(self, raw: Tensor, target: Tensor, n_labels: int | None, output: Sequence[int]) -> None:
        """See that restored memories hold samples like those that will come.

        Args:
            raw: a sample as it is stored, `[1, ...]`.
            target: its label or numbers, `[1, ...]`.
            n_labels: labels are below it; None where targets are numbers.
            output: shape of the network's output for one sample.

        Raises:
            ValueError: they hold others.
        """
        for memory in self.method.memories():
            check_samples(memory, raw, target, n_labels, dict.fromkeys(self.method.stored_outputs, output))

    def _fresh_chance(self) -> TorchRandomness:
        return TorchRandomness(self.means.seed, self.means.randomness, self.means.device)
