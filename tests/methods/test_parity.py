"""The methods give, step by step, the numbers of the published code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from synergy.methods.synergy import Synergy
from synergy.ops.fisher import fisher_diagonal
from synergy.ops.vectors import parameter_vector
from tests.methods.parity import Trace, relative_error

TOLERANCE = 1e-9
METHODS = ("er", "agem_r", "der", "derpp", "clser", "synergy")
TRACES = [f"{method}_{net}" for net in ("mlp", "resnet") for method in METHODS]
NETS = {"synergy": {"semantic_last": "semantic"}, "clser": {"plastic_last": "plastic", "stable_last": "stable"}}


@pytest.mark.parametrize("name", TRACES)
def test_losses_and_parameters_of_every_step(name: str) -> None:
    trace = Trace.read(name)
    method = trace.method()
    net = vars(method)["net"]
    losses = []
    for step, batch in enumerate(trace.steps()):
        losses.append(method.observe(batch).losses["loss"])
        if step == 0:
            assert relative_error(parameter_vector(net), trace.arrays["params_first"]) < TOLERANCE
    assert relative_error(torch.stack(losses), trace.arrays["losses"]) < TOLERANCE
    assert relative_error(parameter_vector(net), trace.arrays["params_last"]) < TOLERANCE
    for key, attribute in NETS.get(trace.meta["method"], {}).items():
        average: nn.Module = vars(method)[attribute]
        assert relative_error(parameter_vector(average), trace.arrays[key]) < TOLERANCE, attribute


@pytest.mark.parametrize("name", [name for name in TRACES if name.startswith("synergy")])
def test_fisher_of_the_trace(name: str) -> None:
    trace = Trace.read(name)
    method = trace.method()
    assert isinstance(method, Synergy)
    for step, batch in enumerate(trace.steps()):
        method.observe(batch)
        if step == 0:
            memory = method.memory.all()
            first = fisher_diagonal(method.semantic, memory.raw.double() / 255, memory.labels)
            assert relative_error(_vector(first), trace.arrays["fisher_first"]) < TOLERANCE
    assert method.fisher.is_set
    last = list(method.phi.views(method.fisher.values))
    assert relative_error(_vector(last), trace.arrays["fisher_adjusted_last"]) < TOLERANCE


def _vector(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
