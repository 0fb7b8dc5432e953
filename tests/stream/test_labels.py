"""Labels in a tensor, which one look-up finds, mean what the same labels in a list mean."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synergy.errors import UsageError
from synergy.stream.labels import Labels

KNOWN = st.one_of(
    st.permutations(range(5)),  # looked up in one go
    st.lists(st.integers(-2, 6), unique=True, min_size=1, max_size=5),
    st.sampled_from([[False, True], [1.0, 0.0], ["0", "1"], [0, "1"], [1], [0]]),
)


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call gives, tensors as lists, or what it complains of."""
    try:
        found = call(*arguments)
    except UsageError as error:
        return str(error)
    return ("outputs", found.tolist(), found.dtype) if isinstance(found, torch.Tensor) else ("labels", found)


@given(KNOWN, st.lists(st.integers(-3, 7), min_size=1, max_size=6), st.booleans())
def test_a_tensor_is_as_good_as_a_list(known: list[Hashable], asked: list[int], fixed: bool) -> None:
    labels = Labels(known if fixed else None)
    if not fixed:
        labels.learn(known)
    expected = outcome(labels.outputs, asked, len(asked))
    for kind in (torch.int64, torch.int32):
        assert outcome(labels.outputs, torch.tensor(asked, dtype=kind), len(asked)) == expected
    assert outcome(labels.outputs, np.array(asked), len(asked)) == expected


@given(st.permutations(range(4)), st.integers(0, 4), st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_so_it_is_after_labels_are_learned_and_unlearned(known: list[int], kept: int, asked: list[int]) -> None:
    labels = Labels()
    for label in known:
        labels.learn([label])
    labels.cut(kept)
    tensor = torch.tensor(asked)
    assert outcome(labels.outputs, tensor, len(asked)) == outcome(labels.outputs, asked, len(asked))
    if set(asked) <= set(known[:kept]):
        found = labels.outputs(tensor, len(asked))
        assert isinstance(found, torch.Tensor)
        assert [labels.known[output] for output in found.tolist()] == asked


def test_what_was_found_is_not_the_users_own_tensor() -> None:
    given = torch.tensor([1, 0])
    found = Labels([0, 1]).outputs(given, 2)
    given.fill_(0)
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == [1, 0]


@pytest.mark.parametrize("given", [torch.tensor([[0, 1]]), torch.tensor(1), torch.tensor([0, 1, 1])])
def test_a_tensor_of_another_shape_is_refused(given: torch.Tensor) -> None:
    with pytest.raises(UsageError, match=r"labels: given "):
        Labels([0, 1]).outputs(given, 2)


@pytest.mark.parametrize("given", [torch.tensor([1, 0]).to_sparse(), torch.empty(2, dtype=torch.int64, device="meta")])
@pytest.mark.parametrize("known", [[0, 1], ["0", "1"]])
def test_a_tensor_that_holds_no_list_is_refused(given: torch.Tensor, known: list[Hashable]) -> None:
    with pytest.raises(UsageError, match=r"labels: given .*; allowed: a list, an array or a dense tensor"):
        Labels(known).outputs(given, 2)
