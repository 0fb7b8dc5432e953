"""Every public class shows how it is used, and what its example prints is true."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest
import torch

import synergy

MODULES = [each.name for each in pkgutil.walk_packages(synergy.__path__, "synergy.")]


def examples(module: ModuleType) -> list[doctest.DocTest]:
    """All docstrings of a module that have examples."""
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


def run(test: doctest.DocTest, seed: int) -> str:
    """What went wrong in the examples of a docstring; empty if nothing did."""
    torch.manual_seed(seed)
    complaints: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=complaints.append, clear_globs=False)
    return "".join(complaints)


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_show(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with other initial weights, where torch draws those of a user's network from its global generator."""
    monkeypatch.chdir(tmp_path)
    for test in examples(importlib.import_module(name)):
        assert "manual_seed(" not in (test.docstring or "").replace("Generator().manual_seed(", ""), test.name
        assert not any(doctest.SKIP in example.options for example in test.examples), f"{test.name} skips an example"
        names = dict(test.globs)
        for seed in (1, 2):
            test.globs = dict(names)
            complaint = run(test, seed)
            assert not complaint, complaint
            if torch.equal(torch.get_rng_state(), torch.Generator().manual_seed(seed).get_state()):
                break


def public_classes() -> Iterator[type]:
    """The classes of the package that somebody works with: no errors, protocols, abstract classes or mere fields."""
    for name in MODULES:
        for kind in vars(importlib.import_module(name)).values():
            if not inspect.isclass(kind) or kind.__module__ != name or "._" in f"{name}.{kind.__name__}":
                continue
            if not (issubclass(kind, BaseException) or Protocol in kind.__bases__ or inspect.isabstract(kind)):
                yield from () if has_fields_only(kind) else (kind,)


def has_fields_only(kind: type) -> bool:
    """Whether a class is a dataclass without a method: the examples of what makes it or takes it show it."""
    methods = [name for name, value in vars(kind).items() if inspect.isfunction(value) and not name.startswith("_")]
    return dataclasses.is_dataclass(kind) and not methods


def has_example(kind: type) -> bool:
    return "Examples:" in (kind.__doc__ or "") and ">>> " in (kind.__doc__ or "")


def test_every_public_class_has_an_example() -> None:
    missing = [f"{kind.__module__}.{kind.__qualname__}" for kind in public_classes() if not has_example(kind)]
    assert missing == [], "write an Examples block"
