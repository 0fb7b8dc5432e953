"""Where consolidation acts: on which layers the Fisher information lies.

Two views. The Fisher information that the network at the end has on the training data of each task, computed anew for
any method: Kirkpatrick et al. 2017, *Overcoming catastrophic forgetting in neural networks*, eq. 3. And the importance
that the method itself holds, such as the average of SYNERgy, after each task whose checkpoint was kept (`--keep`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from synergy.analyses.base import Analysis
from synergy.analyses.trained import TrainedRun
from synergy.methods.base import Method
from synergy.ops.fisher import fisher_diagonal
from synergy.ops.vectors import PerParameter
from synergy.options import Options, option
from synergy.randomness import generator
from synergy.runs.findings import Description, Grid, Number


@dataclass(frozen=True)
class ConsolidationConfig(Options):
    """Options of the analysis.

    Examples:
        >>> ConsolidationConfig().samples
        1000
    """

    samples: int = option(1000, "training samples of each task, at most", low=1)
    draw_seed: int = option(0, "seed of their draw", low=0)


@dataclass(frozen=True)
class Held:
    """The importance that a method holds, such as the average of its Fisher information.

    Attributes:
        tasks: how many tasks were learned at each of the checkpoints, `[K]`.
        mass: its sum over each layer, `[K][L]`.

    Examples:
        >>> Held((1, 2), ((0.5, 0.1), (0.6, 0.4))).tasks
        (1, 2)
    """

    tasks: tuple[int, ...]
    mass: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Consolidation:
    """Fisher mass of each layer.

    Attributes:
        layers: their names in the network, `[L]`.
        mass: of each predictor the sum of the Fisher diagonal over each layer, on each task's training data, `[T][L]`.
        held: importances that the method holds, by the name of its attribute; empty if it holds none.

    Examples:
        >>> Consolidation(("hidden", "classifier"), {"working": ((0.3, 0.1),)}, {}).held
        {}
    """

    layers: tuple[str, ...]
    mass: dict[str, tuple[tuple[float, ...], ...]]
    held: dict[str, Held]


def consolidation(run: TrainedRun, options: ConsolidationConfig | None = None) -> Consolidation:
    """The Fisher mass per layer over tasks.

    The Fisher information is exact for the samples that are drawn: the mean of squared gradients of each sample's own
    log-likelihood, unweighted, in nats squared per squared unit of a weight.

    Raises:
        UsageError: no answer is the output of a network.
    """
    config = ConsolidationConfig() if options is None else options
    nets = run.nets("consolidation")
    layers = layers_of(next(iter(nets.values())))
    mass = {
        name: tuple(_on_task(run, net, task, layers, config) for task in range(run.tasks)) for name, net in nets.items()
    }
    return Consolidation(tuple(layers), mass, held(run, next(iter(nets.values())), layers))


def layers_of(net: nn.Module) -> list[str]:
    """Names of the modules that hold trained parameters, in the order of the network.

    Examples:
        >>> layers_of(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
        ['0', '2']
    """
    return list(dict.fromkeys(name.rpartition(".")[0] for name, p in net.named_parameters() if p.requires_grad))


def mass_per_layer(net: nn.Module, values: list[Tensor], layers: list[str]) -> tuple[float, ...]:
    """The sum over each layer of a tensor for each trained parameter, `[L]`.

    Examples:
        >>> net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        >>> mass_per_layer(net, [torch.ones(1, 1), torch.ones(1), torch.full((1, 1), 5.0), torch.ones(1)], ["0", "1"])
        (2.0, 6.0)
    """
    names = [name.rpartition(".")[0] for name, p in net.named_parameters() if p.requires_grad]
    sums = dict.fromkeys(layers, 0.0)
    for name, value in zip(names, values, strict=True):
        sums[name] += float(value.double().sum())
    return tuple(sums[layer] for layer in layers)


def _on_task(
    run: TrainedRun, net: nn.Module, number: int, layers: list[str], config: ConsolidationConfig
) -> tuple[float, ...]:
    task = run.prepared.scenario.task(number)
    drawn = generator(config.draw_seed, f"consolidation/{number}").permutation(len(task))[: config.samples]
    raw, labels = task.take(torch.from_numpy(drawn).to(task.labels.device))
    inputs = run.prepared.scenario.view.plain(raw)
    memory = run.prepared.method.setting.fisher_memory_mb
    return mass_per_layer(net, fisher_diagonal(net, inputs, labels, weighted=False, memory_mb=memory), layers)


def held(run: TrainedRun, net: nn.Module, layers: list[str]) -> dict[str, Held]:
    """Each importance of the method, after each task whose checkpoint is still there.

    Args:
        net: one of the method's networks. They are alike.
        layers: of the network.
    """
    found: dict[str, list[tuple[int, tuple[float, ...]]]] = {}
    for tasks, method in run.after_tasks():
        for name, importance in _importances(method).items():
            values = list(importance.weights.views(importance.values))
            found.setdefault(name, []).append((tasks, mass_per_layer(net, values, layers)))
    return {name: Held(tuple(n for n, _ in of), tuple(mass for _, mass in of)) for name, of in found.items()}


def _importances(method: Method[Any]) -> dict[str, PerParameter]:
    parts = vars(method).items()
    return {name: part for name, part in parts if isinstance(part, PerParameter) and part.is_set}


def shares(mass: tuple[tuple[float, ...], ...]) -> tuple[tuple[float | None, ...], ...]:
    """From mass `[T][L]` the share of each layer in that of its task, percent, `[L][T]`; None where there is none.

    Examples:
        >>> shares(((1.0, 3.0), (0.0, 0.0)))
        ((25.0, None), (75.0, None))
    """
    return tuple(
        tuple(100 * row[layer] / sum(row) if sum(row) else None for row in mass) for layer in range(len(mass[0]))
    )


def described(result: Consolidation) -> Description:
    """What to show: for each predictor the share of each layer on each task."""
    grids, numbers = [], []
    for name, mass in result.mass.items():
        tasks = tuple(str(task + 1) for task in range(len(mass)))
        title = "Fisher mass per layer, on the data of each task"
        grids.append(Grid(title, name, "layer", "task", result.layers, tasks, shares(mass)))
        old, new = sum(map(sum, mass[:-1])) / max(1, len(mass) - 1), sum(mass[-1])
        if len(mass) > 1 and new:
            numbers.append(Number("Fisher mass of an earlier task over that of the last", name, old / new))
    for name, each in result.held.items():
        tasks = tuple(map(str, each.tasks))
        title = f"what the method holds as '{name}', after each task"
        grids.append(Grid(title, "", "layer", "tasks learned", result.layers, tasks, shares(each.mass)))
    return Description(tuple(numbers), (), tuple(grids))


ANALYSIS = Analysis(
    "consolidation", "on which layers does what it knows lie?", ConsolidationConfig, consolidation, described
)
