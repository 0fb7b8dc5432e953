"""MER: both interpolations by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from synergy.methods.mer import MER, MerConfig
from synergy.ops.vectors import parameter_vector
from tests.methods import small


def method(beta: float, gamma: float, batch_num: int = 3) -> MER:
    config = MerConfig(lr=0.5, beta=beta, gamma=gamma, batch_num=batch_num, buffer_size=6, minibatch_size=2)
    return MER(config, small.setting())


@pytest.mark.parametrize(("beta", "gamma"), [(0.3, 0.6), (1.0, 0.25), (0.4, 1.0)])
def test_goes_part_of_the_way_of_every_step_and_of_every_sample(beta: float, gamma: float) -> None:
    mer = method(beta, gamma)
    by_hand = small.twin(mer.net)
    stream = [small.batch(seed, n=1) for seed in range(4)]
    rng = mer.setting.rng("replay")
    for number, batch in enumerate(stream):
        theta_a = parameter_vector(by_hand)
        for _ in range(3):
            theta_w = parameter_vector(by_hand)
            drawn = list(rng.choice(number, size=min(2, number), replace=False, shuffle=False)) if number else []
            inputs = torch.cat([*(stream[i].inputs for i in drawn), batch.inputs])
            labels = torch.cat([*(stream[i].labels for i in drawn), batch.labels])
            loss = F.cross_entropy(by_hand(inputs), labels)
            small.step(by_hand, loss, lr=0.5)
            theta = parameter_vector(by_hand)
            torch.nn.utils.vector_to_parameters(theta_w + beta * (theta - theta_w), by_hand.parameters())
        theta = parameter_vector(by_hand)
        torch.nn.utils.vector_to_parameters(theta_a + gamma * (theta - theta_a), by_hand.parameters())
        losses = mer.observe(batch).losses
        torch.testing.assert_close(losses["loss"], loss.detach())
        small.assert_same_weights(mer.net, by_hand)


def test_going_no_part_of_the_way_learns_nothing() -> None:
    mer = method(beta=1.0, gamma=0.0)
    before = parameter_vector(mer.net)
    mer.observe(small.batch(1, n=1))
    torch.testing.assert_close(parameter_vector(mer.net), before, rtol=0, atol=1e-15)


def test_more_than_one_sample_at_a_time_is_refused() -> None:
    assert MER.only_batch_size == 1
    with pytest.raises(AssertionError, match="one sample at a time, given 2"):
        method(1.0, 1.0).observe(small.batch(1, n=2))
