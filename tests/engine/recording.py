"""A recording on the CPU that is as blind as a CUDA graph: it does the same operations again, and nothing else.

Code of the host does not run again, numbers of the host stay as they were, and every tensor is where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from synergy.types import Step


class Tape(TorchDispatchMode):
    """Notes every operation with its arguments and results, and does them again."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations: list[tuple[OpOverload, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # Aliases keep their shape, whatever an operation in place makes of the tensor's own.
        given = _aliases((args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        self._operations.append((func, *given, _aliases(result)))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, result in self._operations:
            args, kwargs = _aliases((args, kwargs))
            for old, new in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def _aliases(tree: Any) -> Any:
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)


class Operations:
    """Records steps on a tape."""

    def __init__(self) -> None:
        self.made = 0

    def warming(self) -> AbstractContextManager[object]:
        return nullcontext()

    def record(self, compute: Callable[[], Step]) -> Callable[[], Step]:
        self.made += 1
        with Tape() as tape:
            step = compute()
        first = [True]  # recording has taken the step already, which a CUDA graph does not

        def play() -> Step:
            if not first:
                tape.replay()
            first.clear()
            return step

        return play
