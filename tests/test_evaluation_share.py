"""How much of a whole run is evaluation, counted over every run of the plan for a GPU: at most 5 %.

A run on the sizes and labels of the data is made as it is, but for a narrow network and one step for each task. Its
schedule tells what all its epochs would take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from benchmarks import cuda_full
from synergy.data.sources import Source, SourceInfo
from synergy.engine.worker import Means, Worker
from synergy.methods.base import Budget, Setting, make_method
from synergy.nets.resnet import ResNet18
from synergy.runs import training
from synergy.runs.config import RunConfig
from synergy.runs.evaluate import Evaluation, Evaluations, batch_size
from synergy.runs.training import Schedule, Training
from synergy.scenarios.base import AnyScenario, StreamSetting
from synergy.types import Predictor, ProtocolName, Split, View

MOST = 0.05
BACKWARD = 2
"""A backward pass in forward passes."""
QUICK = "seq-cifar10:synergy:500:0"
PLANNED = [each for each in cuda_full.PLAN if "cifar" in each and each.split(":")[3] == "0"]


def split_of(n: int, classes: int) -> Split:
    """Black pictures of 32x32."""
    return Split(torch.zeros(n, 3, 32, 32, dtype=torch.uint8), torch.arange(n) % classes, tuple(range(classes)))


def scenario_of(config: RunConfig) -> AnyScenario:
    classes = 10 if config.scenario_name == "seq-cifar10" else 100
    info = SourceInfo("black", "here", 50_000, 10_000, complete=True)
    source = Source(info, split_of(50_000, classes), split_of(10_000, classes))
    assert config.training.batch_size is not None
    setting = StreamSetting(source, 0, config.training.batch_size, torch.device("cpu"))
    return config.scenario_class()(config.scenario, setting)


@dataclass
class Passes:
    """Samples that pass the network; those of a pass with gradients count for its backward pass too."""

    samples: int = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        def count(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            if isinstance(module, ResNet18):
                self.samples += len(given[0]) * (1 + BACKWARD * torch.is_grad_enabled())

        hook = nn.modules.module.register_module_forward_pre_hook(count)
        try:
            yield
        finally:
            hook.remove()


@dataclass
class Evaluated:
    """What a run evaluates, in samples and in batches as an accelerator takes them."""

    samples: int = 0
    batches: int = 0

    def __call__(
        self,
        predictors: Mapping[str, Predictor],
        splits: Sequence[Split],
        view: View,
        protocols: Sequence[ProtocolName],
    ) -> Evaluations:
        for split in splits:
            on_device = Split(split.raw[:1].to("meta").expand_as(split.raw), split.labels, split.classes)
            self.samples += len(predictors) * len(split)
            self.batches += len(predictors) * -(-len(split) // batch_size(on_device, view))
        nothing = Evaluation((0.0,) * len(splits), {}, None)
        return {(name, protocol): nothing for name in predictors for protocol in protocols}


@pytest.mark.parametrize(
    "described", [pytest.param(each, marks=() if each == QUICK else pytest.mark.slow) for each in PLANNED]
)
def test_evaluation_is_a_small_part_of_a_run(described: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = cuda_full.planned(described, tiny=False, given={})
    scenario = scenario_of(config)
    setting = Setting(
        lambda _: ResNet18(scenario.n_classes, 1, generator=torch.Generator()), scenario.view, scenario.n_classes
    )
    method = make_method(config.method_class(), config.method, setting, Budget())
    evaluated, passes = Evaluated(), Passes()
    monkeypatch.setattr(training, "evaluate", evaluated)
    loop = Training(Worker(method, Means(torch.device("cpu"))), scenario, Schedule(max_steps_per_task=1), seed=0)
    with passes.counted():
        loop.run()
    assert config.training.n_epochs is not None
    whole = Schedule(config.training.n_epochs)
    steps = sum(whole.steps(scenario.task(index)) for index in range(scenario.n_tasks))
    learned = passes.samples * steps // loop.steps
    assert 0 < evaluated.samples < MOST * (learned + evaluated.samples)
    assert 0 < evaluated.batches < MOST * (steps + evaluated.batches)
