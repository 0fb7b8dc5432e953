"""Options: what a value may be, what is said about one that is not, and the way to files and back."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from synergy.errors import UsageError, unknown
from synergy.options import LARGEST_FLOAT, Limits, Options, option


@dataclass(frozen=True)
class Base(Options):
    """One of each kind."""

    count: int = option(3, "a whole number", low=1, high=10)
    rate: float = option(0.5, "a number", low=0)
    mode: str = option("fast", "a text", choices=("fast", "slow"))
    verbose: bool = option(False, "a flag")


@dataclass(frozen=True)
class More(Base):
    """With values that may be missing, a list, and another default."""

    count: int = option(4, "another default", low=1, high=10)
    limit: int | None = option(None, "may be missing", low=0)
    angles: tuple[float, ...] | None = option(None, "a list", low=-360, high=360)
    level: int = option(1, "one of some", choices=(1, 2))
    name: str | None = option(None, "any text")


def made(**values: Any) -> More:
    return More(**values)


def test_defaults_are_values_of_their_own_kind() -> None:
    assert made() == More(4, 0.5, "fast", False, None, None, 1, None)


def test_specs_say_what_the_command_line_needs() -> None:
    specs = {spec.name: spec for spec in More.specs()}
    assert list(specs) == [field.name for field in fields(More)]
    angles, count = specs["angles"], specs["count"]
    assert (angles.kind, angles.many, angles.optional, angles.default) == (float, True, True, None)
    assert (count.kind, count.many, count.optional, count.default) == (int, False, False, 4)
    assert (count.help, count.limits) == ("another default", Limits(1, 10))
    assert More.names() == set(specs)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("rate", 1, 1.0),
        ("count", 3.0, 3),
        ("angles", [1, 2.5], (1.0, 2.5)),
        ("angles", (), ()),
        ("count", np.int64(3), 3),
        ("rate", np.float32(0.5), 0.5),
        ("rate", np.float64(0.1), 0.1),
        ("rate", LARGEST_FLOAT, LARGEST_FLOAT),
        ("rate", 1e-46, 1e-46),
        ("limit", None, None),
        ("limit", 2**63 - 1, 2**63 - 1),
        ("name", "two\nlines, ümläut", "two\nlines, ümläut"),
    ],
)
def test_a_value_is_kept_in_the_kind_of_its_option(name: str, value: object, kept: object) -> None:
    held = vars(made(**{name: value}))[name]
    assert held == kept
    assert type(held) is type(kept)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("count", 0, "at least 1 and at most 10"),
        ("count", 11, "at least 1 and at most 10"),
        ("count", "3", "a value of type int"),
        ("count", 2.5, "a value of type int"),
        ("count", True, "a value of type int"),
        ("count", None, "a value of type int"),
        ("count", float("inf"), "a value of type int"),
        ("rate", -0.1, "at least 0"),
        ("rate", False, "a value of type float"),
        ("rate", float("nan"), "a finite number"),
        ("rate", float("inf"), "a finite number"),
        ("rate", 1e39, "a number of float32, up to 3.4e+38"),
        ("rate", -1e39, "a number of float32, up to 3.4e+38"),
        ("rate", 10**400, "a whole number below 2^63"),
        ("limit", 2**63, "a whole number below 2^63"),
        ("limit", 1e300, "a whole number below 2^63"),
        ("mode", "fats", "one of fast, slow"),
        ("mode", 1, "one of fast, slow"),
        ("level", 3, "one of 1, 2"),
        ("verbose", 1, "a value of type bool"),
        ("verbose", "yes", "a value of type bool"),
        ("angles", 30.0, "a list of float values"),
        ("angles", "30 40", "a list of float values"),
        ("angles", [30, "x"], "a value of type float"),
        ("angles", [361], "at least -360 and at most 360"),
        ("name", "\udcff", "text in UTF-8 without zero bytes"),
        ("name", "a\0b", "text in UTF-8 without zero bytes"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(name: str, value: object, allowed: str) -> None:
    with pytest.raises(UsageError) as complaint:
        made(**{name: value})
    message = str(complaint.value)
    assert message.startswith(f"{name}: given ")
    assert message.endswith(f"; allowed: {allowed}")
    assert len(message) < 200


def test_long_values_are_shortened_in_messages() -> None:
    with pytest.raises(UsageError) as complaint:
        made(mode="x" * 10_000)
    assert len(str(complaint.value)) < 200


def test_a_configuration_cannot_be_changed() -> None:
    config = made()
    with pytest.raises(AttributeError):
        config.count = 5  # type: ignore[misc]


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(
        UsageError, match=r"unknown option in \[method\] 'ratee'; did you mean 'rate'\? allowed: angles"
    ):
        More.from_mapping({"ratee": 1.0}, "[method]")


def test_what_nothing_is_near_to_is_refused_with_all_names() -> None:
    assert str(unknown("method", "qqqq", ["er", "der"])) == "unknown method 'qqqq'; allowed: der, er"


def test_a_mapping_holds_what_is_set_as_a_file_would_give_it_back() -> None:
    assert made(angles=(1, 2)).as_mapping() == {
        "count": 4,
        "rate": 0.5,
        "mode": "fast",
        "verbose": False,
        "angles": [1.0, 2.0],
        "level": 1,
    }


configurations = st.builds(
    More,
    count=st.integers(1, 10),
    rate=st.floats(0, LARGEST_FLOAT),
    mode=st.sampled_from(["fast", "slow"]),
    verbose=st.booleans(),
    limit=st.none() | st.integers(0, 2**63 - 1),
    angles=st.none() | st.lists(st.floats(-360, 360), max_size=4).map(tuple),
    name=st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)


@given(configurations)
def test_options_come_back_from_a_file_as_they_were(config: More) -> None:
    text = tomli_w.dumps(config.as_mapping())
    assert More.from_mapping(tomllib.loads(text), "a file") == config


def test_a_plain_field_is_an_option_without_help() -> None:
    @dataclass(frozen=True)
    class Plain(Options):
        rate: float = 0.5

    (spec,) = Plain.specs()
    assert (spec.name, spec.default, spec.help, spec.limits) == ("rate", 0.5, "", Limits())


def test_a_class_without_its_decorator_is_refused() -> None:
    class Bare(Base):
        other: float = option(0.5, "a number")

    with pytest.raises(UsageError, match=r"^Bare: its options need @dataclass\(frozen=True\) above the class$"):
        Bare()


def test_a_field_that_no_option_can_be() -> None:
    @dataclass(frozen=True)
    class Wrong(Options):
        rates: dict[str, float] | None = option(None, "a table")  # noqa: RUF009 - a field

    @dataclass(frozen=True)
    class Unset(Options):
        rate: float

    with pytest.raises(UsageError, match=r"^Wrong.rates: given the type dict.*; allowed for an option: int, float"):
        Wrong()
    with pytest.raises(UsageError, match=r"^Unset.rate: an option needs a default"):
        Unset(0.5)
