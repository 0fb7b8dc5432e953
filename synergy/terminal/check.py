"""`synergy check`: the contract checks of a method, scenario, memory or network, one by one, each with its reason."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from synergy.errors import UsageError, counted, unknown
from synergy.methods import METHOD_CLASSES
from synergy.nets import NET_CLASSES
from synergy.registry import FORMS, Registry
from synergy.scenarios import SCENARIO_CLASSES
from synergy.terminal.output import say
from synergy.terminal.parser import Parser

if TYPE_CHECKING:
    from synergy.testing import Check

FAILED_EXIT = 1
SLOTS, SAMPLES, CLASSES = 6, 4, 5
"""Slots of a memory, samples and classes for a network that is checked."""
ANY: Registry[object] = Registry("class", {}, "builtins:object", "synergy.options:Options", "synergy.checked")


def check(arguments: list[str]) -> int:
    """`synergy check`: try the contract of a class. Returns 0 if all of it holds, 1 if something breaks."""
    parser = Parser("synergy check", description=f"{__doc__}", allow_abbrev=False)
    parser.add_argument("name", metavar="NAME", help=f"a name of ours, or {FORMS}")
    parser.add_argument("options", metavar="OPTION=VALUE", nargs="*", help="options of the class, or its arguments")
    parser.add_argument("--shape", default="3,16,16", help="of a sample, for a network (default 3,16,16)")
    given = parser.parse_strictly(arguments)
    shape = _parsed("--shape", f"[{given.shape}]")
    if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        raise UsageError(f"--shape: given '{given.shape}'; allowed: whole numbers above 0, such as 3,16,16")
    what, checks = _checks(given.name, _options(given.options), tuple(shape))
    say(f"{given.name} is a {what}")
    findings = [_finding(each) for each in checks]
    broken = sum(finding is not None for finding in findings)
    for each, finding in zip(checks, findings, strict=True):
        say(f"  {'holds ' if finding is None else 'BREAKS'}  {each.name}: {each.reason}")
        if finding is not None:
            say(f"          {finding}")
    say(f"{len(checks) - broken} of {counted(len(checks), 'check')} hold")
    return FAILED_EXIT if broken else 0


def _options(given: Sequence[str]) -> dict[str, Any]:
    pairs = [text.partition("=") for text in given]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise UsageError(f"given '{wrong[0]}'; allowed: OPTION=VALUE, such as buffer_size=50")
    return {name: _parsed(name, value) for name, _, value in pairs}


def _parsed(name: str, text: str) -> Any:
    """A number, a truth value or a list as JSON writes it; any other text is a text."""
    try:
        return json.loads(text)
    except ValueError as error:
        if name == "--shape":
            raise UsageError(f"--shape: given '{text[1:-1]}'; allowed: numbers with commas, such as 3,16,16") from error
        return text


def _checks(name: str, options: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[str, Sequence[Check]]:
    """What a class is, and its checks."""
    registries: tuple[Registry[Any], ...] = (METHOD_CLASSES, SCENARIO_CLASSES, NET_CLASSES)
    prefix = name.partition(":")[0]
    own = next((each for each in registries if name in each.names() or prefix in each.families), None)
    if own is None and ":" not in name:
        names = [each for registry in registries for each in registry.names()]
        raise UsageError(f"{unknown('name', name, names)}, or {FORMS}")
    from torch import nn

    from synergy import testing
    from synergy.memory.base import Memory
    from synergy.methods.base import Method
    from synergy.scenarios.base import Scenario
    from synergy.testing.memories import offer_in_order

    kind: type[Any] = (own or ANY).load(name)
    if issubclass(kind, Method):
        small = {
            name: value for name, value in (("buffer_size", 50), ("minibatch_size", 8)) if name in kind.Config.names()
        }
        config = kind.Config.from_mapping({**small, **options}, name)
        return "method", testing.method_checks(kind, config, _stream(kind))
    if issubclass(kind, Scenario):
        return "scenario", testing.scenario_checks(lambda seed: testing.scenario(name, seed=seed, options=options))
    if issubclass(kind, Memory):
        offer = offer_in_order if "offer" in dir(kind) else _placed
        return "memory", testing.memory_checks(_memory(name, kind, options), offer=offer)
    if issubclass(kind, nn.Module):
        return "network", _net_checks(name, kind, options, shape)
    raise UsageError(
        f"{name}: it is none of the classes with a contract; derive it from Method, Scenario, Memory or Module"
    )


def _stream(kind: type[Any]) -> Any:
    """A stream that a method can learn from."""
    from synergy import testing

    name = "seq-digits" if kind.protocols & {"class-IL", "task-IL"} else "rot-digits"
    return testing.scenario(name, batch_size=kind.only_batch_size or 8)


def _memory(name: str, kind: type[Any], options: Mapping[str, Any]) -> Callable[[int], Any]:
    """Builds a memory from a seed: `capacity` and arguments that end with `rng` are given, all others are options."""
    from synergy.randomness import generator

    known = list(inspect.signature(kind).parameters.values())
    drawn = [each.name for each in known if each.name.endswith("rng")]
    rest = [each for each in known if each.name not in (*drawn, "capacity")]
    missing = [each.name for each in rest if each.default is inspect.Parameter.empty and each.name not in options]
    if missing:
        raise UsageError(f"{name}: needs {missing[0]}; give it as {missing[0]}=VALUE")
    for option in options:
        if option not in {each.name for each in rest}:
            raise unknown(f"argument of {name}", option, [each.name for each in rest])
    fixed = {"capacity": SLOTS} if any(each.name == "capacity" for each in known) else {}
    return lambda seed: kind(**fixed, **options, **{each: generator(seed, f"check/{each}") for each in drawn})


def _placed(memory: Any, samples: Any) -> None:
    """Offer samples to a memory that says where they go, as a method does in its step."""
    memory.store.put(memory.place(len(samples)), samples)


def _net_checks(name: str, kind: type[Any], options: Mapping[str, Any], shape: tuple[int, ...]) -> Sequence[Check]:
    import torch

    from synergy import testing
    from synergy.nets.base import NetConfig, build
    from synergy.randomness import torch_generator

    config = NET_CLASSES.config_of(name, kind).from_mapping(options, name)
    assert isinstance(config, NetConfig), "every network's options are"
    inputs = torch.rand(SAMPLES, *shape, generator=torch_generator(0, "check/inputs"))
    return testing.net_checks(lambda generator: build(kind, config, shape, CLASSES, generator), inputs, CLASSES)


def _finding(check: Check) -> str | None:
    """What breaks a clause, in one line; None if it holds."""
    from synergy.nets.base import NETWORK_ERRORS

    try:
        check.run()
    except AssertionError as error:
        return " ".join(str(error).split()) or "an assertion in it fails"
    except (*NETWORK_ERRORS, ArithmeticError, OSError) as error:
        return f"raises {type(error).__name__}: {' '.join(str(error).split())}"
    return None
