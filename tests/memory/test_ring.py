"""The memory in sections that overwrite their oldest samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.memory.ring import Ring
from synergy.randomness import generator
from synergy.state import same
from tests.memory.numbered import numbered, numbers_of

SECTIONS = st.lists(st.lists(st.integers(1, 9), max_size=4), min_size=1, max_size=4)
"""The sizes of the batches that are offered to each section."""


def ring(capacity: int, n_sections: int) -> Ring:
    return Ring(capacity, n_sections, generator(0, "draw"))


@given(sections=SECTIONS, slots=st.integers(1, 6), spare=st.integers(0, 3))
def test_holds_the_last_few_of_every_section(sections: list[list[int]], slots: int, spare: int) -> None:
    capacity = len(sections) * slots + min(spare, len(sections) - 1)
    memory, start, expected = ring(capacity, len(sections)), 0, set[int]()
    for number, sizes in enumerate(sections):
        if number:
            memory.next_section()
        first = start
        for size in sizes:
            memory.offer(numbered(start, size))
            start += size
            held = expected | set(range(max(first, start - slots), start))
            assert set(numbers_of(memory.all())) == held
            assert len(memory) == len(held) <= capacity
            drawn = numbers_of(memory.draw(capacity + 1))
            assert sorted(drawn) == sorted(held), "a sample is missing, was drawn twice, or was never offered"
        expected |= set(range(max(first, start - slots), start))


def test_the_oldest_is_overwritten_first() -> None:
    memory = ring(3, 1)
    memory.offer(numbered(0, 2))
    memory.offer(numbered(2, 2))
    assert numbers_of(memory.all()) == [3, 1, 2]
    memory.offer(numbered(4, 7))
    assert sorted(numbers_of(memory.all())) == [8, 9, 10]
    memory.offer(numbered(11, 1))
    assert sorted(numbers_of(memory.all())) == [9, 10, 11]


def test_draws_are_random_and_without_repetition() -> None:
    memory = ring(10, 2)
    memory.offer(numbered(0, 5))
    memory.next_section()
    memory.offer(numbered(5, 5))
    drawn = [numbers_of(memory.draw(4)) for _ in range(40)]
    assert all(len(set(numbers)) == 4 for numbers in drawn)
    assert {number for numbers in drawn for number in numbers} == set(range(10))


def test_goes_on_where_it_was_saved() -> None:
    one, other = ring(6, 2), ring(6, 2)
    one.offer(numbered(0, 4))
    one.next_section()
    one.offer(numbered(4, 4))
    other.load_state_dict(one.state_dict())
    for memory in (one, other):
        memory.offer(numbered(8, 1))
    assert same(one.state_dict(), other.state_dict())
    assert numbers_of(one.draw(3)) == numbers_of(other.draw(3))


def test_every_section_needs_a_slot() -> None:
    with pytest.raises(AssertionError, match="3 slots for 4 sections"):
        ring(3, 4)
