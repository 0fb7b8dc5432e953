"""Finds the operations of a step for which the host waits for the device, on any device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_WAITING_TAGS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
"""Of operations whose result, or the shape of it, depends on values: the host must know them."""
_INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
"""Tagged, but they wait only for the positions of a mask."""
_FROM_NUMBERS = "lift_fresh"
"""What `torch.tensor` does with numbers of the host; on a device it is a copy that is waited for."""


class WaitWatch(TorchDispatchMode):
    """Notices operations that make the host wait for the device. A step with such an operation cannot be recorded.

    They are found on the CPU too, where nobody waits: reading a value (`item`, `if tensor > 0`), a result whose shape
    depends on values (`nonzero`, a boolean mask as an index), a copy to the host or from it, and `torch.tensor(...)`.

    Attributes:
        found: the operations that wait, by name, in order.

    Examples:
        >>> with WaitWatch() as watch:
        ...     _ = torch.ones(3).sum() > 2
        >>> watch.found
        []
        >>> with WaitWatch() as watch:
        ...     _ = bool(torch.ones(3).sum() > 2)
        >>> watch.found
        ['aten._local_scalar_dense']
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if _waits(func, args, result):
            self.found.append(str(func.overloadpacket))
        return result


def _waits(func: OpOverload, args: tuple[Any, ...], result: Any) -> bool:
    name = func.overloadpacket.__name__
    if name in _INDEXING:
        return any(isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in args[1])
    if name == _FROM_NUMBERS or any(tag in func.tags for tag in _WAITING_TAGS):
        return True
    if name not in ("_to_copy", "copy_"):
        return False
    devices = {leaf.device.type for leaf in (*tree_leaves(args), *tree_leaves(result)) if isinstance(leaf, Tensor)}
    return len(devices) > 1
