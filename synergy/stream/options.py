"""The options of a learner, beside those of its method, and the checks of what a user gives."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from synergy.errors import UsageError, unknown
from synergy.methods import METHODS, method_class
from synergy.methods.base import Method, MethodConfig
from synergy.options import Options, option

SQUARED = "mse"
LEARNING, ANSWERING, OFF = "learning", "answering", "off"


@dataclass(frozen=True)
class StreamOptions(Options):
    """Options of a learner."""

    loss: str = option(
        "cross-entropy", "the loss to minimise; mse for targets that are numbers", choices=("cross-entropy", SQUARED)
    )
    buffer_bytes: int | None = option(None, "size of the memory in bytes, in place of buffer_size", low=1)
    memory_on: str = option(
        "device", "where memory keeps samples: beside the network, or on the host", choices=("device", "host")
    )
    precision: str | None = option(
        None,
        "precision of convolutions and matrix products; by default tf32 on CUDA, fp32 elsewhere",
        choices=("fp32", "tf32", "bf16"),
    )
    memory_format: str | None = option(
        None,
        "memory layout of convolutions; by default channels_last on CUDA if the network can take it; contiguous leaves "
        "the network's own",
        choices=("contiguous", "channels_last"),
    )
    eager: bool = option(False, "compute every step anew; by default steps that repeat are replayed on CUDA")
    clip_norm: float | None = option(None, "bound on the norm of a step's gradient", low=0)
    prequential: str = option(
        LEARNING,
        "the network whose accuracy on each new batch `metrics` shows: the one that learns (free: its step has the "
        "outputs), the one that answers (one more forward pass), or none",
        choices=(LEARNING, ANSWERING, OFF),
    )
    head: str | None = option(None, "name of the linear layer that gives the logits; by default the last one")
    fisher_memory_mb: int | None = option(
        None,
        "bound on intermediate results of a Fisher pass, MiB; by default 16384 on CUDA, or less where less is free, "
        "and 1024 elsewhere",
        low=1,
    )
    seed: int = option(0, "seed of everything random", low=0)


def choose_method(method: str | type[Method[Any]]) -> tuple[str, type[Method[Any]]]:
    """Name and class of a method that learns from streams.

    Raises:
        UsageError: `method` is no method and no name of one, or it needs task boundaries.
    """
    if not isinstance(method, str) and not (isinstance(method, type) and issubclass(method, Method)):
        raise UsageError(f"method: given {reprlib.repr(method)}; allowed: a name such as 'er', or a class of Method")
    name, kind = (method, method_class(method)) if isinstance(method, str) else (_name(method), method)
    if kind.needs_boundaries:
        free = [each for each in METHODS if not method_class(each).needs_boundaries]
        raise UsageError(f"method: given {name}, which needs task boundaries; allowed: {', '.join(free)}")
    return name, kind


def _name(kind: type[Method[Any]]) -> str:
    of_tables = [name for name in METHODS if method_class(name) is kind]
    return of_tables[0] if of_tables else f"{kind.__module__}.{kind.__qualname__}"


def split_options(
    name: str, kind: type[Method[Any]], config: MethodConfig | None, given: Mapping[str, Any]
) -> tuple[MethodConfig, StreamOptions]:
    """Split options by name into those of the method and those of the learner.

    Raises:
        UsageError: a name is unknown, a value is not allowed, or an option is given twice.
    """
    own = {key: value for key, value in given.items() if key in StreamOptions.names()}
    of_method = {key: value for key, value in given.items() if key not in own}
    for key in of_method:
        if key not in kind.Config.names():
            raise unknown(f"option of {name}", key, kind.Config.names() | StreamOptions.names())
    if config is not None and of_method:
        raise UsageError(f"{min(of_method)}: given together with config; allowed: one of the two")
    if config is not None and type(config) is not kind.Config:
        raise UsageError(f"config: given a {type(config).__name__}; allowed for {name}: a {kind.Config.__name__}")
    options = StreamOptions(**own)
    if options.buffer_bytes is not None:
        if "buffer_size" not in kind.Config.names():
            raise UsageError(f"buffer_bytes: given for {name}; allowed for methods with a memory")
        if "buffer_size" in of_method or config is not None:
            raise UsageError("buffer_bytes: given together with buffer_size; allowed: one of the two")
    if options.loss == SQUARED and not kind.any_objective:
        able = [each for each in METHODS if method_class(each).any_objective]
        raise UsageError(f"loss: given {SQUARED} for {name}; allowed with {SQUARED}: {', '.join(able)}")
    return (kind.Config(**of_method) if config is None else config), options


def check_weights(
    weights: Mapping[Hashable, float] | None, name: str, kind: type[Method[Any]]
) -> dict[Hashable, float] | None:
    """The weights of classes as a dict. Raises UsageError for a method that cannot use them, or a wrong weight."""
    if weights is None:
        return None
    if not isinstance(weights, Mapping):
        raise UsageError(f"class_weights: given a {type(weights).__name__}; allowed: a mapping, {{label: weight}}")
    if not kind.any_objective:
        raise UsageError(f"class_weights: given for {name}, whose rule needs the plain cross-entropy; allowed: none")
    for label, weight in weights.items():
        if not (isinstance(weight, int | float) and math.isfinite(weight) and weight >= 0):
            raise UsageError(f"class_weights: given {weight!r} for {label!r}; allowed: finite numbers from 0 on")
    return dict(weights)


def check_callables(**given: object) -> None:
    """Raises UsageError if a value cannot be called."""
    for name, value in given.items():
        if value is not None and not callable(value):
            shown = " ".join(reprlib.repr(value).split())
            raise UsageError(f"{name}: given {shown}; allowed: {_CALLABLES[name]}")


_CALLABLES = {
    "transform": "a callable, samples -> what the network sees",
    "augment": "a callable, (samples, generator) -> samples",
    "optimizer": "a callable, parameters -> torch.optim.Optimizer",
    "scheduler": "a callable, optimizer -> schedule",
}


def known_method(name: object) -> str:
    """The name of a method of the library. Raises UsageError if no method has that name."""
    if not isinstance(name, str) or name not in METHODS:
        raise UsageError(
            f"method: the learner was saved with {reprlib.repr(name)}, which the library does not have; give the class "
            "or its name (method=...)"
        )
    return name


def check_given(was: Mapping[str, bool], now: Mapping[str, object]) -> None:
    """Compare the callables, which no file can hold: given at saving or not (`was`), and at loading (`now`).

    Raises:
        UsageError: one was given only then, or only now.
    """
    for name, given in now.items():
        if was[name] != (given is not None):
            what = "with" if was[name] else "without"
            fix = f"give {name}=... again" if was[name] else f"leave {name} out"
            raise UsageError(f"{name}: the learner was saved {what} one; {fix}")
