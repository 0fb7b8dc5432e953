"""What a method is: it observes batches, keeps state, and answers through named predictors."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from synergy.memory.base import Memory
from synergy.ops.growth import carried, classifier, exchange, widen
from synergy.ops.modes import evaluating
from synergy.ops.objectives import CROSS_ENTROPY, Objective
from synergy.ops.vectors import Flat
from synergy.options import Options, option
from synergy.randomness import generator
from synergy.state import State, collect, restore
from synergy.types import Batch, Losses, Predictor, ProtocolName, Task, View


@dataclass(frozen=True)
class MethodConfig(Options):
    """Options that every method has."""

    lr: float = option(0.1, "learning rate of plain SGD", low=0)


@dataclass(frozen=True)
class ReplayConfig(MethodConfig):
    """Options of a method that replays from memory. Warns if the memory is too small for a whole draw."""

    buffer_size: int = option(500, "samples the memory holds", low=1)
    minibatch_size: int = option(32, "samples drawn from memory at each step", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.buffer_size < self.minibatch_size:
            warnings.warn(
                f"buffer_size {self.buffer_size} is smaller than minibatch_size {self.minibatch_size}: no more than "
                f"{self.buffer_size} samples are drawn at a time (lower minibatch_size to say so)",
                stacklevel=3,
            )


def unheard(batch: Batch, outputs: Tensor) -> None:
    """What becomes of the outputs of a step that nobody asked for: nothing."""


@dataclass(frozen=True)
class Setting:
    """What a method is given besides its own options.

    Attributes:
        build_net: makes a network; the same name gives the same weights. On the device.
        view: what a network sees of stored samples.
        n_classes: outputs of the network.
        n_tasks: stretches of the stream after which the method is evaluated. Only where there are boundaries are they
            tasks that it is told of.
        batch_size: samples of a stream batch, the last of an epoch may be smaller.
        n_epochs: passes over each task.
        seed: of the run.
        max_tasks: the run stops after so many tasks; None: after the last.
        max_steps_per_task: a task ends after so many steps; None: with its last batch.
        fisher_memory_mb: bound on intermediate results of a Fisher pass, MiB.
        objective: what is minimised, for methods that take any.
        make_optimizer: from parameters and a learning rate; plain SGD by default.
        on_outputs: is told the outputs that a step computes anyway, before it is taken (see `Method.outputs_of`): a
            stream batch, and outputs `[N, ...]` whose first rows are those for the batch. It must not write to them.
    """

    build_net: Callable[[str], nn.Module]
    view: View
    n_classes: int
    n_tasks: int = 1
    batch_size: int = 32
    n_epochs: int = 1
    seed: int = 0
    max_tasks: int | None = None
    max_steps_per_task: int | None = None
    fisher_memory_mb: int = 1024
    objective: Objective = CROSS_ENTROPY
    make_optimizer: Callable[[list[nn.Parameter], float], torch.optim.Optimizer] = torch.optim.SGD
    on_outputs: Callable[[Batch, Tensor], None] = unheard

    @property
    def last_task(self) -> int:
        """Index of the last task that the run trains."""
        return (self.n_tasks if self.max_tasks is None else min(self.n_tasks, self.max_tasks)) - 1

    def rng(self, name: str) -> np.random.Generator:
        """The method's own host generator of that name."""
        return generator(self.seed, f"method/{name}")

    def optimizer(self, weights: Flat, lr: float) -> torch.optim.Optimizer:
        """An optimiser of all parameters of a network, as one tensor."""
        return self.make_optimizer([weights.parameter], lr)


ConfigT = TypeVar("ConfigT", bound=MethodConfig)


