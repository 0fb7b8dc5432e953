"""The groups of options that a run has: those of its scenario, method and network, and those of every run."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synergy.errors import UsageError, unknown
from synergy.methods import METHOD_CLASSES
from synergy.nets import BACKBONES, NET_CLASSES
from synergy.options import Options, option
from synergy.registry import Registry, file_of, label
from synergy.runs.trackers import TRACKER_CLASSES, TRACKERS
from synergy.scenarios import SCENARIO_CLASSES

_RUN_ID = re.compile(r"(?!.*\.jsonl$)[^\W_][\w.-]*")
"""Names a folder beside `results.jsonl`, and no folder elsewhere."""
LONGEST_RUN_ID = 200
"""Bytes. File systems allow 255; a number may come at the end."""
RESERVED = frozenset(
    ("name", "file", "dataset", "model", "net", "config", "help", "load_best_args", "nearest_best_args")
)
"""Names that no option can have: flags of `synergy run`, and keys of `config.toml`."""


BY_DEVICE = ("precision", "memory_format", "fisher_memory_mb")
"""Training options whose usual value depends on the device: it is filled in when a run is prepared."""
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
"""Optimisers of torch that are made of parameters and the option `lr`."""


@dataclass(frozen=True)
class TrainingConfig(Options):
    """Options of the training run.

    Examples:
        >>> TrainingConfig(seed=3).as_mapping()["memory_on"]
        'device'
    """

    n_epochs: int | None = option(None, "passes over each task; by default the scenario's own number", low=1)
    batch_size: int | None = option(None, "samples of a stream batch; by default the scenario's own number", low=1)
    seed: int = option(0, "seed of everything random", low=0)
    data_dir: str | None = option(None, "folder of the data sets; by default SYNERGY_DATA, and if unset the hub")
    features: str | None = option(
        None, "learn on features of a frozen backbone: hf:NAME, timm:NAME, or a file of features; nothing is augmented"
    )
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda", "mps"))
    precision: str | None = option(
        None,
        "precision of convolutions and matrix products; by default tf32 on CUDA, fp32 elsewhere",
        choices=("fp32", "tf32", "bf16"),
    )
    memory_format: str | None = option(
        None,
        "memory layout of convolutions; by default channels_last on CUDA if the network can take it, else contiguous",
        choices=("contiguous", "channels_last"),
    )
    validation: bool = option(False, "hold out 10 % of the training set and evaluate on it instead of the test set")
    optimizer: str = option("sgd", f"of every network: {', '.join(OPTIMIZERS)}, or a function as file.py:function")
    schedule: str | None = option(None, "learning rate schedule, a function as file.py:function, one step a batch")
    clip_norm: float | None = option(None, "bound on the norm of a step's gradient", low=0)
    class_weights: tuple[float, ...] | None = option(None, "weight of each class in the loss, by label", low=0)
    memory_on: str = option("device", "where memories keep samples", choices=("device", "host"))
    eager: bool = option(False, "compute every step anew; by default steps that repeat are replayed on CUDA")
    max_steps_per_task: int | None = option(None, "stop every task after this many steps (a partial run)", low=1)
    max_tasks: int | None = option(None, "stop after this many tasks (a partial run)", low=1)
    fisher_memory_mb: int | None = option(
        None,
        "bound on intermediate results of a Fisher pass, MiB; by default 16384 on CUDA, or less where less is free, "
        "and 1024 elsewhere",
        low=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer not in OPTIMIZERS and ":" not in self.optimizer:
            raise unknown("optimizer", self.optimizer, [*OPTIMIZERS, "file.py:function"])
        if self.features is not None:
            object.__setattr__(self, "features", _found_from_anywhere(self.features))
        for name in ("optimizer", "schedule"):
            value = vars(self)[name]
            if value is not None and (file := file_of(value)) is not None:
                # So that the run can be resumed from another folder.
                object.__setattr__(self, name, f"{file}:{label(value)}")


def _found_from_anywhere(features: str) -> str:
    """The name of a backbone or of a file of features, with the folder or file by its absolute path."""
    family, colon, rest = features.partition(":")
    if colon and family not in BACKBONES and not Path(features).exists():
        raise unknown("kind of features", f"{family}:", [f"{known}:" for known in BACKBONES])
    if family not in BACKBONES:
        return str(Path(features).resolve())
    name, at, file = rest.partition("@")
    if family == "timm" and at:
        return f"{family}:{name}@{Path(file).resolve()}"
    return f"{family}:{Path(rest).resolve()}" if Path(rest).is_dir() else features


@dataclass(frozen=True)
class OutputConfig(Options):
    """Options of what a run writes, and where.

    Examples:
        >>> OutputConfig(experiment_id="a/b")
        Traceback (most recent call last):
        synergy.errors.UsageError: experiment_id: given 'a/b'; allowed: up to 200 bytes of letters, digits, '.', '_' \
