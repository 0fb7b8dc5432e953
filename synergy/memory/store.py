"""The tensors with the samples of a memory. The memory decides what to keep, and in which slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from synergy.errors import UsageError
from synergy.state import State


@dataclass(frozen=True)
class Samples:
    """Samples as stored: raw `[N, ...]`, labels `int64 [N]`, and extra fields of a method, such as logits `[N, K]`.

    Examples:
        >>> import numpy as np, torch
        >>> samples = Samples(torch.arange(3)[:, None], torch.tensor([0, 1, 0]))
        >>> samples.select(np.array([2, 0])).raw.flatten().tolist()
        [2, 0]
    """

    raw: Tensor
    labels: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.labels.shape[0]

    def select(self, positions: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Samples:
        """Copies of the samples at `positions` `[M]`."""
        index = torch.from_numpy(positions).to(self.labels.device, non_blocking=True)
        return _samples({name: value.index_select(0, index) for name, value in self.fields().items()})

    def fields(self) -> dict[str, Tensor]:
        return {"raw": self.raw, "labels": self.labels, **self.extras}


def joined(parts: Sequence[Samples]) -> Samples:
    """All samples of the parts, in order, copied. All parts have the same fields."""
    fields = [part.fields() for part in parts]
    return _samples({name: torch.cat([each[name] for each in fields]) for name in fields[0]})


@dataclass
class _Noted:
    """What a store held, and the rows that were overwritten since: slots, `int64 [N]` of them, and their values."""

    capacity: int
    filled: int
    device: torch.device
    fields: dict[str, Tensor]
    rows: list[tuple[Tensor, Tensor, Tensor]]


class Store:
    """`capacity` slots on the device of the first samples put in; slots 0 to `filled - 1` hold samples.

    Slots are filled in order: the filled part is a slice, and draws from it meet samples only.

    Args:
        capacity: slots, at least 1.

    Attributes:
        filled: slots that hold samples.
        on_host: keep the slots in the host's memory, for a memory larger than the device's; pinned for a CUDA device.
            Set it before the first sample. Samples that are read come to their own device.

    Examples:
        >>> import numpy as np, torch
        >>> store = Store(4)
        >>> store.write(np.array([0, 1, 0]), Samples(torch.arange(3)[:, None], torch.zeros(3).long()))
        >>> store.filled, store.all().raw.flatten().tolist()
        (2, [2, 1])
    """

    def __init__(self, capacity: int) -> None:
        assert capacity > 0, f"a memory needs at least one slot, given {capacity}"
        self.capacity = capacity
        self.filled = 0
        self.on_host = False
        self._fields: dict[str, Tensor] = {}
        self._device = torch.device("cpu")
        self._noted: _Noted | None = None

    def place(self, slots: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        """Decide where samples go that are written in order, and count the slots that they fill.

        Args:
            slots: of each sample, `[N]`; `>= capacity` means nowhere. New ones continue the filled part without a gap.

        Returns:
            For `put`: `int64 [N]` on the host. The last sample on a slot keeps it; the others get `capacity`.
        """
        places = np.full(len(slots), self.capacity)
        kept = last_writers(slots, self.capacity)
        places[kept] = slots[kept]
        if len(kept):
            self.filled = max(self.filled, int(places[kept].max()) + 1)
        decided = torch.from_numpy(places)
        self._note_rows(decided.to(self._home, non_blocking=True))
        return decided

    def put(self, places: Tensor, samples: Samples) -> None:
        """Write samples to the `places` `[N]` that `place` gave. Those with the place `capacity` are dropped."""
        fields = samples.fields()
        if not self._fields:
            self._device = samples.labels.device
            self._fields = {name: self._slots_for(value) for name, value in fields.items()}
        assert fields.keys() == self._fields.keys(), f"stored fields are {list(self._fields)}, given {list(fields)}"
        index = places.to(self._home, non_blocking=True)
        for name, value in fields.items():
            self._fields[name].index_copy_(0, index, value.detach().to(self._home))

    def write(self, slots: np.ndarray[tuple[int], np.dtype[np.int64]], samples: Samples) -> None:
        """Place and put in one call."""
        self.put(self.place(slots), samples)

    def get(self, slots: Tensor) -> Samples:
        """Copies of the samples in `slots`, `int64 [N]`."""
        index = slots.to(self._home, non_blocking=True)
        return _samples({name: value.index_select(0, index).to(self._device) for name, value in self._fields.items()})

    def all(self) -> Samples:
        """The filled part, for reading only: no copy if the slots are on the samples' device."""
        return self.first(self.filled)

    def first(self, n: int) -> Samples:
        """The samples in the first `n` slots, as `all` gives them; all must be filled."""
        return _samples({name: value[:n].to(self._device) for name, value in self._fields.items()})

    def keep(self, slots: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        """Empty all slots but these `[N]`, rising, and close up. The bytes of the other samples are overwritten."""
        index = torch.from_numpy(slots).to(self._home)
        self._note_rows(torch.arange(self.filled, device=self._home))
        for value in self._fields.values():
            kept = value.index_select(0, index)
            value.zero_()
            value[: len(kept)] = kept
        self.filled = len(slots)

    def shrink(self, capacity: int) -> None:
        """Have fewer slots from now on, at least as many as are filled."""
        assert self.filled <= capacity <= self.capacity, f"{self.filled} samples in {capacity} of {self.capacity} slots"
        self.capacity = capacity
        for name, value in self._fields.items():
            self._fields[name] = self._slots_for(value).zero_()  # freed memory may still hold samples
            self._fields[name][: self.filled] = value[: self.filled]

    def widen(self, name: str, columns: int) -> None:
        """Append `columns` zeros to every sample's field `name` `[K]`; a field that is not stored is ignored."""
        if name in self._fields:
            narrow = self._fields[name]
            self._fields[name] = self._slots_for(narrow.new_empty(1, narrow.shape[1] + columns)).zero_()
            self._fields[name][:, : narrow.shape[1]] = narrow

    def note(self) -> None:
        """From here until `close`, `go_back` leads back to what is stored now: deciding a place notes what is there."""
        self._noted = _Noted(self.capacity, self.filled, self._device, dict(self._fields), [])

    def go_back(self) -> None:
        """Store what was stored at the latest `note`."""
        noted = self._noted
        assert noted is not None, "nothing was noted"
        for slots, index, rows in reversed(noted.rows):
            slots.index_copy_(0, index, rows)
        self.capacity, self.filled, self._device = noted.capacity, noted.filled, noted.device
        self._fields = noted.fields
        self._noted = None

    def close(self) -> None:
        """Note nothing from now on."""
        self._noted = None

    def _note_rows(self, index: Tensor) -> None:
        if self._noted is not None:
            rows = [(slots, index, slots.index_select(0, index)) for slots in self._fields.values()]
            self._noted.rows.extend(rows)

    def slots(self) -> dict[str, Tensor]:
        """All slots of each field, `[capacity + 1, ...]`, filled or empty; no field before the first put."""
        return dict(self._fields)

    def nbytes(self) -> int:
        """Bytes of all slots, filled or empty; 0 before the first sample."""
        return sum(value[: self.capacity].nbytes for value in self._fields.values())

    @property
    def _home(self) -> torch.device:
        return torch.device("cpu") if self.on_host else self._device

    def _slots_for(self, samples: Tensor) -> Tensor:
        """Empty slots for a field like that of `samples` `[N, ...]`, and one more for dropped samples.

        So every step writes all rows of its batch, independent of the decisions.
        """
        pinned = self.on_host and self._device.type == "cuda"
        shape = (self.capacity + 1, *samples.shape[1:])
        return torch.empty(shape, dtype=samples.dtype, device=self._home, pin_memory=pinned)

    def state_dict(self) -> State:
        """The filled part only: empty slots may hold anything."""
        fields = {name: value[: self.filled] for name, value in self._fields.items()}
        return {"capacity": self.capacity, "filled": self.filled, "fields": fields}

    def load_state_dict(self, state: State) -> None:
        """Take over a state; the samples' device is that of the state.

        Raises:
            ValueError: the state has another capacity, or is not the state of a store.
        """
        if state["capacity"] != self.capacity:
            raise ValueError(f"the saved memory has {state['capacity']} slots, this one {self.capacity}")
        fields: dict[str, Tensor] = state["fields"]
        lengths = {len(value) for value in fields.values()} or {0}
        if lengths != {state["filled"]} or state["filled"] > self.capacity or (fields and not fields.keys() >= _ALWAYS):
            raise ValueError(f"a memory of {state['filled']} samples, with fields {list(fields)} of lengths {lengths}")
        self.filled = state["filled"]
        self._fields = {}
        for name, value in fields.items():
            self._device = value.device
            self._fields[name] = self._slots_for(value)
            self._fields[name][: self.filled] = value


_ALWAYS = {"raw", "labels"}


def _samples(fields: dict[str, Tensor]) -> Samples:
    extras = {name: value for name, value in fields.items() if name not in _ALWAYS}
    return Samples(fields["raw"], fields["labels"], extras)


def check_room(buffer_size: int, needed: int, what: str) -> None:
    """Raises UsageError if a memory has fewer slots than `needed`, one for each `what`, such as "class"."""
    if buffer_size < needed:
        raise UsageError(
            f"buffer_size: given {buffer_size}; allowed: at least {needed}, one sample for each {what}; "
            f"give --buffer_size {needed} or more"
        )


def last_writers(
    slots: np.ndarray[tuple[int], np.dtype[np.int64]],
    capacity: int,
    groups: np.ndarray[tuple[int], np.dtype[np.int64]] | int = 0,
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Positions in `slots` `[N]` of the samples that remain: inside the memory, and the last of those on one slot.

    Args:
        slots: in the order of writing.
        capacity: slots from here on are outside.
        groups: `[N]`, multiples of `capacity + 1`: samples of different groups do not compete for a slot.
    """
    inside = np.flatnonzero(slots < capacity)
    competing = (slots + groups)[inside]
    _, last = np.unique(competing[::-1], return_index=True)
    return np.sort(inside[len(inside) - 1 - last])
