"""The checks of a memory pass for those of the library, and each finds the memory that breaks its clause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from synergy import testing
from synergy.errors import UsageError
from synergy.memory.base import DrawableMemory, Forgetful, Memory, Positions
from synergy.memory.class_balanced import ClassBalanced
from synergy.memory.gradient_selected import GradientSelected
from synergy.memory.herded import Herded
from synergy.memory.reservoir import Reservoir
from synergy.memory.ring import Ring
from synergy.memory.store import Samples, Store
from synergy.memory.task_wise import TaskWise
from synergy.state import State

SLOTS = 4


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_reservoir_passes() -> None:
    testing.check_memory(lambda seed: Reservoir(SLOTS, rng(seed), rng(seed + 1)), keeps="uniform")


def test_a_ring_passes() -> None:
    testing.check_memory(lambda seed: Ring(SLOTS, 1, rng(seed)), keeps="newest")


def test_a_class_balanced_memory_passes() -> None:
    testing.check_memory(lambda seed: ClassBalanced(SLOTS, rng(seed)))


def test_a_gradient_selected_memory_passes() -> None:
    def offer(memory: GradientSelected, samples: Samples) -> None:
        memory.offer(samples, 2 * samples.extras["logits"][:, 0].double().numpy(), 0.5)

    testing.check_memory(lambda seed: GradientSelected(SLOTS, rng(seed), rng(seed + 1)), offer=offer)


def test_a_herded_memory_passes() -> None:
    def offer(memory: Herded, samples: Samples) -> None:
        labels = samples.labels.numpy()
        memory.refill({int(label): samples.select(np.flatnonzero(labels == label)) for label in np.unique(labels)})

    testing.check_memory(lambda seed: Herded(SLOTS, rng(seed)), offer=offer)


def test_a_memory_of_tasks_passes() -> None:
    def offer(memory: TaskWise, samples: Samples) -> None:
        if len(memory.sizes) < SLOTS:
            share = SLOTS // (len(memory.sizes) + 1)
            memory.cut(share)
            memory.add(samples.select(np.arange(min(share, len(samples)))))

    testing.check_memory(lambda seed: TaskWise(SLOTS, rng(seed)), offer=offer)


class Window(DrawableMemory, Forgetful):
    """The newest samples. Each memory below breaks one clause of the contract, and is otherwise this one."""

    def __init__(self, seed: int, capacity: int = SLOTS) -> None:
        super().__init__(capacity, rng(seed))
        self.ages = torch.zeros(capacity, dtype=torch.int64)
        """When the sample of each slot was offered, `[capacity]`, from 1."""
        self.seen = 0

    def offer(self, samples: Samples) -> None:
        slots, filled = np.zeros(len(samples), dtype=np.int64), len(self)
        for position in range(len(samples)):
            self.seen += 1
            slots[position] = filled if filled < self.capacity else int(self.ages[: self.capacity].argmin())
            filled = min(filled + 1, self.capacity)
            self.ages[slots[position]] = self.seen
        self.store.write(slots, samples)

    def keep(self, positions: Positions) -> None:
        self.ages[: len(positions)] = self.ages[positions]
        self.store.keep(positions)


def test_a_sound_memory_passes() -> None:
    testing.check_memory(Window, keeps="newest")
    testing.check_memory(Window)


class Prefilled(Window):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.offer(Samples(torch.ones(1, 1, 4, 4, dtype=torch.uint8), torch.zeros(1).long()))


class Mixing(Window):
    def offer(self, samples: Samples) -> None:
        super().offer(Samples(samples.raw, samples.labels.flip(0), samples.extras))


class Doubling(Window):
    def offer(self, samples: Samples) -> None:
        for _ in range(2):
            super().offer(samples)


class Bare(Window):
    def offer(self, samples: Samples) -> None:
        super().offer(Samples(samples.raw, samples.labels))


class Unfilled(Window):
    """Gives every slot, also those that hold no sample."""

    def all(self) -> Samples:
        return with_empty_slots(super().all(), self.capacity)


def with_empty_slots(samples: Samples, n: int) -> Samples:
    """`n` samples, those that are missing full of zeros."""
    missing = n - len(samples)
    fields = {name: torch.cat([v, v.new_zeros(missing, *v.shape[1:])]) for name, v in samples.fields().items()}
    return Samples(fields.pop("raw"), fields.pop("labels"), fields)


class Swelling(Window):
    """Has more slots whenever it is full."""

    def offer(self, samples: Samples) -> None:
        for position in range(len(samples)):
            if len(self) == self.capacity:
                old, self.store = self.store, Store(self.capacity + 1)
                self.store.write(np.arange(old.filled), old.all())
                self.ages = torch.cat([self.ages, self.ages.new_zeros(1)])
            super().offer(samples.select(np.array([position])))


class Borrowing(Window):
    """Keeps the batch itself, not a copy."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.last = torch.zeros(0, dtype=torch.uint8)

    def offer(self, samples: Samples) -> None:
        super().offer(samples)
        self.last = samples.raw


