"""All batches of a stream are brought into the form of the first one, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from synergy import Learner, UsageError
from synergy.stream.intake import Intake

CPU = torch.device("cpu")
FORMS: dict[str, Callable[[Tensor], object]] = {
    "as it is": lambda x: x,
    "with a gradient": lambda x: x.requires_grad_() if x.is_floating_point() else x,
    "a parameter": lambda x: nn.Parameter(x, requires_grad=False),
    "of inference": lambda x: inference_of(x),
    "every other": lambda x: torch.stack([x, x], -1)[..., 0],
    "an array": lambda x: x.numpy(),
    "an array that is read only": lambda x: read_only(x),
    "an array of the other byte order": lambda x: x.numpy().astype(x.numpy().dtype.newbyteorder(">")),
    "lists": lambda x: x.tolist(),
    "a data frame": lambda x: pd.DataFrame(x.numpy()),
}


def inference_of(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()


def read_only(x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    array = x.numpy().copy()
    array.flags.writeable = False
    return array


def after(first: Tensor) -> Intake:
    intake = Intake(torch.float32, CPU)
    intake.fix(intake(first))
    return intake


@given(
    st.sampled_from([torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.bool]),
    st.sampled_from(list(FORMS)),
    st.sampled_from([(1, 2), (3, 2), (3, 5)]),
)
def test_any_form_and_any_numbers_after_floats(kind: torch.dtype, form: str, shape: tuple[int, int]) -> None:
    values = torch.randint(0, 2, shape).to(kind)
    taken = after(torch.rand(2, shape[1]))(FORMS[form](values.clone()))
    assert taken.dtype == torch.float32 and torch.equal(taken, values.float())
    assert not taken.requires_grad and not taken.is_inference()


@pytest.mark.parametrize("stored", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("given_as", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_whole_numbers_of_another_type_are_converted_if_they_fit(stored: torch.dtype, given_as: torch.dtype) -> None:
    intake = after(torch.zeros(1, 2, dtype=stored))
    values = torch.tensor([[0, 255], [7, 120]]).to(given_as)
    if stored == given_as:
        assert intake(values) is values
    assert torch.equal(intake(values), values.to(stored))
    if stored == torch.uint8 and given_as != torch.uint8:
        with pytest.raises(UsageError, match="given numbers that uint8, the type of the first batch, cannot hold"):
            intake(values - 1)


def test_types_that_cannot_be_converted_are_refused() -> None:
    with pytest.raises(UsageError, match=r"given uint8; allowed: float32, as in the first batch \(x / 255 for pixels"):
        after(torch.rand(1, 2))(torch.ones(1, 2, dtype=torch.uint8))
    with pytest.raises(UsageError, match="given float32; allowed: int64, as in the first batch"):
        after(torch.ones(1, 2, dtype=torch.int64))(torch.ones(1, 2))


@pytest.mark.parametrize("form", ["sparse", "meta", "nested"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_tensor_without_an_element_everywhere_is_refused(form: str) -> None:
    x = torch.rand(2, 3)
    made = {
        "sparse": x.to_sparse(),
        "meta": x.to("meta"),
        "nested": torch.nested.as_nested_tensor([x, x], layout=torch.strided),
    }
    for intake in (Intake(torch.float32, CPU), after(x)):
        with pytest.raises(UsageError, match="given a sparse, nested or meta tensor"):
            intake(made[form])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_named(value: float) -> None:
    x = torch.zeros(3, 2)
    x[1, 1] = value
    for intake in (Intake(torch.float32, CPU), after(torch.rand(4, 2))):
        with pytest.raises(UsageError, match="number 1 of the batch holds NaN or infinity"):
            intake(x)


def test_numbers_whose_sum_is_too_large_are_finite_all_the_same() -> None:
    huge = torch.full((2, 3), 3e38)
    assert after(torch.rand(4, 3))(huge) is huge


def test_a_batch_in_the_right_form_is_not_copied() -> None:
    intake, x = after(torch.rand(4, 3)), torch.rand(4, 3)
    assert intake(x) is x
    assert intake(x.numpy()).data_ptr() == x.data_ptr()


def test_another_shape_is_named() -> None:
    with pytest.raises(UsageError, match=r"given shape \[3\]; allowed: \[B, 3\].*x\[None\]"):
        after(torch.rand(4, 3))(torch.rand(3))
    with pytest.raises(UsageError, match=r"given shape \[1, 4\]; allowed: \[B, 3\]"):
        after(torch.rand(4, 3))(torch.rand(1, 4))


# Columns


FRAMES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pandas": pd.DataFrame,
    "arrow": pa.table,
    "arrow in pandas": lambda columns: pd.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow").astype("float64"),
}
X = np.random.Generator(np.random.PCG64(0)).random((8, 3))
COLUMNS = dict(zip("abc", X.T, strict=True))


def turned(columns: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(columns.items()))


@pytest.mark.parametrize("library", FRAMES)
def test_columns_are_matched_by_name(library: str, tmp_path: Path) -> None:
    frame = FRAMES[library]
    one, other = (Learner(nn.Linear(3, 2), "er", seed=0) for _ in range(2))
    other = Learner(one._progress.recipe.template.net, "er", seed=0)
    for learner, second in ((one, COLUMNS), (other, turned(COLUMNS))):
        learner.observe(frame(COLUMNS), [0, 1] * 4)
        learner.observe(frame(second), [0, 1] * 4)
    one.save(tmp_path / "learner")
    loaded = Learner.load(tmp_path / "learner", nn.Linear(3, 2))
    expected = one.scores(X)
    for learner in (one, other, loaded):
        assert torch.equal(learner.scores(frame(turned(COLUMNS))), expected)
        assert learner.evaluate(frame(turned(COLUMNS)), [0, 1] * 4) == one.evaluate(X, [0, 1] * 4)


@pytest.mark.parametrize("library", ["pandas", "arrow"])
def test_other_columns_are_refused(library: str) -> None:
    frame = FRAMES[library]
    learner = Learner(nn.Linear(3, 2), "er")
    learner.observe(frame(COLUMNS), [0, 1] * 4)
    one = X[:, 0]
    for columns, message in (
        ({"a": one, "b": one, "d": one}, r"given the column 'd', which is not in the first batch; allowed: \['a', "),
        ({"a": one, "b": one}, "given no column 'c'; allowed"),
        (COLUMNS | {"d": one}, "given the column 'd', which is not"),
    ):
        for call in (learner.predict, lambda x: learner.observe(x, [0, 1] * 4)):
            with pytest.raises(UsageError, match=message):
                call(frame(columns))
    with pytest.raises(UsageError, match="given the column 'a', twice"):
        learner.predict(pd.DataFrame(np.ones((1, 4)), columns=["a", "b", "c", "a"]))


def test_frames_after_an_array_are_taken_by_position() -> None:
    learner = Learner(nn.Linear(3, 2), "er")
    learner.observe(X, [0, 1] * 4)
    assert torch.equal(learner.scores(pd.DataFrame(COLUMNS)), learner.scores(X))
