"""Named generators: each consumer of randomness owns one, derived from the run's seed and its own name.

Consumers are independent of each other, so a stream is the same whatever learns from it. All draws are made on the
host: decisions need not wait for a device, and a CPU and a GPU see the same stream.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from synergy.errors import TrainingError
from synergy.interrupts import uninterrupted


def generator(seed: int, name: str) -> np.random.Generator:
    """A host generator for the consumer called `name`, such as `"stream/order"`.

    Examples:
        >>> generator(0, "stream/order").integers(10, size=3)
        array([2, 1, 9])
    """
    return np.random.Generator(np.random.PCG64(_entropy(seed, name)))


def torch_generator(seed: int, name: str) -> torch.Generator:
    """A generator of torch on the CPU, for draws that only torch makes, such as the initial weights of a network.

    Examples:
        >>> torch_generator(0, "net").initial_seed() == torch_generator(1, "net").initial_seed()
        False
    """
    return torch.Generator().manual_seed(_entropy(seed, name) % 2**63)


class TorchRandomness:
    """A generator of its own for what torch draws in a network's training pass, such as dropout.

    Layers such as dropout draw from torch's global generator and take no other. Within `drawing` their random numbers
    come from this generator, and the global one stays untouched. The numbers are the same with and without other
    threads, and whatever these draw.

    - In a process with one thread the global generator has this generator's state for the time being: that is quick.
    - Beside other threads every random operation of this thread gets this generator (a `TorchDispatchMode`, about
      8 us for each operation of the step). One that takes no generator, such as CUDA's fused dropout, borrows the
      global generator for itself alone.
    - A network that computes parts of its forward pass again in the backward pass (`torch.utils.checkpoint`) finds
      its random numbers again in the global generator only. It borrows that for the whole step; such steps of several
      threads take turns. The first step that draws tells whether a network does so.

    Args:
        seed: seed of the run.
        name: name of the consumer.
        device: whose generator.

    Examples:
        >>> import torch
        >>> randomness = TorchRandomness(0, "network", torch.device("cpu"))
        >>> before = torch.get_rng_state()
        >>> with randomness.drawing():
        ...     kept = torch.nn.functional.dropout(torch.ones(6))
        >>> kept.tolist()
        [2.0, 0.0, 0.0, 0.0, 2.0, 2.0]
        >>> torch.equal(before, torch.get_rng_state())
        True
    """

    _BORROWING = threading.RLock()
    """Held while the global generator has somebody's state."""

    def __init__(self, seed: int, name: str, device: torch.device) -> None:
        self.device = device
        self._generator = torch.Generator(device).manual_seed(_entropy(seed, name) % 2**63)
        self.recomputes: bool | None = None
        """Whether backward passes draw again; None until a step has drawn."""

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within, what torch draws in this thread comes from this generator.

        Ctrl-C waits for the end: the global generator must come back to its owner.
        """
        with uninterrupted():
            if self.recomputes is None:
                watch = DrawWatch()
                with self._borrowed(), watch:
                    yield
                self.recomputes = watch.recomputed if watch.drawn else None
            elif self.recomputes or threading.active_count() == 1:
                with self._borrowed():
                    yield
            else:
                with _Injection(self._generator, self._borrowed):
                    yield

    @contextmanager
    def noticing(self) -> Iterator[DrawWatch]:
        """As `drawing`; the watch knows afterwards what was drawn."""
        watch = DrawWatch()
        with self.drawing(), watch:
            yield watch

    @contextmanager
    def lent(self) -> Iterator[None]:
        """As `drawing`, by the global generator alone: a recorded step draws from that and no other one."""
        with uninterrupted(), self._borrowed():
            yield

    @contextmanager
    def _borrowed(self) -> Iterator[None]:
        """Within, the global generator goes on where this one was; afterwards it is as it was before."""
        with self._BORROWING:
            theirs = _global_state(self.device)
            _set_global_state(self.device, self._generator.get_state())
            try:
                yield
            finally:
                self._generator.set_state(_global_state(self.device))
                _set_global_state(self.device, theirs)

    def state_dict(self) -> dict[str, Any]:
        return {"device": self.device.type, "state": self._generator.get_state(), "recomputes": self.recomputes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state was taken; on a device of another type, whose numbers differ, from the seed.

        Raises:
            RuntimeError, TypeError: the state belongs to no generator.
        """
        recomputes = state.get("recomputes")  # older states do not say
        if not isinstance(recomputes, bool | None):
            raise TypeError(f"'recomputes' is {recomputes!r}")
        self.recomputes = recomputes
        if state["device"] == self.device.type:
            self._generator.set_state(state["state"].cpu())


def _draws(operation: OpOverload) -> bool:
    return torch.Tag.nondeterministic_seeded in operation.tags


class DrawWatch(TorchDispatchMode):
    """Notices whether torch draws random numbers.

    Attributes:
        drawn: whether it drew any.
        recomputed: whether a backward pass drew.

    Examples:
        >>> with DrawWatch() as watch:
        ...     _ = torch.nn.functional.dropout(torch.ones(6))
        >>> watch.drawn, watch.recomputed
        (True, False)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drawn = False
        self.recomputed = False

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if _draws(func):
            self.drawn = True
            self.recomputed |= _in_backward()
        return func(*args, **(kwargs or {}))


class _Injection(TorchDispatchMode):
    """Gives a generator to every random operation that has none.

    Args:
        generator: the one.
        borrowed: context in which the global generator stands in for it.
    """

    def __init__(self, generator: torch.Generator, borrowed: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = generator
        self._borrowed = borrowed

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if not _draws(func) or named.get("generator") is not None:
            return func(*args, **named)
        if _in_backward():
            raise TrainingError(
                "network: it draws random numbers again in the backward pass, which its first step did not; make the "
                "learner with the network as it is now"
            )
        if any(argument.name == "generator" for argument in func._schema.arguments):
            return func(*args, **named, generator=self._generator)
        with self._borrowed():
            return func(*args, **named)


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def _global_state(device: torch.device) -> torch.Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def _set_global_state(device: torch.device, state: torch.Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)


def _entropy(seed: int, name: str) -> int:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:16], "little")
