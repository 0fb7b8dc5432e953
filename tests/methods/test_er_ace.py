"""ER-ACE's masked loss against a loop, and a step by hand."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from synergy.methods.base import ReplayConfig
from synergy.methods.er_ace import ErAce, present_cross_entropy
from tests.methods import normalised, small


def test_cross_entropy_is_among_the_classes_of_the_batch() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0, -1.0], [0.5, -2.0, 9.0, 1.0], [2.0, 0.0, 1.0, 4.0]], requires_grad=True)
    labels = torch.tensor([0, 3, 3])
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        expected -= math.log(math.exp(row[label]) / (math.exp(row[0]) + math.exp(row[3]))) / 3
    loss = present_cross_entropy(logits, labels)
    loss.backward()
    assert math.isclose(loss.item(), expected, rel_tol=1e-6)
    assert logits.grad is not None
    assert torch.equal(logits.grad[:, [1, 2]], torch.zeros(3, 2)), "a class that is not there was pushed down"
    assert logits.grad[:, [0, 3]].abs().min() > 0


def test_memory_competes_among_all_classes() -> None:
    method = ErAce(ReplayConfig(lr=0.5, buffer_size=6, minibatch_size=6), small.setting())
    by_hand = small.twin(method.net)
    first, second = small.batch(1, classes=(0, 1)), small.batch(2, classes=(2, 3))
    for other in (1, 0):
        assert (first.labels == other).any() and (second.labels == 2 + other).any()

    old = by_hand(first.inputs)[:, :2]
    small.step(by_hand, F.cross_entropy(old, first.labels), lr=0.5)
    new = by_hand(second.inputs)[:, 2:4]
    loss = F.cross_entropy(new, second.labels - 2) + F.cross_entropy(by_hand(first.inputs), first.labels)
    small.step(by_hand, loss, lr=0.5)

    method.observe(first)
    torch.testing.assert_close(method.observe(second).losses["loss"], loss.detach())
    small.assert_same_weights(method.net, by_hand)


def test_with_batch_norm_stream_and_memory_share_a_pass() -> None:
    method = ErAce(ReplayConfig(lr=0.5, buffer_size=6, minibatch_size=6), small.setting(build_net=normalised.build))
    first, second = small.batch(1), small.batch(2, classes=(2, 3))
    method.observe(first)
    by_hand = small.twin(method.net)
    logits = by_hand(torch.cat([second.inputs, first.inputs]))
    loss = F.cross_entropy(logits[:6, 2:4], second.labels - 2) + F.cross_entropy(logits[6:], first.labels)
    small.step(by_hand, loss, lr=0.5)
    method.observe(second)
    small.assert_same_weights(method.net, by_hand)
