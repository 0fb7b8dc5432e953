"""HAL: the two-step gradient by hand, and the anchors' gradients by finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.methods.hal import HAL, HalConfig, anchor_value
from synergy.nets.backbone import Backbone
from synergy.nets.mlp import MLP
from synergy.ops.vectors import parameter_vector
from synergy.randomness import generator, torch_generator
from tests.methods import normalised, small


def method(**changes: float) -> HAL:
    options = {"buffer_size": 8, "minibatch_size": 3, "hal_lambda": 0.4, "beta": 0.7, "gamma": 0.1} | changes
    config = HalConfig.from_mapping({"lr": 0.5, "steps_on_anchors": 5, **options}, "this test")
    return HAL(config, small.setting(), small.budget())


def backbone(name: str) -> Backbone:
    net = small.build_net(name)
    assert isinstance(net, Backbone)
    return net


def wide(name: str) -> Backbone:
    return MLP(16, small.CLASSES, hidden=20, generator=torch_generator(0, name)).double()


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(generator(seed, "numbers").normal(size=shape))


def test_a_step_is_held_back_by_what_it_would_do_to_the_anchors() -> None:
    hal = method()
    hal.anchors = numbers(1, 3, 1, 4, 4)
    by_hand = backbone("net")
    batch = small.batch(1)
    gradient = small.gradient(by_hand, F.cross_entropy(by_hand(batch.inputs), batch.labels))
    ahead = small.twin(by_hand)
    small.move(ahead, gradient, lr=0.5)
    change = (by_hand(hal.anchors) - ahead(hal.anchors).detach()).square().mean()
    small.move(by_hand, gradient + small.gradient(by_hand, 0.4 * change), lr=0.5)
    losses = hal.observe(batch).losses
    torch.testing.assert_close(losses["change"], change.detach())
    torch.testing.assert_close(losses["loss"], losses["ce"] + 0.4 * change.detach())
    small.assert_same_weights(hal.net, by_hand)
    assert change > 1e-6


def test_the_mean_embedding_follows_the_stream() -> None:
    hal = method()
    by_hand, expected = backbone("net"), torch.zeros(5, dtype=torch.float64)
    batch = small.batch(1)
    small.step(by_hand, F.cross_entropy(by_hand(batch.inputs), batch.labels), lr=0.5)
    hal.observe(batch)
    expected = 0.7 * expected + 0.3 * by_hand.features(batch.inputs).mean(0).detach()
    torch.testing.assert_close(hal.embedding, expected)
    hal.observe(small.batch(2))
    assert isinstance(hal.net, Backbone)
    expected = 0.7 * expected + 0.3 * hal.net.features(small.batch(2).inputs).mean(0).detach()
    torch.testing.assert_close(hal.embedding, expected)
    hal.end_task(small.task(0))
    assert not hal.embedding.any()


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_gradients_of_anchors_equal_finite_differences(gamma: float) -> None:
    net, forgetful = wide("net"), wide("another")
    labels, embedding = torch.tensor([2, 0, 3]), numbers(3, 20)
    anchors = numbers(4, 3, 16).requires_grad_()
    assert (net.features(anchors) > 0).any(1).all(), "a network that is silent has no gradients to compare"
    (gradient,) = torch.autograd.grad(anchor_value(net, forgetful, anchors, labels, embedding, gamma), anchors)

    @torch.no_grad()
    def value_of_one(k: int, e: Tensor) -> float:
        """The value of anchor k, as the paper writes it."""
        gain = F.cross_entropy(forgetful(e[None]), labels[k : k + 1]) - F.cross_entropy(net(e[None]), labels[k : k + 1])
        return float(gain - gamma * (net.features(e[None])[0] - embedding).norm() ** 2)

    epsilon = 1e-6
    for k, anchor in enumerate(anchors.detach()):
        for i, offset in enumerate(epsilon * torch.eye(16, dtype=torch.float64)):
            slope = (value_of_one(k, anchor + offset) - value_of_one(k, anchor - offset)) / (2 * epsilon)
            assert float(gradient[k, i]) == pytest.approx(slope, abs=1e-7)


def test_anchors_climb_from_random_inputs_one_for_each_class() -> None:
    hal = method(gamma=0.2)
    hal.observe(small.batch(1))
    task = small.task(0, classes=(1, 3))
    net, embedding = small.twin(hal.net), hal.embedding.clone()
    assert isinstance(net, Backbone)
    forgetful = small.twin(net)
    assert isinstance(forgetful, Backbone)
    memory = hal.memory.all()
    for chosen in torch.from_numpy(hal.setting.rng("order").permutation(4)).split(2):
        inputs = small.VIEW.plain(memory.raw[chosen])
        small.step(forgetful, F.cross_entropy(forgetful(inputs), memory.labels[chosen]), lr=0.5)
    anchors = torch.from_numpy(hal.setting.rng("anchors").random((2, 1, 4, 4)))
    began = anchors
    for _ in range(5):
        anchors = anchors.detach().requires_grad_()
        value = anchor_value(net, forgetful, anchors, torch.tensor([1, 3]), embedding, gamma=0.2)
        anchors = anchors + 0.5 * torch.autograd.grad(value, anchors)[0]
    hal.end_task(task)
    torch.testing.assert_close(hal.anchors, anchors.detach())
    assert not torch.equal(hal.anchors, began)
    small.assert_same_weights(hal.net, net)
    hal.observe(small.batch(2))
    hal.end_task(small.task(1, classes=(0, 2)))
    assert hal.anchors.shape == (4, 1, 4, 4) and torch.equal(hal.anchors[:2], anchors.detach())


def test_without_fine_tuning_nothing_is_forgotten() -> None:
    hal = method(finetuning_epochs=0, gamma=0.0)
    hal.observe(small.batch(1))
    hal.end_task(small.task(0))
    began = torch.from_numpy(hal.setting.rng("anchors").random((small.CLASSES, 1, 4, 4)))
    torch.testing.assert_close(hal.anchors, began)


def test_memory_has_a_section_for_each_task() -> None:
    hal = method()
    hal.observe(small.batch(1))
    hal.end_task(small.task(0))
    hal.observe(small.batch(2))
    assert len(hal.memory) == 8
    assert torch.equal(hal.memory.all().raw[:4].sort(0).values, small.batch(1).raw[2:].sort(0).values)


def test_anchors_pass_a_step_in_training_mode_and_are_sought_in_evaluation_mode() -> None:
    config = HalConfig(buffer_size=8, minibatch_size=3, steps_on_anchors=2)
    hal, alone = HAL(config, small.setting(build_net=normalised.build), small.budget()), normalised.build("net")
    hal.anchors = numbers(1, 3, 1, 4, 4)
    batch = small.batch(1)
    hal.observe(batch)
    for seen in (batch.inputs, hal.anchors, hal.anchors):
        alone(seen)
    assert torch.equal(normalised.statistics(hal.net), normalised.statistics(alone))
    before = parameter_vector(hal.net)
    hal.end_task(small.task(0))
    assert torch.equal(normalised.statistics(hal.net), normalised.statistics(alone))
    assert torch.equal(parameter_vector(hal.net), before)
    assert all(module.training for module in hal.net.modules())


def test_what_it_needs_is_said() -> None:
    with pytest.raises(UsageError, match=r"buffer_size: given 1; allowed: at least 2, one sample for each task"):
        HAL(HalConfig(buffer_size=1, minibatch_size=1), small.setting(), small.budget())
    with pytest.raises(UsageError, match="given Linear; allowed for hal: a Backbone"):
        HAL(HalConfig(), small.setting(build_net=lambda name: nn.Linear(16, small.CLASSES)), small.budget())


def test_anchors_grow_and_keep_their_precision() -> None:
    hal, other = method(), method()
    hal.observe(small.batch(1))
    hal.end_task(small.task(0))
    state = hal.state_dict()
    other.load_state_dict(state)
    assert other.anchors.dtype == torch.float64 and len(other.anchors) == small.CLASSES
    other.observe(small.batch(2))
    with pytest.raises(ValueError, match="'anchors' is a tensor of float32"):
        method().load_state_dict(state | {"anchors": state["anchors"].float()})


def test_the_fine_tuned_copy_takes_all_its_passes_over_memory() -> None:
    hal = method(finetuning_epochs=3)
    hal.observe(small.batch(1))
    memory, by_hand = hal.memory.all(), small.twin(hal.net)
    order_rng = hal.setting.rng("order")
    for _ in range(3):
        order = torch.from_numpy(order_rng.permutation(len(memory)))
        for chosen in order.tensor_split(-(-len(memory) // 3)):
            inputs = small.VIEW.plain(memory.raw[chosen])
            small.step(by_hand, F.cross_entropy(by_hand(inputs), memory.labels[chosen]), lr=0.5)
    small.assert_same_weights(hal._fine_tuned(), by_hand)
