"""The quick look at a batch like those before decides as the thorough one does, whatever comes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.stream.intake import Intake, as_samples

CPU = torch.device("cpu")
SHAPES = [(), (0,), (1,), (3,), (0, 2), (1, 2), (3, 2), (3, 1, 2), (2, 2, 1)]
STORED = [torch.float32, torch.uint8, torch.int64]
KINDS = [*STORED, torch.float64, torch.float16, torch.bool, torch.complex64]
FORMS: dict[str, Callable[[Tensor], object]] = {
    "as it is": lambda x: x,
    "with a gradient": lambda x: x.requires_grad_() if x.is_floating_point() else x,
    "a parameter": lambda x: nn.Parameter(x, requires_grad=False),
    "of inference": lambda x: inference_of(x),
    "every other": lambda x: torch.stack([x, x], -1)[..., 0],
    "sparse": lambda x: x.to_sparse(),
    "meta": lambda x: x.to("meta"),
    "nested": lambda x: torch.nested.as_nested_tensor([x, x], layout=torch.strided),
    "jagged": lambda x: torch.nested.as_nested_tensor([x, x], layout=torch.jagged) if x.dim() else x,
    "an array": lambda x: x.numpy(),
    "an array that is read only": lambda x: read_only(x),
    "lists": lambda x: x.tolist(),
}


def inference_of(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()


def read_only(x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    array = x.numpy().copy()
    array.flags.writeable = False
    return array


def thorough(given: object, first: Tensor) -> Tensor | str:
    """What must come of a batch after one like `first`: itself as stored, or what is wrong with it."""
    try:
        raw = as_samples(given, torch.float32, CPU)
    except UsageError as error:
        return str(error)
    alike = raw.shape[1:] == first.shape[1:] and raw.dtype == first.dtype
    return raw if alike else "other samples"


def check(first: Tensor, given: object) -> None:
    """The same comes of a batch as when it is looked at thoroughly, as the second one and as a later one."""
    intake = Intake(torch.float32, CPU)
    intake.fix(first)
    expected = thorough(given, first)
    comes_as_expected(intake, given, expected, first)
    intake(first)  # whose shape is the usual one from now on
    comes_as_expected(intake, given, expected, first)


def comes_as_expected(intake: Intake, given: object, expected: Tensor | str, first: Tensor) -> None:
    """`expected` as `thorough` says."""
    if isinstance(expected, str):
        with pytest.raises(UsageError) as caught:
            intake(given)
        assert str(caught.value) == expected or expected == "other samples"
    else:
        taken = intake(given)
        assert torch.equal(taken, expected) and taken.dtype == expected.dtype == first.dtype
        assert not taken.requires_grad and not taken.is_inference()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@given(
    st.sampled_from([shape for shape in SHAPES if shape and shape[0]]),
    st.sampled_from(STORED),
    st.sampled_from(SHAPES),
    st.sampled_from(KINDS),
    st.sampled_from(list(FORMS)),
    st.sampled_from([0.0, 1.0, float("nan"), float("inf"), float("-inf"), 3e38]),
)
def test_anything(
    before: tuple[int, ...], stored: torch.dtype, shape: tuple[int, ...], kind: torch.dtype, form: str, value: float
) -> None:
    values = torch.full(shape, value if kind.is_floating_point else 1.0).to(kind)
    check(torch.zeros(before, dtype=stored), FORMS[form](values))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_samples_like_those_before_in_any_form(form: str, stored: torch.dtype, shape: tuple[int, ...]) -> None:
    check(torch.zeros(shape, dtype=stored), FORMS[form](torch.ones(shape, dtype=stored)))


def test_a_batch_like_those_before_is_not_copied() -> None:
    intake, x = Intake(torch.float32, CPU), torch.rand(4, 3)
    intake.fix(x)
    assert intake(x) is x
    assert intake(x.numpy()).data_ptr() == x.data_ptr()


def test_what_is_wrong_is_named() -> None:
    intake = Intake(torch.float32, CPU)
    intake.fix(torch.rand(4, 3))
    with pytest.raises(UsageError, match=r"given shape \[3\] of torch.float32; allowed: \[B, 3\].*x\[None\]"):
        intake(torch.rand(3))
    with pytest.raises(UsageError, match="number 1 of the batch holds NaN or infinity"):
        intake(torch.tensor([[1.0, 2, 3], [1, float("nan"), 3]]))
    huge = torch.full((2, 3), 3e38)  # finite, though their sum is not
    assert intake(huge) is huge
