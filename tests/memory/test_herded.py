"""The memory of exemplars has equal shares, the best exemplars first, and gives filled slots only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from synergy.memory.herded import Herded
from synergy.memory.store import Samples
from synergy.randomness import generator
from synergy.state import same
from tests.memory.numbered import labelled, numbers_of


def memory(capacity: int) -> Herded:
    return Herded(capacity, generator(0, "draw"))


def exemplars(label: int, n: int, start: int = 0) -> Samples:
    """Exemplars of a class, numbered by class and rank."""
    return labelled(100 * label + start, [label] * n)


@given(
    capacity=st.integers(6, 30), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), at_once=st.integers(1, 3)
)
def test_every_class_keeps_its_first_ones_up_to_the_share(capacity: int, sizes: list[int], at_once: int) -> None:
    kept = memory(capacity)
    held = dict[int, int]()
    for first in range(0, len(sizes), at_once):
        new = range(first, min(first + at_once, len(sizes)))
        share = kept.share(new)
        kept.refill({label: exemplars(label, sizes[label]) for label in new})
        assert share == capacity // len(kept.classes)
        held |= {label: sizes[label] for label in new}
        held = {label: min(size, share) for label, size in held.items()}
        assert len(kept) == sum(held.values()) <= capacity
        for label, size in held.items():
            assert numbers_of(kept.of(label)) == list(range(100 * label, 100 * label + size))
            assert kept.of(label).labels.tolist() == [label] * size
        assert sorted(numbers_of(kept.draw(capacity + 1))) == sorted(numbers_of(kept.all()))


def test_a_class_that_comes_again_has_its_exemplars_replaced() -> None:
    kept = memory(6)
    kept.refill({0: exemplars(0, 3), 1: exemplars(1, 3)})
    kept.refill({0: exemplars(0, 3, start=50)})
    assert numbers_of(kept.of(0)) == [50, 51, 52] and numbers_of(kept.of(1)) == [100, 101, 102]


def test_goes_on_where_it_was_saved() -> None:
    one, other = memory(7), memory(7)
    one.refill({0: exemplars(0, 9), 1: exemplars(1, 2)})
    one.draw(2)
    other.load_state_dict(one.state_dict())
    assert same(one.state_dict(), other.state_dict())
    assert numbers_of(one.draw(3)) == numbers_of(other.draw(3))
    other.refill({2: exemplars(2, 5)})
    assert [len(other.of(label)) for label in range(3)] == [2, 2, 2] and len(one) == 5, "the two share storage"
