"""The batched Fisher equals the one taken one sample at a time, for every kind of layer and on random shapes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from synergy.engine.waits import WaitWatch
from synergy.nets.resnet import ResNet18
from synergy.ops import layer_rules
from synergy.ops.fisher import fisher_diagonal
from synergy.ops.layer_rules import gram_is_cheaper
from synergy.types import Step
from tests.engine.recording import Operations
from tests.oracles.fisher import filter_means, fisher_one_by_one

CLASSES = 4


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network in float64 with random weights; the global generator goes on as if it had not been made."""
    net = build().double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)
    return net


def samples(shape: tuple[int, ...], seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(shape, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, CLASSES, (shape[0],), generator=generator)


def assert_equals_oracle(
    net: nn.Module, inputs: Tensor, labels: Tensor, tolerance: float, memory_mb: int = 1024
) -> None:
    for weighted in (True, False):
        expected = fisher_one_by_one(net, inputs, labels, weighted)
        for means in (False, True):
            wanted = filter_means(net, expected) if means else expected
            options = {"weighted": weighted, "filter_means": means, "memory_mb": memory_mb}
            ours = fisher_diagonal(net, inputs, labels, **options)  # type: ignore[arg-type]
            for a, b in zip(ours, wanted, strict=True):
                assert a.shape == b.shape
                torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 12),
    widths=st.lists(st.integers(1, 17), min_size=1, max_size=4),
    bias=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_linear_networks(n: int, widths: list[int], bias: bool, seed: int) -> None:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths, [*widths[1:], CLASSES], strict=True):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.Tanh()]
    net = seeded(lambda: nn.Sequential(*layers), seed)
    assert_equals_oracle(net, *samples((n, widths[0]), seed), tolerance=1e-10)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_convolutions(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2]))
    channels, out = groups * data.draw(st.integers(1, 3)), groups * data.draw(st.integers(1, 9))
    kernel = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
    convolution = nn.Conv2d(
        channels,
        out,
        kernel,
        stride=(data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))),
        padding=data.draw(st.sampled_from([(0, 0), (1, 1), (1, 0)])),
        dilation=data.draw(st.integers(1, 2)),
        groups=groups,
        bias=data.draw(st.booleans()),
        padding_mode=data.draw(st.sampled_from(["zeros", "circular", "reflect"])),
    )
    size = (data.draw(st.integers(6, 9)), data.draw(st.integers(6, 9)))
    head = nn.Sequential(nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * out, CLASSES))
    net = seeded(lambda: nn.Sequential(convolution, head))
    inputs, labels = samples((data.draw(st.integers(1, 5)), channels, *size), data.draw(st.integers(0, 99)))
    assert_equals_oracle(net, inputs, labels, tolerance=1e-9)