and '-', a letter or digit first, without .jsonl at the end
    """

    output_dir: str = option("runs", "folder of all runs")
    experiment_id: str | None = option(
        None, "name of the run's folder, -2 is added if it exists; by default scenario, method, memory, flags and seed"
    )
    csv_log: bool = option(False, "also write the published code's CSV columns, a file for each predictor")
    log: tuple[str, ...] | None = option(
        None, f"also log to trackers: {', '.join(TRACKERS)}, or a class of yours as file.py:Class"
    )
    tensorboard: bool = option(False, "the same as --log tensorboard")
    checkpoint_every: int | None = option(None, "write a checkpoint after this many steps and after every task", low=1)
    keep: int = option(2, "checkpoints to keep, the newest", low=1)
    notes: str | None = option(None, "free text, kept in the record")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.output_dir:
            raise UsageError("output_dir: given ''; allowed: the name of a folder ('.' for this one)")
        for tracker in self.log or ():
            if ":" not in tracker and tracker not in (names := TRACKER_CLASSES.names()):
                raise unknown("tracker", tracker, [*names, "file.py:Class"])
        if self.log is not None:
            # So that the run can be resumed from another folder.
            places = [(file_of(tracker), tracker) for tracker in self.log]
            full = (name if file is None else f"{file}:{name.rpartition(':')[2]}" for file, name in places)
            object.__setattr__(self, "log", tuple(dict.fromkeys(full)))
        name = self.experiment_id
        if name is not None and not (_RUN_ID.fullmatch(name) and len(name.encode()) <= LONGEST_RUN_ID):
            raise UsageError(
                f"experiment_id: given {reprlib.repr(name)}; allowed: up to {LONGEST_RUN_ID} bytes of letters, digits, "
                "'.', '_' and '-', a letter or digit first, without .jsonl at the end"
            )

    def trackers(self) -> tuple[str, ...]:
        """The names of all trackers, `tensorboard` too if it was asked for by its own option."""
        return tuple(dict.fromkeys([*(self.log or ()), *["tensorboard"] * self.tensorboard]))


@dataclass(frozen=True)
class NamedGroup:
    """Options of a named class: a table of `config.toml`, an attribute of `RunConfig`, a heading of `--help`.

    Attributes:
        name: of the table and the attribute.
        flag: of `synergy run`, which names the class.
        registry: finds the class.

    Examples:
        >>> [(group.name, group.flag) for group in NAMED]
        [('scenario', 'dataset'), ('method', 'model'), ('net', 'net')]
    """

    name: str
    flag: str
    registry: Registry[Any]

    def options(self, name: str, file: str | None = None) -> type[Options]:
        """The options of the class called `name`. Raises UsageError as `Registry.load` and `Registry.config_of` do."""
        return self.registry.config_of(name, self.registry.load(name, file))


@dataclass(frozen=True)
class CommonGroup:
    """The options of every run: a table, an attribute and a heading too.

    Examples:
        >>> [group.name for group in GROUPS if isinstance(group, CommonGroup)]
        ['training', 'output']
    """

    name: str
    options: type[Options]


GROUPS: tuple[NamedGroup | CommonGroup, ...] = (
    NamedGroup("scenario", "dataset", SCENARIO_CLASSES),
    NamedGroup("method", "model", METHOD_CLASSES),
    NamedGroup("net", "net", NET_CLASSES),
    CommonGroup("training", TrainingConfig),
    CommonGroup("output", OutputConfig),
)
"""All groups of options. Configuration, command line, resume and CSV go through this list."""
NAMED = tuple(group for group in GROUPS if isinstance(group, NamedGroup))


def option_classes(names: Mapping[str, str], files: Mapping[str, str]) -> dict[str, type[Options]]:
    """The class of the options of each group, in the order of `GROUPS`. A named group without a name is left out.

    Args:
        names: of the classes, by group.
        files: absolute paths of their files, by group.

    Raises:
        UsageError: a class does not exist, or two groups have an option of one name.
    """
    configs: dict[str, type[Options]] = {}
    for group in GROUPS:
        if isinstance(group, CommonGroup):
            configs[group.name] = group.options
        elif group.name in names:
            configs[group.name] = group.options(names[group.name], files.get(group.name))
    owners: dict[str, str] = {}
    for table, config in configs.items():
        shown = f"{table} {names[table]}" if table in names else table
        for name in sorted(config.names()):
            if name in RESERVED:
                raise UsageError(f"{shown}: no option can be called '{name}'; rename it in {config.__name__}")
            if name in owners:
                raise UsageError(f"option '{name}': both {owners[name]} and {shown} have it; rename it in one of them")
            owners[name] = shown
    return configs
