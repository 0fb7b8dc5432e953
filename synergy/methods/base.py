"""What a method is: it decides on the host, computes on the device, keeps state, and answers through predictors."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from synergy.decisions import on_device
from synergy.memory.base import Memory
from synergy.ops.frozen import Frozen, Thawed
from synergy.ops.growth import classifier, exchange, widen
from synergy.ops.modes import evaluating
from synergy.ops.objectives import CROSS_ENTROPY, Objective
from synergy.ops.vectors import Flat, PerParameter
from synergy.options import Options, option
from synergy.randomness import generator
from synergy.state import State, collect, restore
from synergy.types import Batch, Predictor, ProtocolName, Step, Task, View


@dataclass(frozen=True)
class MethodConfig(Options):
    """Options that every method has."""

    lr: float = option(0.1, "learning rate of plain SGD", low=0)


@dataclass(frozen=True)
class ReplayConfig(MethodConfig):
    """Options of a method that replays from memory. Warns if the memory holds less than one draw."""

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


@dataclass(frozen=True)
class Setting:
    """What every method is given besides its own options.

    Attributes:
        build_net: makes a network on the device; the same name gives the same weights.
        view: what a network sees of stored samples.
        n_classes: outputs of the network.
        seed: of the run.
        fisher_memory_mb: bound on intermediate results of a Fisher pass, MiB.
        objective: what is minimised, for methods that take any.
        make_optimizer: from parameters and a learning rate; plain SGD by default.
        frozen: parameters of the network that ask for no gradient: no state holds them. None where all are trained.

    Examples:
        >>> from synergy import testing
        >>> setting = testing.setting(testing.scenario("seq-digits"))
        >>> setting.build_net("net").classifier.out_features
        10
        >>> setting.rng("replay").random() == setting.rng("replay").random()
        True
    """

    build_net: Callable[[str], nn.Module]
    view: View
    n_classes: int
    seed: int = 0
    fisher_memory_mb: int = 1024
    objective: Objective = CROSS_ENTROPY
    make_optimizer: Callable[[list[nn.Parameter], float], torch.optim.Optimizer] = torch.optim.SGD
    frozen: Frozen | None = None

    def rng(self, name: str) -> np.random.Generator:
        """The method's own host generator of that name."""
        return generator(self.seed, f"method/{name}")

    def optimizer(self, weights: Flat, lr: float) -> torch.optim.Optimizer:
        """An optimiser of all trained parameters of a network, as one tensor."""
        return self.make_optimizer([weights.parameter], lr)


@dataclass(frozen=True)
class Budget:
    """How much a run trains: for the methods that must know it beforehand.

    Attributes:
        n_tasks: of the stream.
        n_epochs: passes over each task.
        batch_size: samples of a stream batch; the last one of an epoch may be smaller.
        max_tasks: the run stops after so many tasks; None: after the last.
        max_steps_per_task: a task ends after so many steps; None: with its last batch.
    """

    n_tasks: int = 1
    n_epochs: int = 1
    batch_size: int = 32
    max_tasks: int | None = None
    max_steps_per_task: int | None = None

    @property
    def last_task(self) -> int:
        """Index of the last task that the run trains."""
        return (self.n_tasks if self.max_tasks is None else min(self.n_tasks, self.max_tasks)) - 1


ConfigT = TypeVar("ConfigT", bound=MethodConfig)