@pytest.mark.parametrize(("channels", "side", "expected"), [(64, 32, False), (128, 16, True), (512, 4, True)])
def test_which_way_to_a_filters_norm_is_taken(channels: int, side: int, expected: bool) -> None:
    layer = nn.Conv2d(channels, channels, 3, padding=1, device="meta")
    assert gram_is_cheaper(layer, (side + 2, side + 2), (side, side)) is expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("way", ["_squares_by_library", "_squares_by_stretches", "_means_by_gram"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_way_to_a_convolutions_squares(way: str, dtype: torch.dtype, data: st.DataObject) -> None:
    """Each of the three ways is right for every stride, dilation, padding, kernel and chunk."""
    groups = data.draw(st.sampled_from([1, 1, 2]))

    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    layer_of_any_shape = nn.Conv2d(
        groups * data.draw(st.integers(1, 3)),
        groups * data.draw(st.integers(1, 4)),
        pair(1, 4),
        stride=pair(1, 4),
        padding=pair(0, 2),
        dilation=pair(1, 3),
        groups=groups,
    )
    layer = seeded(lambda: layer_of_any_shape)
    assert isinstance(layer, nn.Conv2d)
    inputs, _ = samples((3, layer.in_channels, *pair(10, 13)), data.draw(st.integers(0, 99)))
    outputs = layer(inputs)
    grads, _ = samples(tuple(outputs.shape), 7)
    weights = torch.tensor([0.2, 1.0, 0.5], dtype=torch.float64)
    expected = torch.zeros_like(layer.weight)
    for output, grad, weight in zip(outputs, grads, weights, strict=True):
        expected += weight * torch.autograd.grad(output, layer.weight, grad, retain_graph=True)[0].square()
    padded = layer_rules._padded(layer, inputs).unflatten(1, (groups, -1)).to(dtype)
    grads, weights = grads.unflatten(1, (groups, -1)).to(dtype), weights.to(dtype)
    budget = data.draw(st.sampled_from([1, 2**30]))
    ours = vars(layer_rules)[way](layer.to(dtype), padded, grads, weights, budget)
    wanted = expected.mean((1, 2, 3), keepdim=True) if way == "_means_by_gram" else expected
    tolerance = 1e-9 if dtype is torch.float64 else 1e-3
    torch.testing.assert_close(ours.double(), wanted, rtol=tolerance, atol=tolerance)


class Residual(nn.Module):
    """The parts of a ResNet: convolutions, BatchNorm, a shortcut, in-place activations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.shortcut = nn.Conv2d(2, 3, 1, bias=False)
        self.classifier = nn.Linear(3, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(inputs)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)) + self.shortcut(inputs), inplace=True)
        logits: Tensor = self.classifier(out.mean((2, 3)))
        return logits


def test_batch_norm_takes_each_samples_own_statistics_and_leaves_the_running_ones() -> None:
    net = seeded(Residual)
    assert isinstance(net, Residual)
    net.train()
    inputs, labels = samples((6, 2, 5, 5))
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    assert_equals_oracle(net, inputs, labels, tolerance=1e-9)
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
    assert net.training and net.bn1.training


def test_a_resnet_needs_no_single_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer of a ResNet has a rule, in-place activations included: the general way is never taken."""
    monkeypatch.setattr("synergy.ops.fisher._by_single_samples", None)
    net = ResNet18(CLASSES, width=2, generator=torch.Generator().manual_seed(0)).double()
    inputs, labels = samples((3, 3, 8, 8))
    ours = fisher_diagonal(net, inputs, labels)
    assert len(ours) == len(list(net.parameters()))


class Odd(nn.Module):
    """Cases without a rule: a bare parameter, a layer used twice, a weight of two layers, a linear over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(5))
        self.twice = nn.Linear(5, 5)
        self.one, self.other = nn.Linear(5, 5), nn.Linear(5, 5)
        self.other.weight = self.one.weight
        self.positions = nn.Linear(3, 5)
        self.norm = nn.LayerNorm(5)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.positions(inputs)).mean(1) * self.scale
        hidden = torch.tanh(self.twice(torch.tanh(self.twice(hidden))))
        hidden = self.norm(self.other(torch.tanh(self.one(hidden))))
        logits: Tensor = self.head(hidden)
        return logits


@pytest.mark.parametrize("memory_mb", [1024, 1])
def test_everything_else_goes_the_general_way(memory_mb: int) -> None:
    assert_equals_oracle(seeded(Odd), *samples((7, 6, 3)), tolerance=1e-10, memory_mb=memory_mb)


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d])
def test_convolutions_of_other_dimensions(kind: Callable[..., nn.Module]) -> None:
    """Filters have one, two or three dimensions; a transposed convolution has none."""
    dimensions = 3 if kind is nn.Conv3d else 1
    layer = seeded(lambda: kind(2, 4, 2))
    features = layer(torch.zeros(1, 2, *[3] * dimensions, dtype=torch.float64)).numel()
    net = seeded(lambda: nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.Linear(features, CLASSES)))
    assert_equals_oracle(net, *samples((5, 2, *[3] * dimensions)), tolerance=1e-10)


def test_batch_norm_over_features_uses_the_running_statistics() -> None:
    net = seeded(lambda: nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, CLASSES))).eval()
    assert_equals_oracle(net, *samples((6, 3)), tolerance=1e-10)


def test_samples_in_chunks_give_the_same() -> None:
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3000, 30), nn.ReLU(), nn.Linear(30, CLASSES)))
    inputs, labels = samples((90, 3000))
    whole = fisher_diagonal(net, inputs, labels)
    # One MiB holds the activations of about ten samples.
    parts = fisher_diagonal(net, inputs, labels, memory_mb=1)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


@pytest.mark.parametrize("left", [["0.weight"], ["2.bias"], ["2.weight", "2.bias"], ["4.weight"]])
def test_frozen_parameters_are_left_out_and_stay_as_they_were(left: list[str]) -> None:
    net = seeded(
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, CLASSES))
    )
    inputs, labels = samples((5, 3))
    named = dict(zip(dict(net.named_parameters()), fisher_diagonal(net, inputs, labels), strict=True))
    net.requires_grad_(False)
    for name in left:
        net.get_parameter(name).requires_grad_(True)
    ours = fisher_diagonal(net, inputs, labels)
    assert len(ours) == len(left)
    for name, found in zip(left, ours, strict=True):
        torch.testing.assert_close(found, named[name], rtol=1e-12, atol=0)
    assert all(p.grad is None and p.requires_grad == (name in left) for name, p in net.named_parameters())


def test_is_not_the_square_of_the_mean_gradient() -> None:
    """The square of the batch mean, a common mistake, is another number."""
    net = seeded(lambda: nn.Sequential(nn.Linear(3, CLASSES)))
    inputs, labels = samples((20, 3))
    mean = torch.autograd.grad(-F.cross_entropy(net(inputs), labels), list(net.parameters()))
    ours = fisher_diagonal(net, inputs, labels, weighted=False)
    assert all(float((a - b**2).abs().max()) > 1e-3 for a, b in zip(ours, mean, strict=True))


class Counting(TorchDispatchMode):
    """Counts operations that an accelerator would launch."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launched = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        free = func.is_view or func.overloadpacket.__name__ in ("squeeze_", "_unsafe_view", "empty", "empty_like")
        self.launched += not free
        return func(*args, **(kwargs or {}))


@pytest.fixture
def few_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator."""
    monkeypatch.setattr(layer_rules, "launches_cost", lambda device: True)


@pytest.mark.usefixtures("few_launches")
def test_an_accelerator_launches_a_few_hundred_operations() -> None:
    net = ResNet18(CLASSES, 4, generator=torch.Generator().manual_seed(0)).double()
    with Counting() as counting:
        fisher_diagonal(net, *samples((6, 3, 32, 32)), filter_means=True)
    assert counting.launched <= 650


@pytest.mark.usefixtures("few_launches")
def test_an_accelerators_pass_waits_for_nothing_and_can_be_recorded() -> None:
    net = ResNet18(CLASSES, 4, generator=torch.Generator().manual_seed(0))
    (inputs, labels), other = samples((6, 3, 32, 32)), samples((6, 3, 32, 32), seed=2)
    inputs = inputs.float()

    def taken() -> Step:
        return Step({str(n): part for n, part in enumerate(fisher_diagonal(net, inputs, labels, filter_means=True))})

    with WaitWatch() as watch:
        taken()
    assert watch.found == []
    play = Operations().record(taken)
    play()
    inputs.copy_(other[0])
    labels.copy_(other[1])
    replayed = [part.clone() for part in play().losses.values()]
    assert all(map(torch.equal, replayed, taken().losses.values()))


class Held(TorchDispatchMode):
    """Knows how many bytes of tensors that were made within are held at most at a time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in given:
                storage = leaf.untyped_storage()
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())
        return result

    def _add(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)


@pytest.mark.usefixtures("few_launches")
@pytest.mark.parametrize(("memory_mb", "n"), [(16, 48), (64, 128)])
def test_an_accelerators_pass_uses_its_memory_and_half_as_much_again_at_most(memory_mb: int, n: int) -> None:
    net = ResNet18(CLASSES, 16, generator=torch.Generator().manual_seed(0))
    inputs, labels = samples((n, 3, 32, 32))
    inputs = inputs.float()
    with Held() as held:
        fisher_diagonal(net, inputs, labels, filter_means=True, memory_mb=memory_mb)
    assert 0.8 * memory_mb < held.most / 2**20 < 1.5 * memory_mb


@pytest.mark.usefixtures("few_launches")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    groups=st.sampled_from([1, 2]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    padding=st.integers(0, 2),
    side=st.integers(5, 7),
    filters=st.sampled_from([2, 8]),
)
def test_convolutions_on_an_accelerator(
    groups: int, kernel: tuple[int, int], stride: int, dilation: int, padding: int, side: int, filters: int
) -> None:
    def build() -> nn.Module:
        layer = nn.Conv2d(2, filters, kernel, stride, padding, dilation, groups)
        return nn.Sequential(layer, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(filters, CLASSES))

    assert_equals_oracle(seeded(build), *samples((4, 2, side, side)), 1e-10)


@pytest.mark.usefixtures("few_launches")
def test_a_resnet_on_an_accelerator_in_small_memory() -> None:
    net = ResNet18(CLASSES, 3, generator=torch.Generator().manual_seed(0)).double()
    assert_equals_oracle(net, *samples((3, 3, 32, 32)), 1e-9, memory_mb=1)
