"""Strict JSON and the dataclasses it stands for: what evolves is read, what is damaged is named."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from synergy.disk import strict_json
from synergy.errors import UsageError


@dataclass(frozen=True)
class Inner:
    """A part that got fields later."""

    size: int
    names: tuple[str, ...] = ("a",)


@dataclass(frozen=True)
class Outer:
    """A whole that got fields later."""

    inner: Inner
    notes: dict[str, float] = field(default_factory=dict)
    source: str | None = None


def test_a_field_with_a_default_may_be_missing() -> None:
    assert strict_json.decode(Outer, {"inner": {"size": 3}}, "") == Outer(Inner(3))
    whole = {"inner": {"size": 3, "names": []}, "notes": {"b": 1}, "source": "c"}
    assert strict_json.decode(Outer, whole, "") == Outer(Inner(3, ()), {"b": 1.0}, "c")


def test_two_that_miss_a_field_share_nothing() -> None:
    one, other = (strict_json.decode(Outer, {"inner": {"size": 3}}, "") for _ in range(2))
    one.notes["b"] = 1.0
    assert other.notes == {}


LARGE = [
    "1e400",
    "-1E+400",
    "[1e400]",
    '{"a": 1e400}',
    f"1{'0' * 400}.0",
    f"[{'1' * 150}.{'1' * 150}e300]",
    '{"sha256": "a3e1234", "loss":\n12.5e0999}',
]


@pytest.mark.parametrize("text", LARGE)
def test_a_number_too_large_for_a_float_is_refused_wherever_it_stands(text: str) -> None:
    with pytest.raises(UsageError, match="is not a finite number"):
        strict_json.parse(text.encode())


def test_a_number_beside_a_checksum_is_read() -> None:
    read = strict_json.parse(b'{"sha256": "a3e1234", "small": 1e-4000, "large": 1e+0300}')
    assert read == {"sha256": "a3e1234", "small": 0.0, "large": 1e300}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"^inner: this field is missing$"),
        ({"inner": {}}, r"^inner\.size: this field is missing$"),
        ({"inner": {"size": 3, "names": None}}, r"^inner\.names: given None"),
        ({"inner": {"size": 3}, "note": {}}, r"unknown field of a record 'note'; did you mean 'notes'"),
    ],
)
def test_a_field_without_one_and_a_strange_field_are_named(content: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        strict_json.decode(Outer, content, "")