class Method(ABC, Generic[ConfigT]):
    """Base of all methods.

    A method's state is its attributes: every tensor, number, network, optimiser, memory and generator it holds is saved
    and restored by `state_dict` and `load_state_dict`. Its configuration and setting are not, nor is a `Flat`, which is
    another view of a network. An attribute that is None at first may become a tensor with an element per parameter.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    needs_boundaries: ClassVar[bool] = False
    """Whether the method must be told where a task ends; refused on a stream that has no such places."""
    protocols: ClassVar[frozenset[ProtocolName]] = frozenset(("class-IL", "task-IL", "domain-IL", "general"))
    """The protocols under which its answers mean something."""
    only_batch_size: ClassVar[int | None] = None
    """The one size of a stream batch it can learn from, if there is only one."""
    any_objective: ClassVar[bool] = False
    """Whether its update rule works with any loss that is a mean over samples, not cross-entropy alone."""
    trains_to_answer: ClassVar[bool] = False
    """Whether `predictors` itself may train, so that to ask for an answer at every step would be slow."""
    outputs_of: ClassVar[str | None] = None
    """The predictor whose network sees every stream batch in `observe` before it is learned, in training mode, and
    whose outputs are told to `setting.on_outputs`, once for each batch; None: nothing is told."""
    stored_outputs: ClassVar[tuple[str, ...]] = ()
    """Fields of the samples in memory that hold an output of the network each."""

    def __init__(self, config: ConfigT, setting: Setting) -> None:
        self.config = config
        self.setting = setting

    def begin_task(self, task: Task) -> None:
        """Called before the first batch of a task."""

    @abstractmethod
    def observe(self, batch: Batch) -> Losses:
        """Learn from one batch. Never waits for the device."""

    def end_task(self, task: Task) -> None:
        """Called after the last batch of a task."""

    @abstractmethod
    def predictors(self) -> dict[str, Predictor]:
        """The networks that can answer, by name, the recommended one first."""

    def memory_changed(self) -> None:
        """Called after others took samples out of memory, for a method that keeps what it made of them."""

    def memories(self) -> list[Memory]:
        """Where the method keeps samples."""
        return [value for value in vars(self).values() if isinstance(value, Memory)]

    def grow(self, outputs: int, head: str) -> None:
        """Give every network `outputs` more classes, at the end of its linear layer `head`.

        What the method knows of each parameter (a tensor as long as the vector of all of them) and its optimiser's
        state are 0 for the new ones, and so are the new outputs (see `ops.growth`). A method that counts classes itself
        cannot grow.
        """
        parts = vars(self)
        for net in (part for part in parts.values() if isinstance(part, nn.Module)):
            widen(classifier(net, head), outputs)
        for weights in [part for part in parts.values() if isinstance(part, Flat)]:
            old, positions = weights.parameter, weights.follow()
            for name, part in parts.items():
                if isinstance(part, torch.optim.Optimizer):
                    exchange(part, old, weights.parameter, positions)
                elif isinstance(part, Tensor) and part.shape == old.shape:
                    parts[name] = carried(part, positions, len(weights.parameter))
        for memory in self.memories():
            for name in self.stored_outputs:
                memory.store.widen(name, outputs)

    def state_dict(self) -> State:
        return collect(self._state())

    def load_state_dict(self, state: State) -> None:
        """Continue exactly where `state` was taken. Raises ValueError if it belongs to another method or network."""
        attributes = self._state()
        unset = [name for name, value in attributes.items() if value is None]
        restore(attributes, state)
        for name in unset:
            self._check_vector(name, attributes[name])
        vars(self).update(attributes)

    def _check_vector(self, name: str, value: Tensor | None) -> None:
        """Raises ValueError if what was None becomes a tensor that has not an element for each parameter."""
        kinds = [(part.values.shape, part.values.dtype) for part in vars(self).values() if isinstance(part, Flat)]
        if value is not None and (value.shape, value.dtype) not in kinds:
            raise ValueError(f"'{name}' is a tensor of {value.dtype} {list(value.shape)}, which no network here has")

    def _state(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not isinstance(value, Options | Setting | Flat)}


@dataclass(frozen=True)
class Answer:
    """A network as a predictor: evaluation mode, no gradient, and every module back to the mode it was in."""

    net: nn.Module

    def __call__(self, inputs: Tensor, /) -> Tensor:
        with evaluating(self.net), torch.no_grad():
            scores: Tensor = self.net(inputs)
        return scores


def has_batch_norm(net: nn.Module) -> bool:
    """Whether a sample's output in training mode depends on the others of its batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())


def coin(rng: np.random.Generator, probability: float) -> bool:
    """True with the given probability. Decided on the host, so that the device is never waited for."""
    return bool(rng.random() < probability)