class Method(ABC, Generic[ConfigT]):
    """Base of all methods: learns from batches, keeps state, answers through named predictors.

    A step has two halves. `decide` runs on the host: it draws all random numbers, counts steps, and flips coins, and
    needs no value from the device. `compute` runs on the device: tensors in, tensors out, no branch on the value of a
    tensor. So decisions can be made for many steps ahead, and a step can be recorded once and replayed.

    A method's state is its attributes: every tensor, number, network, optimiser, memory and generator is saved and
    restored by `state_dict` and `load_state_dict`. Its configuration and setting are not saved. Neither is a `Flat`,
    which is a view of a network.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    needs_boundaries: ClassVar[bool] = False
    """Whether the method must be told where a task ends; it is refused on a stream without boundaries."""
    protocols: ClassVar[frozenset[ProtocolName]] = frozenset(("class-IL", "task-IL", "domain-IL", "general"))
    """The protocols under which its answers mean something."""
    only_batch_size: ClassVar[int | None] = None
    """The one size of a stream batch it can learn from, if there is only one."""
    any_objective: ClassVar[bool] = False
    """Whether its update rule works with any loss that is a mean over samples, not cross-entropy alone."""
    plain_sgd_only: ClassVar[bool] = False
    """Whether its update rule holds for plain SGD alone."""
    no_schedule: ClassVar[str | None] = None
    """Why no schedule can act on its learning rate, such as "makes an optimiser for each task"; None if one can."""
    trains_to_answer: ClassVar[bool] = False
    """Whether `predictors` itself may train: then an answer at every step would be slow."""
    waits: ClassVar[str | None] = None
    """Why its steps must wait for the device; None if they never do. Then they can be decided ahead."""
    outputs_of: ClassVar[str | None] = None
    """The predictor whose outputs for the stream batch every step computes before it learns, in training mode, and
    returns; None if a step returns none."""
    stored_outputs: ClassVar[tuple[str, ...]] = ()
    """Fields of the samples in memory that each hold an output of the network."""

    def __init__(self, config: ConfigT, setting: Setting) -> None:
        self.config = config
        self.setting = setting

    def begin_task(self, task: Task) -> None:
        """Called before the first batch of a task."""

    def decide(self, n: int) -> Any:
        """Decide on the host all that is random or branches in the next step, for a stream batch of `n` samples.

        Returns:
            A tree of frozen dataclasses for `compute` (see `synergy.decisions`); by default None.
        """

    @abstractmethod
    def compute(self, batch: Batch, now: Any) -> Step:
        """Learn from one batch, on the device, as `decide` said."""

    def observe(self, batch: Batch) -> Step:
        """Learn from one batch: decide, then compute."""
        return self.compute(batch, on_device(self.decide(len(batch)), batch.labels.device))

    def decide_ahead(self, sizes: Sequence[int]) -> list[Any]:
        """Decide the next steps, for batches of these sizes: the same decisions as one by one."""
        assert self.waits is None, f"{type(self).__name__} cannot decide ahead: {self.waits}"
        for memory in self.memories():
            memory.prepare(sizes)
        return [self.decide(n) for n in sizes]

    def end_task(self, task: Task) -> None:
        """Called after the last batch of a task."""

    @abstractmethod
    def predictors(self) -> dict[str, Predictor]:
        """The networks that can answer, by name, the recommended one first."""

    def remarks(self) -> list[str]:
        """What a user should know about its answers as they are now, a line each."""
        return []

    def memory_changed(self) -> None:
        """Called after samples were taken out of memory from outside, for a method that keeps what it made of them."""

    def memories(self) -> list[Memory]:
        """Where the method keeps samples."""
        return [value for value in vars(self).values() if isinstance(value, Memory)]

    def grow(self, outputs: int, head: str) -> None:
        """Give every network `outputs` more classes, at the end of its linear layer `head`.

        The new outputs start at 0 (see `ops.growth`), and so do the new elements of every `PerParameter` and of the
        optimiser's state. A method that counts classes itself cannot grow.
        """
        parts = vars(self).values()
        for net in (part for part in parts if isinstance(part, nn.Module)):
            widen(classifier(net, head), outputs)
        for weights in [part for part in parts if isinstance(part, Flat)]:
            old, positions = weights.parameter, weights.follow()
            for part in parts:
                if isinstance(part, torch.optim.Optimizer):
                    exchange(part, old, weights.parameter, positions)
                elif isinstance(part, PerParameter) and part.weights is weights:
                    part.carry(positions)
        for memory in self.memories():
            for name in self.stored_outputs:
                memory.store.widen(name, outputs)

    def counted_steps(self) -> int | None:
        """Steps that the method has counted for its update rule; None if the rule needs no count.

        A checkpoint with another number of steps is refused.
        """
        return None

    def state_dict(self) -> State:
        return collect(self._state())

    def load_state_dict(self, state: State) -> None:
        """Continue exactly where `state` was taken. Raises ValueError if it belongs to another method or network."""
        attributes = self._state()
        vectors = {name: part for name, part in vars(self).items() if isinstance(part, PerParameter)}
        restore(attributes, state)
        for name, vector in vectors.items():
            try:
                vector.restore(attributes.pop(name))
            except ValueError as error:
                raise ValueError(f"'{name}' is {error}") from error
        vars(self).update({name: part for name, part in attributes.items() if not isinstance(part, Thawed)})

    def _state(self) -> dict[str, Any]:
        """All attributes with a state; a `PerParameter` is saved as its tensor, or as None while it is not set."""
        return {
            name: self._savable(part)
            for name, part in vars(self).items()
            if not isinstance(part, Options | Setting | Budget | Flat)
        }

    def _savable(self, part: object) -> object:
        if isinstance(part, PerParameter):
            return part.saved()
        frozen = self.setting.frozen
        return Thawed(part, frozen) if frozen is not None and isinstance(part, nn.Module) else part


class BudgetedMethod(Method[ConfigT]):
    """A method that must know beforehand how much the run trains. It needs task boundaries."""

    needs_boundaries = True

    def __init__(self, config: ConfigT, setting: Setting, budget: Budget) -> None:
        super().__init__(config, setting)
        self.budget = budget


def make_method(kind: type[Method[Any]], config: MethodConfig, setting: Setting, budget: Budget) -> Method[Any]:
    """A fresh method of this class; the budget goes to those that ask for it."""
    return kind(config, setting, budget) if issubclass(kind, BudgetedMethod) else kind(config, setting)


@dataclass(frozen=True)
class Answer:
    """A network as a predictor: evaluation mode, no gradient, and every module back to the mode it was in."""

    net: nn.Module

    def __call__(self, inputs: Tensor, /) -> Tensor:
        with evaluating(self.net), torch.no_grad():
            scores: Tensor = self.net(inputs)
        return scores


def has_batch_norm(net: nn.Module) -> bool:
    """Whether the outputs of a sample in training mode depend on the rest of its batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())
