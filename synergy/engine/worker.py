"""A method at work: its steps in their context, its answers, its growth, and its state."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from synergy.decisions import Row
from synergy.engine.context import step_context, weights_together
from synergy.engine.recorders import CudaGraphs, Recorder
from synergy.engine.replay import Replays
from synergy.errors import UsageError
from synergy.memory.base import Forgetful, check_samples
from synergy.methods.base import Method
from synergy.ops.objectives import Objective
from synergy.randomness import TorchRandomness, generator
from synergy.state import State, check_sizes, restore_fresh
from synergy.types import Batch, Predictor, Split, Step, Task, View, ViewDraws


@dataclass(frozen=True)
class Means:
    """How a method works, whatever it is.

    Attributes:
        device: of the networks.
        precision: of convolutions and matrix products: "fp32", "tf32" or "bf16".
        seed: of the run or the learner.
        randomness: name of the generator that networks with dropout draw from.
        memory_on: "device" or "host": where samples are kept.
        eager: compute every step anew also where steps can be recorded and replayed.

    Examples:
        >>> Means(torch.device("cpu")).recorder() is None
        True
    """

    device: torch.device
    precision: str = "fp32"
    seed: int = 0
    randomness: str = "network"
    memory_on: str = "device"
    eager: bool = False

    def recorder(self) -> Recorder | None:
        """What records steps that repeat: on CUDA a recorder of graphs, elsewhere nothing."""
        return None if self.eager or self.device.type != "cuda" else CudaGraphs(self.device)


@dataclass(frozen=True)
class Planned:
    """What is decided of a step before its samples are there.

    Attributes:
        draws: the random part of the view of the stream batch.
        row: the decisions on the device, if steps are replayed; otherwise the method decides with the step.
    """

    draws: ViewDraws
    row: Row | None = None


class Worker:
    """A method at work.

    Args:
        method: fresh; its memories are told where to keep samples.
        means: how it works.
        draws: whether its networks draw random numbers in training, as dropout does.
        recomputes: whether their backward passes draw again; None if nobody knows yet (see `TorchRandomness`).
        schedulers: of its optimisers.
        recorder: records steps that repeat; by default what `means` says.

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
        recorder: Recorder | None = None,
    ) -> None:
        self.method = method
        self.means = means
        self._schedulers = list(schedulers)
        self._chance = self._fresh_chance() if draws else None
        if self._chance is not None:
            self._chance.recomputes = recomputes
        shadowed = weights_together(means.precision, method)
        self.answering = step_context(means.precision, means.device, shadowed=shadowed)
        """The context of an answer."""
        self.context = step_context(means.precision, means.device, self._chance, shadowed)
        for memory in method.memories():
            memory.store.on_host = means.memory_on == "host"
        recorder = means.recorder() if recorder is None else recorder
        self.replays = None if recorder is None else self._replays(recorder)
        """The recorded steps; None where every step is computed anew."""
        self._told = False

    def _replays(self, recorder: Recorder) -> Replays:
        chance, means = self._chance, self.means
        return Replays(
            self.method,
            recorder,
            device=means.device,
            within=self.answering,
            drawing=nullcontext if chance is None else chance.drawing,
            lent=nullcontext if chance is None else chance.lent,
        )

    @property
    def outputs(self) -> int:
        """Outputs of the network."""
        return self.method.setting.n_classes

    def step(self, batch: Batch) -> Step:
        """Learn from one batch, in its context. What fails half-way has changed things: see `Savepoint`.

        Raises:
            UsageError: the method learns from batches of another size only.
        """
        size = self.method.only_batch_size
        if size in (None, len(batch)):
            return self._observe(batch)
        if size != 1:
            raise UsageError(
                f"samples: given a batch of {len(batch)}; allowed: {size}, the one size the method learns from"
            )
        parts = zip(batch.raw.split(1), batch.inputs.split(1), batch.labels.split(1), strict=True)
        steps = [self._observe(Batch(*part)) for part in parts]
        outputs = [step.outputs for step in steps if step.outputs is not None]
        return Step(steps[-1].losses, torch.cat(outputs) if outputs else None)

    @property
    def reach(self) -> int:
        """Most steps that `plan` may be asked for at once."""
        return 1 if self.replays is None else self.replays.reach

    def plan(self, sizes: Sequence[int], draws: Sequence[ViewDraws]) -> list[Planned]:
        """Decide the next steps of a stream.

        The state of the method is that of a step again when all of them are taken.

        Args:
            sizes: of the stream batches, at most `reach`.
            draws: the random part of the view of each.
        """
        if self.replays is None:
            return [Planned(each) for each in draws]
        planned = self.replays.decide(sizes, draws)
        return [Planned(each, row) for each, row in zip(draws, planned, strict=True)]

    def take(self, raw: Tensor, labels: Tensor, planned: Planned, view: View) -> Step:
        """A planned step, with the stream batch `[B, ...]`, its labels `int64 [B]`, and their view."""
        if self.replays is None or planned.row is None:
            return self.step(Batch(raw, view(raw, planned.draws), labels))
        return self._replayed(self.replays, (raw, labels), planned.row, view)

    def take_from(self, source: Split, indices: Tensor, planned: Planned, view: View) -> Step:
        """A planned step with the batch at `indices`, `int64 [B]`, of `source`; a recorded step gathers it."""
        if self.replays is None or planned.row is None:
            raw, labels = source.raw.index_select(0, indices), source.labels.index_select(0, indices)
            return self.take(raw, labels, planned, view)
        return self._replayed(self.replays, (indices,), planned.row, view, source)

    def begin_task(self, task: Task) -> None:
        """Tell the method that a task begins."""
        self.method.begin_task(task)
        self._turn(Method.begin_task is not type(self.method).begin_task)

    def end_task(self, task: Task) -> None:
        """Tell the method, in the context of a step, that a task is over."""
        with self.context():
            self.method.end_task(task)
        self._turn(Method.end_task is not type(self.method).end_task)

    def _turn(self, changed: bool) -> None:
        """Forget recorded steps, if the method may have changed what they look at."""
        if changed and self.replays is not None:
            self.replays.forget()

    def _replayed(
        self,
        replays: Replays,
        samples: tuple[Tensor, ...],
        row: Row,
        view: View | None = None,
        source: Split | None = None,
    ) -> Step:
        """A step, recorded if possible; the first one that is not warns of the reason."""
        step = replays.step(samples, row, view, source)
        if self._chance is not None and self._chance.recomputes and replays.refusal is None:
            replays.refuse("the network draws random numbers again in its backward pass")
        if replays.refusal is not None and not self._told:
            self._told = True
            told = f"every step is computed anew instead of replayed: {replays.refusal}"
            warnings.warn(f"{told} (the option eager says so beforehand)", stacklevel=2)
        return step

    def schedule(self) -> None:
        """A step of every learning rate schedule."""
        for scheduler in self._schedulers:
            scheduler.step()

    def _observe(self, batch: Batch) -> Step:
        if self.replays is None:
            with self.context():
                return self.method.observe(batch)
        (row,) = self.replays.decide([len(batch)], [None])
        return self._replayed(self.replays, (batch.raw, batch.labels, batch.inputs), row)

    def predictors(self) -> dict[str, Predictor]:
        """What can answer. A method that trains to answer does so now, with the same random numbers each time."""
        if not self.method.trains_to_answer:
            with self.context():
                return self.method.predictors()
        # The learner's own generator stays out of it: a mode around this one would draw from it beside other threads.
        context = step_context(self.means.precision, self.means.device, self._fresh_chance())
        with context(), torch.inference_mode(False), torch.enable_grad():
            return self.method.predictors()

    def shrink(self, buffer_size: int, outputs: int) -> None:
        """Keep at most `buffer_size` samples, drawn at random, before each sample holds `outputs` logits."""
        rng = generator(self.means.seed, f"learner/shrink/{outputs}")
        for memory in self.method.memories():
            if isinstance(memory, Forgetful) and buffer_size < memory.capacity:
                memory.shrink(buffer_size, rng)
        self._turn(True)

    def grow(self, outputs: int, head: str | None, objective: Objective) -> None:
        """Give the network `outputs` more outputs at the end of its layer `head`; from now on minimise `objective`."""
        if outputs:
            assert head is not None, "a network that grows has a head"
            self.method.grow(outputs, head)
        self.method.setting = replace(self.method.setting, n_classes=self.outputs + outputs, objective=objective)
        self._turn(True)

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
        self._turn(True)
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
