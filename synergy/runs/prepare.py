"""From a configuration to the parts of a run: data, scenario, networks, method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from synergy.data import sources
from synergy.data.view import AS_STORED
from synergy.device import (
    check_shortage,
    find_device,
    memory_errors,
    usual_fisher_memory,
    usual_layouts,
    usual_precision,
)
from synergy.engine.context import draws_in_training
from synergy.engine.optimizers import OptimizerMaker, optimizer_maker, schedules
from synergy.engine.worker import Means, Worker
from synergy.errors import UsageError
from synergy.methods.base import Budget, Method, Setting, make_method
from synergy.nets import NETS
from synergy.nets.base import NETWORK_ERRORS, Network, build
from synergy.nets.named import giving_logits
from synergy.ops.frozen import Frozen
from synergy.ops.modes import evaluating
from synergy.ops.objectives import CROSS_ENTROPY, Objective, weighted_cross_entropy
from synergy.ops.vectors import channels_last, gains_by_channels_last, trained
from synergy.randomness import TorchRandomness, torch_generator
from synergy.registry import fingerprint, label, load_function
from synergy.runs import csv_log, features
from synergy.runs.config import RunConfig
from synergy.runs.fitting import check_compatible, check_schedule
from synergy.runs.groups import OPTIMIZERS, TrainingConfig
from synergy.runs.trackers import TRACKER_CLASSES
from synergy.runs.training import Schedule
from synergy.scenarios.base import AnyScenario, StreamSetting


@dataclass(frozen=True)
class Prepared:
    """All the parts of a run, before its first step.

    Attributes:
        config: complete: options whose usual value depends on the device have the value that is used.

    Examples:
        >>> from synergy.runs.config import build
        >>> prepared = prepare(build("rot-digits", "er", {}))
        >>> prepared.n_parameters, prepared.source.train_samples
        (17610, 1437)
    """

    config: RunConfig
    scenario: AnyScenario
    worker: Worker
    source: sources.SourceInfo
    schedule: Schedule
    device: torch.device
    n_parameters: int
    code: Mapping[str, str]
    """The hash of each file of a name like `my.py:Class`, by its path as given."""

    @property
    def method(self) -> Method[Any]:
        """The method at work."""
        return self.worker.method


@memory_errors()
def prepare(config: RunConfig, passed: features.Told = lambda done, total: None) -> Prepared:
    """Load the data and build scenario, network and method. Nothing is written but caches of data.

    Args:
        config: of the run.
        passed: is told how many samples have passed the backbone of `--features`, and of how many.

    Options whose usual value depends on the device get it, unless they were given.

    Raises:
        UsageError: the data or the device are missing, method, scenario and network do not fit each other, or no task
            would be learned.
        TrainingError: the device has no room for the data.
    """
    check_compatible(config.method_name, config.method_class(), config.scenario_name, config.scenario_class())
    device = find_device(config.training.device)
    config = _completed(config, device)
    source = _data(config, device, passed)
    scenario = _scenario(config, source, device)
    check_compatible(config.method_name, config.method_class(), config.scenario_name, scenario)
    net, layout = _laid_out(partial(_network, config, scenario, "net"), _layouts(config, device), config, scenario)
    config = replace(config, training=replace(config.training, memory_format=layout))
    budget = _budget(config, scenario)
    schedule = Schedule(budget.n_epochs, budget.max_steps_per_task, budget.max_tasks)
    check_schedule(schedule, scenario)
    n_parameters = sum(p.numel() for p in net.parameters())
    method = make_method(config.method_class(), config.method, _setting(config, scenario, net), budget)
    worker = _worker(config, scenario, net, method)
    return Prepared(config, scenario, worker, source.info, schedule, device, n_parameters, _code(config))


def _completed(config: RunConfig, device: torch.device) -> RunConfig:
    """With the options whose usual value depends on the device.

    Raises:
        UsageError: the method has another batch size.
    """
    given, allowed = config.training.batch_size, config.method_class().only_batch_size
    if allowed not in (None, given):
        raise UsageError(f"batch_size: given {given}; allowed for {config.method_name}: {allowed}")
    training = replace(
        config.training,
        precision=config.training.precision or usual_precision(device),
        fisher_memory_mb=config.training.fisher_memory_mb or usual_fisher_memory(device),
    )
    return replace(config, training=training)


def _data(config: RunConfig, device: torch.device, passed: features.Told) -> sources.Source:
    """The data, or their features, after all that is written later has been checked."""
    training = config.training
    source = config.scenario_class().read_source(
        config.scenario, None if training.data_dir is None else Path(training.data_dir)
    )
    for name in config.output.trackers():
        TRACKER_CLASSES.load(name).check()
    if config.output.csv_log:
        names = label(config.scenario_name), label(config.method_name)
        csv_log.check(Path(config.output.output_dir), *names, partial=config.partial)
    if training.features is not None:
        source = _features_of(source, training.features, config, device, passed)
    return sources.hold_out(source, training.seed) if training.validation else source


def _features_of(
    source: sources.Source, name: str, config: RunConfig, device: torch.device, passed: features.Told
) -> sources.Source:
    """The data as a frozen backbone sees them, if the tasks of the scenario show them as they are."""
    on_data = config.scenario_class()(config.scenario, _stream_setting(config, source, torch.device("cpu")))
    features.check_scenario(on_data)
    return features.of(source, name, on_data.view, device, passed)


def _scenario(config: RunConfig, source: sources.Source, device: torch.device) -> AnyScenario:
    scenario = config.scenario_class()(config.scenario, _stream_setting(config, source, device))
    if config.training.features is not None:
        scenario.view = AS_STORED
    return scenario


def _stream_setting(config: RunConfig, source: sources.Source, device: torch.device) -> StreamSetting:
    assert config.training.batch_size is not None, "filled in from the scenario"
    return StreamSetting(source, config.training.seed, config.training.batch_size, device)


def _network(config: RunConfig, scenario: AnyScenario, name: str, layout: str) -> nn.Module:
    """A network of the run; one of another name has other weights."""
    generator = torch_generator(config.training.seed, f"net/{name}")
    net = build(config.net_class(), config.net, scenario.shape, scenario.n_classes, generator)
    net = net.to(scenario.setting.device)
    if config.net_name not in NETS and not isinstance(net, torch.jit.ScriptModule):
        giving_logits(net)
    return channels_last(net) if layout == "channels_last" else net


def _layouts(config: RunConfig, device: torch.device) -> Sequence[str]:
    """The layouts of images to try, in this order."""
    given = config.training.memory_format
    return usual_layouts(device) if given is None else (given,)


def _budget(config: RunConfig, scenario: AnyScenario) -> Budget:
    training = config.training
    assert training.n_epochs is not None and training.batch_size is not None, "filled in from the scenario"
    return Budget(
        n_tasks=scenario.n_tasks,
        n_epochs=training.n_epochs,
        batch_size=training.batch_size,
        max_tasks=training.max_tasks,
        max_steps_per_task=training.max_steps_per_task,
    )


def _setting(config: RunConfig, scenario: AnyScenario, net: nn.Module) -> Setting:
    """What the method is told of the run."""
    training = config.training
    assert training.fisher_memory_mb is not None and training.memory_format is not None, "filled in by the device"
    frozen = Frozen.of(net)
    return Setting(
        build_net=partial(_network, config, scenario, layout=training.memory_format),
        view=scenario.view,
        n_classes=scenario.n_classes,
        seed=training.seed,
        fisher_memory_mb=training.fisher_memory_mb,
        objective=_objective(config, scenario),
        make_optimizer=_optimizer_maker(training, config.method_name, config.method_class()),
        frozen=frozen if frozen.names else None,
    )


def _worker(config: RunConfig, scenario: AnyScenario, net: nn.Module, method: Method[Any]) -> Worker:
    """The method at work, after a look at whether the network draws random numbers in training."""
    training, device = config.training, scenario.setting.device
    assert training.precision is not None, "filled in by the device"
    means = Means(device, training.precision, training.seed, memory_on=training.memory_on, eager=training.eager)
    sample = scenario.task(0).take(torch.zeros(2, dtype=torch.int64, device=device))[0]
    draws = draws_in_training(net, scenario.view.plain(sample), TorchRandomness(training.seed, "network/trial", device))
    make_schedule = None if training.schedule is None else load_function("schedule", training.schedule)
    schedulers = schedules(method, make_schedule, config.method_name)
    return Worker(method, means, draws=draws, schedulers=schedulers)


def _code(config: RunConfig) -> dict[str, str]:
    """The hash of each file of a name like `my.py:Class`, by its path as given, and what the network names."""
    given = {group: vars(config)[f"{group}_name"].rpartition(":")[0] for group in config.files}
    hashes = {path: fingerprint(config.files[group]) for group, path in given.items() if path.endswith(".py")}
    net = config.net_class()
    return hashes | (net.versions(config.net) if issubclass(net, Network) else {})


def _objective(config: RunConfig, scenario: AnyScenario) -> Objective:
    """What the method minimises. Raises UsageError if it cannot weigh classes, or there are not enough weights."""
    weights, name, n_classes = config.training.class_weights, config.method_name, scenario.n_classes
    if weights is None:
        return CROSS_ENTROPY
    if not config.method_class().any_objective:
        raise UsageError(f"class_weights: given for {name}, whose rule needs the plain cross-entropy; allowed: none")
    if len(weights) != n_classes:
        raise UsageError(f"class_weights: given {len(weights)}; allowed: {n_classes}, one for each class")
    return weighted_cross_entropy(torch.tensor(weights, device=scenario.setting.device))


def _optimizer_maker(training: TrainingConfig, name: str, method: type[Method[Any]]) -> OptimizerMaker:
    """What makes the optimisers. Raises UsageError if the method's rule holds for plain SGD alone."""
    changed = training.optimizer != "sgd" or training.clip_norm is not None
    if changed and method.plain_sgd_only:
        raise UsageError(
            f"optimizer: given {training.optimizer} for {name}, whose rule holds for plain SGD alone; "
            "allowed: sgd without clip_norm"
        )
    if training.optimizer in OPTIMIZERS:
        return optimizer_maker(named=training.optimizer, clip_norm=training.clip_norm)
    return optimizer_maker(load_function("optimizer", training.optimizer), clip_norm=training.clip_norm)


