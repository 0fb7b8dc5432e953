"""DER and DER++ by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from synergy.methods.der import DER, DerConfig
from synergy.methods.derpp import DERpp, DerppConfig
from tests.methods import small


def test_der_asks_for_the_logits_of_the_pass_that_was_trained_on() -> None:
    method = DER(DerConfig(lr=0.5, alpha=0.3, buffer_size=6, minibatch_size=6), small.setting())
    by_hand = small.twin(method.net)
    first, second = small.batch(1), small.batch(2)

    logits = by_hand(first.inputs)
    small.step(by_hand, F.cross_entropy(logits, first.labels), lr=0.5)
    method.observe(first)
    torch.testing.assert_close(method.memory.all().extras["logits"], logits.detach())

    ce = F.cross_entropy(by_hand(second.inputs), second.labels)
    distance = (by_hand(first.inputs) - logits.detach()).square().mean()
    small.step(by_hand, ce + 0.3 * distance, lr=0.5)
    losses = method.observe(second).losses
    torch.testing.assert_close(losses["loss"], (ce + 0.3 * distance).detach())
    small.assert_same_weights(method.net, by_hand)


def test_derpp_has_two_draws_one_for_logits_one_for_labels() -> None:
    setting = small.setting()
    method = DERpp(DerppConfig(lr=0.5, alpha=0.3, beta=0.7, buffer_size=6, minibatch_size=3), setting)
    by_hand = small.twin(method.net)
    first, second = small.batch(1), small.batch(2)
    rng = setting.rng("replay")
    one, two = (rng.choice(6, size=3, replace=False, shuffle=False) for _ in range(2))
    assert set(one) != set(two)

    logits = by_hand(first.inputs)
    small.step(by_hand, F.cross_entropy(logits, first.labels), lr=0.5)
    ce = F.cross_entropy(by_hand(second.inputs), second.labels)
    distance = F.mse_loss(by_hand(first.inputs[one]), logits[one].detach())
    replay_ce = F.cross_entropy(by_hand(first.inputs[two]), first.labels[two])
    small.step(by_hand, ce + 0.3 * distance + 0.7 * replay_ce, lr=0.5)

    method.observe(first)
    losses = method.observe(second).losses
    torch.testing.assert_close(losses["logits"], distance.detach())
    torch.testing.assert_close(losses["replay_ce"], replay_ce.detach())
    small.assert_same_weights(method.net, by_hand)
