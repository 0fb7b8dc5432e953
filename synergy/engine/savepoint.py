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
    copied: it notes the rows that are overwritten. The contents of gradients are not kept. Objects without a
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
        self._ways_back: list[Callable[[], object]] = []
        self._stores: list[Store] = []
        self._seen: set[int] = set()
        self._storages: set[int] = set()
        for root in roots:
            if root is not None:
                self._seen.add(id(root))
                self._keep_attributes(root)
        for part in attributes_of:
            self._ways_back.append(_attributes_back(part))

    def go_back(self) -> None:
        """Be as when this was made."""
        with torch.no_grad():
            for way_back in reversed(self._ways_back):  # the first root's attributes last
                way_back()

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

    def _keep_dict(self, part: dict[Any, Any]) -> None:
        self._ways_back.append(_entries_back(part))
        for value in part.values():
            self._keep(value)

    def _keep_items(self, part: list[Any] | deque[Any]) -> None:
        self._ways_back.append(_items_back(part))
        for value in part:
            self._keep(value)

    def _keep_array(self, array: np.ndarray[Any, Any]) -> None:
        self._ways_back.append(partial(np.copyto, array, array.copy()))

    def _keep_generator(self, rng: np.random.Generator) -> None:
        self._ways_back.append(partial(setattr, rng.bit_generator, "state", rng.bit_generator.state))

    def _keep_torch_generator(self, rng: torch.Generator) -> None:
        self._ways_back.append(partial(rng.set_state, rng.get_state()))

    def _keep_store(self, store: Store) -> None:
        store.note()
        self._stores.append(store)
        self._ways_back.append(store.go_back)

    def _keep_flat(self, weights: Flat) -> None:
        self._ways_back.append(_attributes_back(weights))
        self._keep(weights.values)  # gradients are made anew at every step

    def _keep_attributes(self, part: object) -> None:
        self._ways_back.append(_attributes_back(part))
        for value in vars(part).values():
            self._keep(value)

    def _keep_network(self, net: nn.Module) -> None:
        for module in net.modules():
            self._ways_back.append(_attributes_back(module))
            for parts in (module._parameters, module._buffers, module._modules):
                if parts:
                    self._ways_back.append(_entries_back(parts))
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                self._keep(tensor)

    def _keep_tensor(self, tensor: Tensor) -> None:
        if isinstance(tensor, nn.Parameter):  # a `Flat` gives it other data and another gradient
            self._ways_back.append(_parameter_back(tensor))
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._storages:
            self._storages.add(storage.data_ptr())
            self._ways_back.append(partial(storage.copy_, storage.clone()))


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


def _attributes_back(part: object) -> Callable[[], object]:
    return _entries_back(vars(part))


def _entries_back(entries: dict[Any, Any]) -> Callable[[], object]:
    before = dict(entries)

    def way_back() -> None:
        for name in entries.keys() - before.keys():
            del entries[name]
        entries.update(before)

    return way_back


def _items_back(items: list[Any] | deque[Any]) -> Callable[[], object]:
    before = list(items)

    def way_back() -> None:
        items.clear()
        items.extend(before)

    return way_back


def _parameter_back(parameter: nn.Parameter) -> Callable[[], object]:
    data, grad = parameter.data, parameter.grad

    def way_back() -> None:
        parameter.data, parameter.grad = data, grad

    return way_back