def _laid_out(
    build_net: Callable[[str], nn.Module], layouts: Sequence[str], config: RunConfig, scenario: AnyScenario
) -> tuple[nn.Module, str]:
    """The network in the first of these layouts that it can take, and that layout. Errors as `_tried`, for the last."""
    for layout in layouts[:-1]:
        with suppress(UsageError):
            net = _tried(partial(build_net, layout), config.net_name, scenario)
            if gains_by_channels_last(net):
                return net, layout
    return _tried(partial(build_net, layouts[-1]), config.net_name, scenario), layouts[-1]


def _tried(build_net: Callable[[], nn.Module], name: str, scenario: AnyScenario) -> nn.Module:
    """The network, after a look at its answer to two samples.

    Raises:
        UsageError: it cannot be built, it does not take the samples, its answer is not one logit for each class, or
            there is nothing to train in it.
    """
    shape, n_classes = scenario.shape, scenario.n_classes
    try:
        net = build_net()
        with evaluating(net):  # with gradients, to see whether there is any
            logits = net(scenario.view.plain(scenario.train.raw[:2]))
    except UsageError:
        raise
    except NETWORK_ERRORS as error:
        if isinstance(error, RuntimeError | TypeError):
            check_shortage(error)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"net {name}: fails for samples of shape {shape} and {n_classes} classes: {reason}") from error
    given = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or logits.shape != (min(2, len(scenario.train)), n_classes):
        raise UsageError(f"net {name}: gives {given} for two samples; allowed: logits [2, {n_classes}]")
    if not trained(net):
        raise UsageError(f"net {name}: nothing in it can be trained; allowed: a parameter that asks for a gradient")
    if not logits.requires_grad:
        raise UsageError(
            f"net {name}: its logits depend on no parameter that asks for a gradient; allowed: one that they do (no "
            "detach() or torch.no_grad() in forward)"
        )
    return net
