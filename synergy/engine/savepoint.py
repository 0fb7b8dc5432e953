"""All or nothing: everything that objects hold, and the way back to it after a failure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from functools import cache, partial
from types import FunctionType, MethodType, NoneType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from synergy.memory.store import Store
from synergy.ops.vectors import Flat, PerParameter
from synergy.state import Stateful


class Savepoint:
    """What some objects hold now, and all that they are made of: tensors, networks, optimisers, memories, generators.

    `go_back` puts everything back in its place: attributes, containers, and the numbers in tensors. A memory is not
    copied: it notes the rows that are overwritten. Frozen parameters are not copied: no step writes to them. The
    contents of gradients are not kept. Objects without a
    `state_dict`, such as a user's functions, and tuples are left alone.

    Args:
        roots: objects with attributes; None is left out.
        attributes_of: objects whose attributes alone are kept, without what these hold.

    Examples:
        >>> from synergy import testing
        >>> method = testing.trained("er", "seq-digits", buffer_size=50)
        >>> before = method.weights.values.clone()
        >>> savepoint = Savepoint(method)
        >>> _ = method.weights.values.zero_()
        >>> savepoint.go_back()
        >>> torch.equal(method.weights.values, before)
        True
    """

    def __init__(self, *roots: object | None, attributes_of: Sequence[object] = ()) -> None:
        self._seen: set[int] = set()
        self._entries: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        """Attributes and other mappings, with what they held."""
        self._items: list[tuple[list[Any] | deque[Any], list[Any]]] = []
        self._parameters: list[tuple[nn.Parameter, Tensor, Tensor | None]] = []
        """With data and gradient: a `Flat` gives them others."""
        self._numbers: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        """Of tensors, by address; several tensors may share them."""
        self._stores: list[Store] = []
        self._others: list[Callable[[], object]] = []
        for part in (*attributes_of, *roots):
            if part is not None:
                self._keep_entries(vars(part))
        for root in roots:
            if root is not None:
                self._seen.add(id(root))
                self._keep_values(vars(root))

    def go_back(self) -> None:
        """Be as when this was made."""
        for store in self._stores:
            store.go_back()
        for parameter, data, grad in self._parameters:
            parameter.data, parameter.grad = data, grad
        for numbers, before in self._numbers.values():
            numbers.copy_(before)
        for way_back in self._others:
            way_back()
        for items, held in self._items:
            items.clear()
            items.extend(held)
        for entries, content in reversed(self._entries):  # the attributes of the roots come last
            for name in entries.keys() - content.keys():
                del entries[name]
            entries.update(content)

    def close(self) -> None:
        """Give up the way back: what has happened stays."""
        for store in self._stores:
            store.close()

    def _keep(self, part: Any) -> None:
        """Keep a part and what it is made of, unless it is kept already."""
        keep = _keeper(cast(Hashable, type(part)))  # mypy takes no class for hashable
        if keep is not None and id(part) not in self._seen:
            self._seen.add(id(part))
            keep(self, part)

    def _keep_entries(self, entries: dict[Any, Any]) -> None:
        self._entries.append((entries, dict(entries)))

    def _keep_values(self, entries: dict[Any, Any]) -> None:
        for value in entries.values():
            self._keep(value)

    def _keep_dict(self, part: dict[Any, Any]) -> None:
        self._keep_entries(part)
        self._keep_values(part)

    def _keep_attributes(self, part: object) -> None:
        self._keep_dict(vars(part))

    def _keep_items(self, part: list[Any] | deque[Any]) -> None:
        self._items.append((part, list(part)))
        for value in part:
            self._keep(value)

    def _keep_array(self, array: np.ndarray[Any, Any]) -> None:
        self._others.append(partial(np.copyto, array, array.copy()))

    def _keep_generator(self, rng: np.random.Generator) -> None:
        self._others.append(partial(setattr, rng.bit_generator, "state", rng.bit_generator.state))

    def _keep_torch_generator(self, rng: torch.Generator) -> None:
        self._others.append(partial(rng.set_state, rng.get_state()))

    def _keep_store(self, store: Store) -> None:
        store.note()
        self._stores.append(store)

    def _keep_flat(self, weights: Flat) -> None:
        self._keep_entries(vars(weights))
        self._keep(weights.values)  # gradients are made anew at every step

    def _keep_network(self, net: nn.Module) -> None:
        for module in net.modules():
            for entries in (vars(module), module._modules, module._parameters, module._buffers):
                if entries:
                    self._keep_entries(entries)
            self._keep_values({name: p for name, p in module._parameters.items() if p is None or p.requires_grad})
            self._keep_values(module._buffers)

    def _keep_tensor(self, tensor: Tensor) -> None:
        if isinstance(tensor, nn.Parameter):
            self._parameters.append((tensor, tensor.data, tensor.grad))
        numbers = tensor.untyped_storage()
        address = numbers.data_ptr()
        if address not in self._numbers:
            self._numbers[address] = (numbers, numbers.clone())


@cache
def _keeper(kind: type) -> Callable[[Savepoint, Any], None] | None:
    """What keeps a part of this type; None for what never changes or holds nothing of ours."""
    if kind in (NoneType, bool, int, float, str, tuple, FunctionType, MethodType):
        return None
    for base, keep in _KEEPERS:
        if issubclass(kind, base):
            return keep
    return Savepoint._keep_attributes if issubclass(kind, Stateful) else None


_KEEPERS: tuple[tuple[type, Callable[[Savepoint, Any], None]], ...] = (
    (Tensor, Savepoint._keep_tensor),
    (nn.Module, Savepoint._keep_network),
    (dict, Savepoint._keep_dict),
    (list, Savepoint._keep_items),
    (deque, Savepoint._keep_items),
    (np.ndarray, Savepoint._keep_array),
    (np.random.Generator, Savepoint._keep_generator),
    (torch.Generator, Savepoint._keep_torch_generator),
    (Store, Savepoint._keep_store),
    (Flat, Savepoint._keep_flat),
    (PerParameter, Savepoint._keep_attributes),
)