class Shared(Window):
    """One tensor for all memories."""

    ages_of_all = torch.zeros(SLOTS, dtype=torch.int64)

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.ages = self.ages_of_all


class Unseeded(Window):
    def __init__(self, seed: int) -> None:
        super().__init__(int(rng(seed).integers(2**31)) + id(self))


class GlobalNumpy(Window):
    def offer(self, samples: Samples) -> None:
        np.random.rand()
        super().offer(samples)


class GlobalTorch(Window):
    def keep(self, positions: Positions) -> None:
        torch.rand(1)
        super().keep(positions)


class Careless(Window):
    """Restores its samples, not their ages."""

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.ages.zero_()


class Secretive(Window):
    """Saves everything but the generator that it draws with."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._draw_rng = Hidden(self._draw_rng)  # type: ignore[assignment]


class Hidden:
    """A generator that nobody can save."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def choice(self, *args: Any, **options: Any) -> Any:
        return self.rng.choice(*args, **options)

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None:
        pass


class Leaking(Window):
    """Saves its own tensors, not copies."""

    def state_dict(self) -> State:
        return super().state_dict() | {"ages": self.ages}


class TooMany(Window):
    def draw(self, n: int, rng: np.random.Generator | None = None) -> Samples:
        return super().draw(n + 1, rng)


class Replacing(Window):
    def draw(self, n: int, rng: np.random.Generator | None = None) -> Samples:
        generator = self._draw_rng if rng is None else rng
        return self.all().select(generator.integers(0, len(self), min(n, len(self))))


class Beyond(Window):
    """Draws among all slots, filled or not."""

    def draw(self, n: int, rng: np.random.Generator | None = None) -> Samples:
        generator = self._draw_rng if rng is None else rng
        slots = generator.choice(self.capacity, min(n, len(self)), replace=False)
        return with_empty_slots(self.all(), self.capacity).select(slots)


class Exposed(Window):
    """Draws give its own tensors where the whole memory is drawn."""

    def draw(self, n: int, rng: np.random.Generator | None = None) -> Samples:
        return self.all() if n >= len(self) else super().draw(n, rng)


class Favouring(Window):
    """The first sample twice as often as another."""

    def draw(self, n: int, rng: np.random.Generator | None = None) -> Samples:
        generator = self._draw_rng if rng is None else rng
        weights = np.ones(len(self))
        weights[0] = 2
        size = min(n, len(self))
        return self.all().select(generator.choice(len(self), size, replace=False, p=weights / weights.sum()))


class Stubborn(Window):
    """Draws with its own generator, whichever it is given."""

    def draw(self, n: int, rng: np.random.Generator | None = None) -> Samples:
        return super().draw(n)


class Reversing(Window):
    def keep(self, positions: Positions) -> None:
        super().keep(len(self) - 1 - positions[::-1])


