"""FDR's distance against a loop, its two steps by hand, and how it shares memory."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from synergy.errors import UsageError
from synergy.methods.fdr import FDR, FdrConfig, function_distance
from tests.methods import normalised, small


def softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def test_distance_is_the_mean_norm_of_the_difference_of_probabilities() -> None:
    one, other = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    norms = [math.dist(softmax(p), softmax(q)) for p, q in zip(one.tolist(), other.tolist(), strict=True)]
    assert math.isclose(function_distance(one, other).item(), sum(norms) / 5, rel_tol=1e-12)


def test_distance_of_equals_has_a_finite_gradient() -> None:
    logits = torch.ones(2, 3, requires_grad=True)
    function_distance(logits, logits.detach()).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_two_steps_for_each_batch() -> None:
    """The weight `alpha` has no effect."""
    method = FDR(FdrConfig(lr=0.5, alpha=0.7, buffer_size=4, minibatch_size=4), small.setting(), small.budget())
    by_hand = small.twin(method.net)
    first, second = small.batch(1), small.batch(2)
    small.step(by_hand, F.cross_entropy(by_hand(first.inputs), first.labels), lr=0.5)
    assert set(method.observe(first).losses) == {"loss"}
    method.end_task(small.task(0))
    kept = method.memory.of(0)
    inputs = small.VIEW.plain(kept.raw)
    torch.testing.assert_close(kept.extras["logits"], by_hand(inputs).detach())

    ce = F.cross_entropy(by_hand(second.inputs), second.labels)
    small.step(by_hand, ce, lr=0.5)
    distance = (by_hand(inputs).softmax(1) - kept.extras["logits"].softmax(1)).norm(dim=1).mean()
    assert distance > 0
    small.step(by_hand, distance, lr=0.5)
    losses = method.observe(second).losses
    torch.testing.assert_close(losses["loss"], (ce + distance).detach())
    small.assert_same_weights(method.net, by_hand)


def test_every_task_has_the_same_share() -> None:
    method = FDR(FdrConfig(buffer_size=9, minibatch_size=9), small.setting(), small.budget(n_tasks=3))
    shares, first = [], []
    for index in range(3):
        method.observe(small.batch(index))
        method.end_task(small.task(index, n=20))
        shares.append(list(method.memory.sizes))
        first.append(method.memory.of(0))
    assert shares == [[9], [4, 4], [3, 3, 3]]
    assert torch.equal(first[0].raw[:3], first[2].raw)
    assert torch.equal(first[0].extras["logits"][:3], first[2].extras["logits"]), "old logits must not be taken anew"


def test_a_memory_smaller_than_the_number_of_tasks_is_refused() -> None:
    with pytest.raises(UsageError, match="given 3; allowed: at least 4"):
        FDR(FdrConfig(buffer_size=3, minibatch_size=3), small.setting(), small.budget(n_tasks=4))


def test_logits_are_those_of_the_network_as_it_answers() -> None:
    method = FDR(FdrConfig(buffer_size=4, minibatch_size=4), small.setting(build_net=normalised.build), small.budget())
    method.observe(small.batch(1))
    before = normalised.statistics(method.net)
    method.end_task(small.task(0))
    assert torch.equal(normalised.statistics(method.net), before)
    kept = method.memory.of(0)
    answers = small.twin(method.net).eval()(small.VIEW.plain(kept.raw)).detach()
    torch.testing.assert_close(kept.extras["logits"], answers)
