"""A network's parameters as one vector."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from synergy.errors import UsageError
from synergy.ops.averaging import average_, warm_decay
from synergy.ops.growth import widen
from synergy.ops.vectors import Flat, carried, channels_last, parameter_vector, trained, twin


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3, 4)).double()


def test_parameters_and_gradients_are_views() -> None:
    net = network()
    before = parameter_vector(net)
    flat = Flat(net)
    assert torch.equal(flat.values, before)
    flat.backward(net(torch.ones(2, 2, 3, 3, dtype=torch.float64)).square().sum())
    gradients = torch.cat([p.grad.reshape(-1) for p in net.parameters() if p.grad is not None])
    assert torch.equal(flat.grads, gradients) and flat.grads.abs().sum() > 0
    flat.values.zero_()
    assert all(not p.any() for p in net.parameters())


def test_backward_starts_from_nothing() -> None:
    net = network()
    flat = Flat(net)
    inputs = torch.ones(2, 2, 3, 3, dtype=torch.float64)
    flat.backward(net(inputs).sum())
    once = flat.grads.clone()
    flat.backward(net(inputs).sum())
    assert torch.equal(flat.grads, once)


def test_an_optimiser_moves_all_parameters_at_once() -> None:
    net, reference = network(), network()
    reference.load_state_dict(net.state_dict())
    flat = Flat(net)
    ours = torch.optim.SGD([flat.parameter], lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9)
    inputs = torch.linspace(-1, 1, 36, dtype=torch.float64).view(2, 2, 3, 3)
    for _ in range(3):
        flat.backward(net(inputs).square().sum())
        ours.step()
        theirs.zero_grad()
        torch.autograd.backward(reference(inputs).square().sum())
        theirs.step()
    torch.testing.assert_close(flat.values, parameter_vector(reference), rtol=1e-12, atol=1e-12)


def test_frozen_parameters_stay_outside() -> None:
    net = network()
    net[0].requires_grad_(False)
    before = parameter_vector(net[0])
    flat = Flat(net)
    assert torch.equal(flat.values, parameter_vector(net[2]))
    flat.values.zero_()
    assert torch.equal(parameter_vector(net[0]), before)
    assert all(p.grad is None for p in net[0].parameters())
    assert trained(net) == list(net[2].parameters())


def test_a_twin_shares_what_is_frozen_and_no_more() -> None:
    net = network()
    net[0].requires_grad_(False)
    other = twin(net)
    assert other is not net
    assert [p is q for p, q in zip(net.parameters(), other.parameters(), strict=True)] == [True, True, False, False]
    Flat(other).values.zero_()
    assert parameter_vector(net[2]).abs().sum() > 0


def test_loading_keeps_the_tie() -> None:
    net, other = network(), network()
    flat = Flat(net)
    net.load_state_dict(other.state_dict())
    assert torch.equal(flat.values, parameter_vector(other))


def test_channels_last_weights_keep_their_layout() -> None:
    net = network()
    convolution = net[0]
    assert isinstance(convolution, nn.Conv2d)
    convolution.weight.data = convolution.weight.data.contiguous(memory_format=torch.channels_last)
    before = parameter_vector(net)
    flat = Flat(net)
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(parameter_vector(net), before)
    spread = flat.gather([torch.full((3, 1, 1, 1), 2.0), *list(net.parameters())[1:]], torch.empty_like(flat.values))
    assert torch.equal(next(flat.views(spread)), torch.full((3, 2, 3, 3), 2.0, dtype=torch.float64))


def held(shape: tuple[int, ...], *order: int) -> nn.Parameter:
    """A parameter whose elements are numbered in row-major order, made by permuting a dense tensor."""
    numbers = torch.arange(float(torch.Size(shape).numel()), dtype=torch.float64)
    dense = torch.empty(torch.Size([shape[i] for i in order]), dtype=torch.float64)
    parameter = nn.Parameter(dense.permute([order.index(i) for i in range(len(order))]))
    with torch.no_grad():
        parameter.copy_(numbers.view(shape))
    return parameter


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((6, 8), (1, 0)),
        ((2, 3, 4), (1, 2, 0)),
        ((2, 3, 4), (2, 1, 0)),
        ((4, 3, 2, 3, 3), (0, 2, 3, 4, 1)),
        ((4, 3, 2, 2), (1, 0, 2, 3)),
        ((4, 3, 1, 2), (0, 2, 3, 1)),
        ((), ()),
    ],
)
def test_any_dense_layout_is_kept(shape: tuple[int, ...], order: tuple[int, ...]) -> None:
    parameter = held(shape, *order)
    strides, before = parameter.stride(), parameter.detach().clone()
    flat = Flat(nn.ParameterList([nn.Parameter(torch.ones(2, dtype=torch.float64)), parameter]))
    assert torch.equal(parameter, before) and parameter.stride() == strides
    assert parameter.grad is not None and parameter.grad.stride() == strides
    flat.backward((parameter**3).sum())
    torch.testing.assert_close(parameter.grad, 3 * before**2, rtol=1e-12, atol=0)
    assert flat.grads[2:].sum() == parameter.grad.sum()
    flat.values.zero_()
    assert not parameter.any()


def test_a_volumes_convolution_with_channels_last_learns_like_any_other() -> None:
    ours, reference = nn.Conv3d(2, 3, 2).double(), nn.Conv3d(2, 3, 2).double()
    ours.load_state_dict(reference.state_dict())
    ours.weight.data = ours.weight.data.contiguous(memory_format=torch.channels_last_3d)
    flat = Flat(ours)
    assert ours.weight.is_contiguous(memory_format=torch.channels_last_3d)
    inputs = torch.linspace(-1, 1, 2 * 2 * 27, dtype=torch.float64).view(2, 2, 3, 3, 3)
    flat.backward(ours(inputs).square().sum())
    torch.autograd.backward(reference(inputs).square().sum())
    for a, b in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("overlapping", [torch.ones(1, 6).expand(8, 6), torch.ones(8, 1).expand(8, 6)])
def test_elements_that_share_memory_get_a_place_each(overlapping: torch.Tensor) -> None:
    parameter = nn.Parameter(overlapping)
    flat = Flat(nn.ParameterList([parameter]))
    assert parameter.is_contiguous() and len(flat.values) == 48
    flat.values.copy_(torch.arange(48.0))
    assert torch.equal(parameter.view(-1), torch.arange(48.0))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_following_a_longer_parameter_finds_each_element_again(order: tuple[int, int]) -> None:
    """The successor is laid out row by row; its predecessor may have had another layout."""
    net = nn.Linear(3, 2, dtype=torch.float64)
    net.weight = held((2, 3), *order)
    both = nn.Sequential(net, nn.Linear(2, 2, dtype=torch.float64))
    both[1].weight = held((2, 2), 1, 0)
    flat = Flat(both)
    old, kept = flat.values.clone(), both[1].weight.stride()
    widen(net, 2)
    positions = flat.follow()
    assert torch.equal(flat.values[positions], old)
    assert both[1].weight.stride() == kept
    marked = list(flat.views(carried(old, positions, len(flat.values))))
    expected = torch.tensor([[0, 1, 2], [3, 4, 5], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    assert torch.equal(marked[0], expected)


def test_average_and_its_warm_up() -> None:
    assert [warm_decay(step, 0.75) for step in (1, 2, 3, 4)] == pytest.approx([0.5, 2 / 3, 0.75, 0.75])
    average = torch.tensor([4.0])
    assert average_(average, torch.tensor([8.0]), torch.tensor(0.25, dtype=torch.float64)).item() == 5.0
    assert average.item() == 5.0


def test_channels_last_needs_sixteen_channels() -> None:
    """With fewer channels the CPU's convolution writes past its memory."""
    assert channels_last(nn.Sequential(nn.Conv2d(3, 16, 3)))
    with pytest.raises(UsageError, match="given channels_last for a convolution of 3 channels; allowed: from 16"):
        channels_last(network())
