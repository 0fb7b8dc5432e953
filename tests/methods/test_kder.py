"""KD-ER by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from synergy.methods.kder import KDER, KderConfig
from synergy.ops.vectors import parameter_vector
from synergy.types import Batch
from tests.methods import normalised, small


def loss_of(net: nn.Module, previous: nn.Module, stream: Batch, replay: Batch) -> torch.Tensor:
    inputs, labels = torch.cat([stream.inputs, replay.inputs]), torch.cat([stream.labels, replay.labels])
    target = previous(replay.inputs).detach()
    loss: torch.Tensor = F.cross_entropy(net(inputs), labels) + 0.7 * (net(replay.inputs) - target).square().mean()
    return loss


def test_the_target_is_the_network_of_one_step_before() -> None:
    method = KDER(KderConfig(lr=0.5, reg_weight=0.7, buffer_size=6, minibatch_size=6), small.setting())
    memory, second, third = small.batch(1), small.batch(2), small.batch(3)
    method.observe(memory)
    method.memory.seen = 2**50  # nothing more is taken in

    start = small.twin(method.net)
    untrained = small.build_net("net")
    after_second = small.twin(start)
    small.step(after_second, loss_of(after_second, untrained, second, memory), lr=0.5)
    after_third = small.twin(after_second)
    small.step(after_third, loss_of(after_third, start, third, memory), lr=0.5)

    method.observe(second)
    small.assert_same_weights(method.net, after_second)
    assert torch.equal(parameter_vector(method.previous), parameter_vector(start))
    method.observe(third)
    small.assert_same_weights(method.net, after_third)


def test_with_batch_norm_replay_has_a_pass_of_its_own_in_training_mode() -> None:
    setting = small.setting(build_net=normalised.build)
    method = KDER(KderConfig(lr=0.5, reg_weight=0.7, buffer_size=6, minibatch_size=6), setting)
    memory, second, third = small.batch(1), small.batch(2), small.batch(3)
    method.observe(memory)
    method.memory.seen = 2**50  # nothing more is taken in
    previous: nn.Module = normalised.build("net")
    by_hand = small.twin(method.net)
    for batch in (second, third):
        before = small.twin(by_hand)
        small.step(by_hand, loss_of(by_hand, previous, batch, memory), lr=0.5)
        method.observe(batch)
        small.assert_same_weights(method.net, by_hand)
        previous = before
