"""Gradients of single samples against one backward pass for each, and their cosines."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.ops.per_sample import gradient_products, greatest_cosines, per_sample_gradients
from synergy.ops.vectors import parameter_vector

CLASSES = 3


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 5), nn.ReLU(), nn.Linear(5, CLASSES))


def normalised() -> nn.Module:
    convolutions = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Dropout(), nn.Linear(8, CLASSES))


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    net, generator = build().double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.2)
        for name, buffer in net.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand(buffer.shape, generator=generator, dtype=torch.float64) + 0.1)
    return net


def samples(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 2, 4, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, CLASSES, (n,), generator=generator)


def one_at_a_time(net: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Each sample a batch of one, in evaluation mode: BatchNorm by its running statistics."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.eval()
    rows = []
    for x, y in zip(inputs.split(1), labels.split(1), strict=True):
        grads = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
        rows.append(torch.cat([grad.reshape(-1) for grad in grads]))
    net.train()
    net.load_state_dict(before)
    return torch.stack(rows)


def cosine(one: Tensor, other: Tensor) -> float:
    return float(one @ other / (one.norm() * other.norm()))


def as_bits(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("build", [mlp, normalised])
def test_gradients_equal_those_taken_one_at_a_time(build: Callable[[], nn.Module]) -> None:
    net = seeded(build)
    before = as_bits(net)
    data = samples(7, seed=1)
    (gradients,) = per_sample_gradients(net, *data)
    torch.testing.assert_close(gradients, one_at_a_time(net, *data), rtol=1e-9, atol=1e-11)
    after = as_bits(net)
    assert all(torch.equal(before[name], after[name]) for name in before), "the network was changed"
    assert all(module.training for module in net.modules()), "the network was left in another mode"
    assert not any("forward" in vars(module) for module in net.modules())


def test_small_memory_means_small_chunks_and_the_same_gradients() -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(32, 900), nn.Linear(900, CLASSES)))
    data = samples(9, seed=1)
    assert 2 * parameter_vector(net).numel() * 8 < 2**20 < 5 * parameter_vector(net).numel() * 8
    chunks = list(per_sample_gradients(net, *data, memory_mb=1))
    assert len(chunks) > 2
    torch.testing.assert_close(torch.cat(chunks), one_at_a_time(net, *data), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("memory_mb", [1024, 2])
def test_cosines_equal_those_of_the_gradients(memory_mb: int) -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(32, 900), nn.Linear(900, CLASSES)))
    new, stored = samples(6, seed=1), samples(5, seed=2)
    of_new, of_stored = one_at_a_time(net, *new), one_at_a_time(net, *stored)
    single, mean = greatest_cosines(net, new, stored, memory_mb=memory_mb)
    by_hand = [max(cosine(g, h) for h in of_stored) for g in of_new]
    assert single.tolist() == pytest.approx(by_hand, abs=1e-12)
    of_mean = max(cosine(of_new.mean(0), h) for h in of_stored)
    assert float(mean) == pytest.approx(of_mean, abs=1e-12)


def test_a_gradient_of_zero_is_like_nothing() -> None:
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1000.0, 0.0], [-1000.0, 0.0]]))
    sure, unsure = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    label = torch.tensor([0])
    single, mean = greatest_cosines(net, (sure, label), (unsure, label))
    assert single.tolist() == [0] and float(mean) == 0


@pytest.mark.parametrize("bias", [True, False])
def test_products_of_gradients_without_the_gradients(bias: bool) -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(32, 5, bias), nn.Tanh(), nn.Linear(5, CLASSES, bias)))
    inputs, labels = samples(7, 3)
    gradients = one_at_a_time(net, inputs, labels)
    products = gradient_products(net, inputs, labels)
    assert products is not None
    torch.testing.assert_close(products, gradients @ gradients.mT, rtol=1e-10, atol=1e-12)


def test_other_networks_have_no_short_way() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(32, 32), nn.Linear(32, CLASSES)

        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.head(torch.tanh(self.layer(torch.tanh(self.layer(inputs.flatten(1))))))
            return logits

    for build in (normalised, Twice):
        net = seeded(build)
        assert gradient_products(net, *samples(4, 1)) is None
        single, mean = greatest_cosines(net, samples(4, 1), samples(3, 2))
        ours, others = one_at_a_time(net, *samples(4, 1)), one_at_a_time(net, *samples(3, 2))
        expected = [max(cosine(row, other) for other in others) for row in ours]
        torch.testing.assert_close(single, torch.tensor(expected, dtype=torch.float64), rtol=1e-8, atol=1e-10)
        assert float(mean) == pytest.approx(max(cosine(ours.mean(0), other) for other in others))
