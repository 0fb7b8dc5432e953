"""Contract checks of a memory: what it holds, what it draws, what it restores, and what it forgets."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.stats import chi2

from synergy.memory.base import Forgetful, Memory
from synergy.memory.store import Samples
from synergy.randomness import generator
from synergy.state import same
from synergy.testing.checks import Check, global_randomness_untouched, require, run_all
from synergy.testing.in_use import Counts, MemoriesInUse, Placeable, draw
from synergy.testing.pool import different_samples, overwrite, stored_bytes

Rule: TypeAlias = Literal["uniform", "newest"]
"""What a memory keeps: every sample with the same probability, or the newest ones."""

TRIALS = 600
"""Memories built, or draws made, to measure a probability."""
UNLIKELY = 1e-5
"""A measured frequency that is less probable than this is wrong."""


Change: TypeAlias = Callable[[Forgetful, list[int], np.random.Generator], set[int]]
"""Changes a memory that holds samples of these numbers; gives the numbers of those that it must not hold any more."""


def offer_in_order(memory: Any, samples: Samples) -> None:
    """Offer samples to a memory that has `offer(samples)`."""
    memory.offer(samples)


def memory_checks(
    build: Callable[[int], Memory],
    *,
    offer: Callable[[Any, Samples], object] = offer_in_order,
    samples: Callable[[int], Samples] = different_samples,
    keeps: Rule | None = None,
) -> list[Check]:
    """The checks of a memory, in order. What a `Forgetful` memory or one with `draw` promises is checked as well.

    Args:
        build: makes an empty memory of 2 to 64 slots. All its randomness comes from the seed it is given.
        offer: offers a batch of samples to a memory.
        samples: makes that many samples, all with different `raw`.
        keeps: what the memory promises to keep: "uniform" (a reservoir) or "newest". A memory with neither promise is
            measured: one that behaves like either must behave so after forgetting too.

    Raises:
        UsageError: the memory has fewer or more slots.

    Examples:
        >>> import numpy as np
        >>> from synergy.memory.reservoir import Reservoir
        >>> def build(seed):
        ...     return Reservoir(6, np.random.default_rng(seed), np.random.default_rng(seed + 1))
        >>> for check in memory_checks(build, keeps="uniform")[:3]:
        ...     print(check.name, "-", check.reason)
        ...     check()
        kind - A memory derives from `Memory`, so that methods and checkpoints find it.
        contents - A memory holds samples that were offered, each once, with its own label and fields.
        capacity - A memory never holds more samples than it has slots.
    """
    return _MemoryTrial(build, offer, samples, keeps).checks()


def check_memory(
    build: Callable[[int], Memory],
    *,
    offer: Callable[[Any, Samples], object] = offer_in_order,
    samples: Callable[[int], Samples] = different_samples,
    keeps: Rule | None = None,
) -> None:
    """Run all checks of a memory; the arguments are those of `memory_checks`.

    Raises:
        AssertionError: says which clause of the contract is broken.
        UsageError: the memory has too few or too many slots to be checked.

    Examples:
        >>> import numpy as np
        >>> from synergy.memory.ring import Ring
        >>> check_memory(lambda seed: Ring(5, 1, np.random.default_rng(seed)), keeps="newest")
    """
    run_all(memory_checks(build, offer=offer, samples=samples, keeps=keeps))


class _MemoryTrial(MemoriesInUse):
    """The clauses of the contract, each a method that raises AssertionError if the memory breaks it."""

    def __init__(
        self,
        build: Callable[[int], Memory],
        offer: Callable[[Any, Samples], object],
        samples: Callable[[int], Samples],
        keeps: Rule | None,
    ) -> None:
        super().__init__(build, offer, samples)
        self.keeps = keeps

    def checks(self) -> list[Check]:
        """Those of every memory, then those of one that draws, forgets, or keeps by a rule."""
        return [
            Check("kind", "A memory derives from `Memory`, so that methods and checkpoints find it.", self.kind),
            Check(
                "contents",
                "A memory holds samples that were offered, each once, with its own label and fields.",
                self.contents,
            ),
            Check("capacity", "A memory never holds more samples than it has slots.", self.within_capacity),
            Check("copies", "A memory copies what it is offered.", self.copies),
            Check("apart", "Two memories share nothing.", self.apart),
            Check("same seed", "The same seed gives the same memory.", self.same_seed),
            Check("global randomness", "A memory uses its own generators only.", self.global_randomness),
            Check("restored", "A restored memory has the state that was saved.", self.restored),
            Check("resumed", "A restored memory goes on exactly as the saved one does.", self.resumed),
            Check("state", "A saved state shares no storage with a memory.", self.state),
            *(self._checks_of_draws() if self.drawable else []),
            *(self._checks_of_places() if self.placeable else []),
            *(self._checks_of_promise() if self.keeps else []),
            *(self._checks_of_forgetting() if self.forgetful else []),
        ]

    def _checks_of_promise(self) -> list[Check]:
        return [Check("keeps", f"The memory keeps samples as it promises: {self.keeps}.", self.rule)]

    def _checks_of_places(self) -> list[Check]:
        return [Check("places ahead", "Places decided for several batches are those decided one by one.", self.ahead)]

    def _checks_of_draws(self) -> list[Check]:
        return [
            Check("draws", "A draw of n gives n different samples, or all if fewer are held.", self.draws),
            Check("draw copies", "A draw is a copy.", self.draw_copies),
            Check("draw uniform", "A draw gives every sample with the same probability.", self.draw_uniform),
            Check("draw generator", "A draw with a given generator uses that one only.", self.draw_generator),
        ]

    def _checks_of_forgetting(self) -> list[Check]:
        return [
            Check("forgets", "`keep` leaves the named samples in order; the others never come back.", self.forgets),
            Check("nothing left", "No byte of a forgotten sample stays behind.", self.nothing_left),
            Check("keeps on", "After `keep`, a memory keeps samples as it did before.", self.rule_after_keep),
            Check("shrinks", "`shrink` leaves as many samples as fit, and no more are taken later.", self.shrinks),
            Check("shrinks uniform", "`shrink` keeps every sample with the same probability.", self.shrinks_uniform),
            Check("shrinks on", "After `shrink`, a memory keeps samples as it did before.", self.rule_after_shrink),
        ]

    # Clauses of every memory.

    def kind(self) -> None:
        memory = self.build(0)
        require(isinstance(memory, Memory), f"a {type(memory).__name__} derives from {type(memory).__bases__}")
        require(len(memory) == 0, f"a fresh memory holds {len(memory)} samples")

    def contents(self) -> None:
        for memory, offered in self.stages():
            numbers = self.held(memory)
            require(len(memory) == len(numbers), f"its length is {len(memory)}, `all()` gives {len(numbers)} samples")
            require(len(set(numbers)) == len(numbers), "it holds a sample twice")
            require(set(numbers) <= set(range(offered)), "it holds a sample that was never offered")
            lost = self.pool.samples.fields().keys() - memory.all().fields().keys() if numbers else ()
            require(not lost, f"it lost the fields {sorted(lost)}")

    def within_capacity(self) -> None:
        for memory, offered in self.stages():
            require(len(memory) <= memory.capacity == self.capacity, self.count(memory, offered))

    def copies(self) -> None:
        memory = self.filled(0, self.capacity - 1)
        for size in (1, self.capacity):
            batch = self.pool.take(range(self.capacity, self.capacity + size))
            self.offer(memory, batch)
            before = memory.state_dict()
            overwrite(batch)
            require(same(before, memory.state_dict()), "writing to a batch that was offered changed the memory")

    def apart(self) -> None:
        fresh, used = self.build(0), self.build(0)
        before = fresh.state_dict()
        self.fill(used, 0, 2 * self.capacity)
        require(same(before, fresh.state_dict()), "offering samples to one memory changed another one")

    def same_seed(self) -> None:
        one, other = self.build(5), self.build(5)
        drawn, again = (self.use(memory, 0, 3 * self.capacity) for memory in (one, other))
        require(same(one.state_dict(), other.state_dict()), "the same seed gave another memory")
        require(drawn == again, "the same seed gave other draws")

    def global_randomness(self) -> None:
        with global_randomness_untouched():
            memory = self.used(0)
            self.build(1).load_state_dict(memory.state_dict())
            if isinstance(memory, Forgetful):
                memory.keep(np.arange(len(memory) // 2))
                memory.shrink(self.capacity - 1, generator(0, "testing/shrink"))

    def restored(self) -> None:
        for memory, offered in self.stages_and_forgetting():
            require(
                same(self.handed_over(memory).state_dict(), memory.state_dict()),
                f"after {offered} samples, the restored state is another one than the saved one",
            )

    def resumed(self) -> None:
        for memory, offered in self.stages_and_forgetting():
            other = self.handed_over(memory)
            drawn, again = (self.use(each, offered, offered + 3 * self.capacity) for each in (memory, other))
            when = f"saved after {offered} samples and restored, it"
            require(same(memory.state_dict(), other.state_dict()), f"{when} went on otherwise")
            require(drawn == again, f"{when} drew other samples")

    def state(self) -> None:
        memory = self.used(0)
        state = memory.state_dict()
        before = copy.deepcopy(state)
        other = self.handed_over(memory)
        other.load_state_dict(state)
        for each in (memory, other):
            self.use(each, 3 * self.capacity, 6 * self.capacity)
            require(same(before, state), "a memory that went on changed a state that was saved before")

    # Clauses of a memory that draws.

    def draws(self) -> None:
        for memory, _ in self.stages_and_forgetting():
            held = self.held(memory)
            for n in (1, 2, self.capacity, self.capacity + 3) if held else ():
                drawn = self.pool.numbers(draw(memory, n))
                expected = min(n, len(held))
                require(len(drawn) == expected, f"a draw of {n} from {len(held)} gave {len(drawn)} samples")
                require(len(set(drawn)) == len(drawn), f"a draw of {n} from {len(held)} gave a sample twice")
                require(set(drawn) <= set(held), "a draw gave a sample that the memory does not hold")
            require(held == self.held(memory), "a draw changed what the memory holds")

    def draw_copies(self) -> None:
        memory = self.filled(0, 2 * self.capacity)
        drawn = draw(memory, self.capacity)
        before = memory.state_dict()
        overwrite(drawn)
        require(same(before, memory.state_dict()), "writing to drawn samples changed the memory")

    def draw_uniform(self) -> None:
        for offered in (self.capacity - 1, 3 * self.capacity):
            memory = self.filled(0, offered)
            held = self.held(memory)
            n = max(1, len(held) // 3)
            drawn = (self.pool.numbers(draw(memory, n)) for _ in range(TRIALS))
            counts = self.counts(drawn)[held]
            require(_even(counts), f"{TRIALS} draws of {n} gave the {len(held)} samples {counts.tolist()} times")

    def draw_generator(self) -> None:
        memory = self.filled(0, 2 * self.capacity)
        before = memory.state_dict()
        one, other = (self.pool.numbers(draw(memory, 2, generator(0, "testing/draw"))) for _ in range(2))
        require(same(before, memory.state_dict()), "a draw with a given generator changed the memory")
        require(one == other, "two draws with generators of the same seed gave other samples")

    # Clauses of a memory that decides first and writes later.

    def ahead(self) -> None:
        for offered in (0, self.capacity, 3 * self.capacity):
            one, ahead = self.filled(0, offered), self.filled(0, offered)
            sizes = (1, 3, self.capacity + 2, 2, 4)
            ends = offered + np.cumsum(sizes)
            batches = [self.pool.take(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
            ahead.prepare(sizes)
            places = [_placeable(ahead).place(size) for size in sizes]
            for batch, place in zip(batches, places, strict=True):
                self.offer(one, batch)
                _placeable(ahead).put(place, batch)
            require(
                same(one.state_dict(), ahead.state_dict()),
                f"after {offered} samples, batches of {sizes} placed ahead gave another memory than one by one",
            )

    # What a memory keeps.

    def rule(self) -> None:
        assert self.keeps is not None
        broken = self._breaks(self.keeps)
        require(not broken, broken)

    def rule_after_keep(self) -> None:
        self._require_rule_after(_forget_odd_numbers)

    def rule_after_shrink(self) -> None:
        self._require_rule_after(_shrink)

    def _require_rule_after(self, change: Change) -> None:
        for rule in self._rules:
            broken = self._breaks(rule, change)
            require(not broken, broken)

    @cached_property
    def _rules(self) -> list[Rule]:
        """The rule that the memory promises; without a promise, those that it keeps."""
        rules: list[Rule] = ["newest", "uniform"]
        return [rule for rule in rules if not self._breaks(rule)] if self.keeps is None else [self.keeps]

    def _breaks(self, rule: Rule, change: Change | None = None) -> str:
        """What shows that the memory does not keep samples by the rule, after a change; empty if nothing does."""
        return self._breaks_newest(change) if rule == "newest" else self._breaks_uniform(change)

    def _breaks_newest(self, change: Change | None) -> str:
        for seed in range(10):
            rng, memory, offered = generator(seed, "testing/newest"), self.build(seed), 0
            expected: list[int] = []
            while offered < 5 * self.capacity:
                size = int(rng.integers(1, self.capacity + 2))
                self.offer(memory, self.pool.take(range(offered, offered + size)))
                expected = [*expected, *range(offered, offered + size)][-memory.capacity :]
                offered += size
                held = sorted(self.held(memory))
                if held != expected:
                    return f"it holds the samples {held} where the newest of what was left are {expected}"
                if change is not None and rng.random() < 0.5:
                    change(_forgetful(memory), self.held(memory), rng)
                    expected = sorted(self.held(memory))
        return ""

    def _breaks_uniform(self, change: Change | None) -> str:
        """Count what is held soon after the memory is full, where most depends on the exact rule, and much later."""
        soon, late = self.capacity + 2, 4 * self.capacity
        counts = {soon: self.counts([]), late: self.counts([])}
        forgotten: set[int] = set()
        for seed in range(TRIALS):
            memory, offered = self.filled(seed, self.capacity + 1), self.capacity + 1
            if change is not None:
                rng = generator(seed, "testing/uniform")
                forgotten |= change(_forgetful(memory), self.held(memory), rng)
            for end, count in counts.items():
                self.fill(memory, offered, end)
                offered = end
                count[self.held(memory)] += 1
        for n, count in counts.items():
            of_interest = count[[number for number in range(n) if number not in forgotten]]
            if not _even(of_interest):
                what = f", {len(forgotten)} of them taken out," if forgotten else ""
                return f"of {n} samples{what} {TRIALS} memories held each {of_interest.tolist()} times"
        return ""

    # Clauses of a memory that forgets.

    def forgets(self) -> None:
        for seed, offered in itertools.product(range(3), (self.capacity // 2, self.capacity, 3 * self.capacity)):
            for keep in (0.0, 0.5, 1.0):
                memory = self.filled(seed, offered)
                before = self.held(memory)
                positions = np.flatnonzero(generator(seed, "testing/keep").random(len(before)) < keep)
                _forgetful(memory).keep(positions)
                expected = [before[position] for position in positions]
                require(self.held(memory) == expected, f"`keep` left {self.held(memory)}, expected {expected}")
                self.use(memory, offered, offered + 3 * self.capacity)
                back = set(self.held(memory)) & (set(before) - set(expected))
                require(not back, f"the forgotten samples {sorted(back)} came back")

    def nothing_left(self) -> None:
        for seed, shrinking in itertools.product(range(3), (False, True)):
            memory = self.filled(seed, 3 * self.capacity)
            before = self.held(memory)
            if shrinking:
                _forgetful(memory).shrink(self.capacity // 2, generator(seed, "testing/shrink"))
            else:
                _forgetful(memory).keep(np.arange(0, len(before), 2))
            everything = list(stored_bytes(memory))
            for number in set(before) - set(self.held(memory)):
                left = any(self.pool.bytes_of[number] in part for part in everything)
                require(not left, f"a sample taken out by {'shrink' if shrinking else 'keep'} is still in memory")

    def shrinks(self) -> None:
        fewer = self.capacity // 2
        for offered in (fewer, 3 * self.capacity):
            memory, other = self.filled(0, offered), self.filled(0, offered)
            before = self.held(memory)
            for each in (memory, other):
                _forgetful(each).shrink(fewer, generator(0, "testing/shrink"))
            after = self.held(memory)
            require(after == self.held(other), "`shrink` with generators of the same seed kept other samples")
            require(set(after) <= set(before), "after `shrink` the memory holds other samples")
            expected = min(fewer, len(before))
            require(len(after) == expected, f"`shrink` to {fewer} slots left {len(after)} of {len(before)} samples")
            self.use(memory, offered, offered + 3 * self.capacity)
            require(len(memory) <= memory.capacity == fewer, self.count(memory, offered + 3 * self.capacity))

    def shrinks_uniform(self) -> None:
        full = self.filled(0, 3 * self.capacity)

        def kept(seed: int) -> list[int]:
            memory = self.handed_over(full)
            _forgetful(memory).shrink(self.capacity // 2, generator(seed, "testing/shrink"))
            return self.held(memory)

        counts = self.counts(map(kept, range(TRIALS)))[self.held(full)]
        require(_even(counts), f"{TRIALS} memories that shrank kept each sample {counts.tolist()} times")


def _forgetful(memory: Memory) -> Forgetful:
    assert isinstance(memory, Forgetful)
    return memory


def _placeable(memory: Memory) -> Placeable:
    assert isinstance(memory, Placeable)
    return memory


def _forget_odd_numbers(memory: Forgetful, held: list[int], rng: np.random.Generator) -> set[int]:
    kept = [position for position, number in enumerate(held) if number % 2 == 0]
    memory.keep(np.asarray(kept, dtype=np.int64))
    return {number for number in held if number % 2}


def _shrink(memory: Forgetful, held: list[int], rng: np.random.Generator) -> set[int]:
    memory.shrink(max(1, memory.capacity // 2), rng)
    return set()


def _even(counts: Counts) -> bool:
    """Whether equal probabilities can explain how often each of N samples was found in all trials.

    With probability p each of T trials the statistic sum (count - T p)^2 / (T p (1 - p)) * (N - 1) / N has a
    chi-squared distribution with N - 1 degrees of freedom.
    """
    p = float(counts.mean()) / TRIALS
    if p in (0, 1):
        return p == 1
    deviations = (counts - TRIALS * p) ** 2 / (TRIALS * p * (1 - p))
    degrees = len(counts) - 1
    return bool(chi2.sf(deviations.mean() * degrees, degrees) > UNLIKELY)