class Relapsing(Window):
    """Offers itself again what it should have forgotten."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.backup: list[Samples] = []

    def keep(self, positions: Positions) -> None:
        self.backup = [self.all().select(np.setdiff1d(np.arange(len(self)), positions))]
        super().keep(positions)

    def offer(self, samples: Samples) -> None:
        super().offer(samples)
        for again in self.backup:
            super().offer(again)


class Messy(Window):
    """Closes up, and leaves what lay in the slots behind."""

    def keep(self, positions: Positions) -> None:
        self.ages[: len(positions)] = self.ages[positions]
        samples = self.all().select(positions)
        self.store.filled = 0
        self.store.write(np.arange(len(samples)), samples)


class Slipping(DrawableMemory, Forgetful):
    """Slots in turn; after forgetting, the next one is not that of the oldest sample."""

    def __init__(self, seed: int) -> None:
        super().__init__(SLOTS, rng(seed))
        self.next = 0

    def offer(self, samples: Samples) -> None:
        slots = (self.next + np.arange(len(samples))) % self.capacity
        self.store.write(slots, samples)
        self.next = int(slots[-1] + 1) % self.capacity

    def keep(self, positions: Positions) -> None:
        self.store.keep(positions)
        self.next = len(positions) % self.capacity


class Unshrinking(Window):
    def shrink(self, capacity: int, rng: np.random.Generator) -> None:
        if len(self) > capacity:
            self.keep(np.sort(rng.choice(len(self), capacity, replace=False)))


class FirstRemain(Window):
    def shrink(self, capacity: int, rng: np.random.Generator) -> None:
        self.keep(np.arange(min(capacity, len(self))))
        self.store.shrink(capacity)


class Aging(Window):
    """After it shrank, the slot of the newest sample counts as the oldest."""

    def shrink(self, capacity: int, rng: np.random.Generator) -> None:
        super().shrink(capacity, rng)
        self.ages.neg_()


class Hasty(Reservoir):
    """Prepares with a count that it forgets to raise."""

    def __init__(self, seed: int) -> None:
        super().__init__(SLOTS, rng(seed), rng(seed + 1))

    def prepare(self, sizes: Sequence[int]) -> None:
        for size in sizes:
            super().prepare([size])


class LateCount(Reservoir):
    """Counts a sample after it decided, so that the first one in a full memory always stays."""

    def __init__(self, seed: int) -> None:
        super().__init__(SLOTS, rng(seed), rng(seed + 1))

    def offer(self, samples: Samples) -> None:
        for position in range(len(samples)):
            late = self.seen >= self.capacity
            self.seen -= late
            super().offer(samples.select(np.array([position])))
            self.seen += late


class ByBatch(Reservoir):
    """All samples of a batch draw from the count before it."""

    def __init__(self, seed: int) -> None:
        super().__init__(SLOTS, rng(seed), rng(seed + 1))

    def offer(self, samples: Samples) -> None:
        seen = self.seen
        for position in range(len(samples)):
            self.seen = max(seen, min(seen + position, self.capacity))
            super().offer(samples.select(np.array([position])))
        self.seen = seen + len(samples)


class Restarting(Reservoir):
    """After forgetting it counts from what is left, so that later samples stay too often."""

    def __init__(self, seed: int) -> None:
        super().__init__(SLOTS, rng(seed), rng(seed + 1))

    def keep(self, positions: Positions) -> None:
        super().keep(positions)
        self.seen = len(self)


BROKEN: list[tuple[Callable[[int], Memory], str, str]] = [
    (Prefilled, "kind", "holds 1 samples"),
    (Mixing, "contents", "another 'labels'"),
    (Doubling, "contents", "twice"),
    (Bare, "contents", r"\['logits'\]"),
    (Unfilled, "contents", "never offered"),
    (Swelling, "capacity", "12 in 12 slots"),
    (Borrowing, "copies", "batch"),
    (Shared, "apart", "another"),
    (Unseeded, "same seed", "same seed"),
    (GlobalNumpy, "global randomness", "global"),
    (GlobalTorch, "global randomness", "global"),
    (Careless, "restored", "after 2 samples"),
    (Secretive, "resumed", "after"),
    (Leaking, "state", "state"),
    (TooMany, "draws", "a draw of 1 from 2 gave 2"),
    (Replacing, "draws", "twice"),
    (Beyond, "draws", "never offered"),
    (Exposed, "draw copies", "writing to drawn samples"),
    (Favouring, "draw uniform", "600 draws of"),
    (Stubborn, "draw generator", "given generator"),
    (Hasty, "places ahead", r"batches of \(1, 3, 6, 2, 4\)"),
    (Reversing, "forgets", "`keep` left"),
    (Relapsing, "forgets", "came back"),
    (Messy, "nothing left", "keep"),
    (Slipping, "keeps on", "newest"),
    (Unshrinking, "shrinks", "4 slots"),
    (FirstRemain, "shrinks uniform", "600 memories"),
    (Aging, "shrinks on", "newest"),
    (Restarting, "keeps on", "of 6 samples, 2 of them taken out, 600 memories"),
]


@pytest.mark.parametrize(("build", "name", "complaint"), BROKEN)
def test_a_broken_memory_is_found_out(build: Callable[[int], Memory], name: str, complaint: str) -> None:
    check = {check.name: check for check in testing.memory_checks(build)}[name]
    with pytest.raises(AssertionError, match=f"^{name}: .*{complaint}"):
        check()


@pytest.mark.parametrize("build", [LateCount, ByBatch])
def test_a_wrong_reservoir_is_found_out(build: Callable[[int], Memory]) -> None:
    check = {check.name: check for check in testing.memory_checks(build, keeps="uniform")}["keeps"]
    with pytest.raises(AssertionError, match=r"^keeps: of \d+ samples 600 memories held each"):
        check()


@pytest.mark.parametrize("keeps", ["newest", "uniform"])
def test_a_promise_that_is_not_kept_is_found_out(keeps: Any) -> None:
    kinds: dict[str, Callable[[int], Memory]] = {
        "newest": lambda seed: Reservoir(SLOTS, rng(seed), rng(seed + 1)),
        "uniform": Window,
    }
    with pytest.raises(AssertionError, match=f"^keeps: .*{keeps}"):
        testing.check_memory(kinds[keeps], keeps=keeps)


def test_checks_have_names_of_their_own_and_a_sentence_each() -> None:
    checks = testing.memory_checks(Window, keeps="newest")
    assert len({check.name for check in checks}) == len(checks) == 21
    assert all(check.reason.endswith(".") and "\n" not in check.reason for check in checks)


def test_a_large_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="capacity: given 65; allowed: 2 to 64"):
        testing.memory_checks(lambda seed: Window(seed, 65))


def test_samples_of_one_kind_are_refused() -> None:
    with pytest.raises(AssertionError, match="same `raw`"):
        testing.memory_checks(Window, samples=lambda n: Samples(torch.zeros(n, 1), torch.zeros(n).long()))
