"""SYNERgy beside its parity traces: what those, which have a full memory and no randomness, cannot show."""

from __future__ import annotations

import pytest
import torch

from synergy.data.view import ImageView
from synergy.methods.base import Answer
from synergy.methods.synergy import Synergy, SynergyConfig
from synergy.ops.averaging import warm_decay
from synergy.ops.vectors import parameter_vector
from tests.methods import normalised, small

FLIP = ImageView(flip=True, dtype=torch.float64)


def method(augment: ImageView = small.VIEW, **changes: float) -> Synergy:
    options = {"buffer_size": 6, "minibatch_size": 6, "fisher_update_freq": 1.0} | changes
    return Synergy(SynergyConfig.from_mapping(options, "this test"), small.setting(view=augment))


def test_the_semantic_network_answers() -> None:
    synergy = method()
    nets = {name: answer.net for name, answer in synergy.predictors().items() if isinstance(answer, Answer)}
    assert nets == {"semantic": synergy.semantic, "working": synergy.net}
    assert next(iter(nets)) == "semantic"


@pytest.mark.parametrize("augment", [small.VIEW, FLIP])
def test_a_fisher_pass_without_weight_changes_nothing_else(augment: ImageView) -> None:
    nets = []
    for frequency in (0.0, 1.0):
        synergy = method(augment, penalty_weight=0.0, fisher_update_freq=frequency)
        for seed in range(4):
            synergy.observe(small.batch(seed))
        assert synergy.fisher.is_set == (frequency > 0)
        nets.append(parameter_vector(synergy.net))
    assert torch.equal(*nets)


def test_coins_fall_for_one_network_and_not_for_the_other() -> None:
    synergy = method(ema_update_freq=0.0)
    start = parameter_vector(synergy.semantic).clone()
    synergy.observe(small.batch(1))
    assert torch.equal(parameter_vector(synergy.semantic), start)
    assert synergy.fisher.is_set
    synergy = method(ema_update_freq=1.0, fisher_update_freq=0.0)
    synergy.observe(small.batch(1))
    assert not torch.equal(parameter_vector(synergy.semantic), start)
    assert not synergy.fisher.is_set


def test_replay_is_drawn_before_the_batch_is_offered() -> None:
    synergy, by_hand = method(fisher_update_freq=0.0), small.build_net("net")
    loss = torch.nn.functional.cross_entropy(by_hand(small.batch(1).inputs), small.batch(1).labels)
    small.step(by_hand, loss, lr=0.1)
    losses = synergy.observe(small.batch(1)).losses
    assert set(losses) == {"loss"}, "nothing was replayed in the first step"
    small.assert_same_weights(synergy.net, by_hand)
    assert torch.equal(synergy.memory.all().raw, small.batch(1).raw)


def test_without_memory_there_is_no_fisher_information() -> None:
    synergy = method()
    synergy.observe(small.batch(1))
    assert synergy.fisher.is_set
    kept = synergy.fisher.values.clone()
    synergy.memory.seen = 2**50  # nothing more is taken in
    synergy.memory.keep(torch.arange(0).numpy())
    synergy.observe(small.batch(2))
    assert torch.equal(synergy.fisher.values, kept)


def test_the_joint_batch_has_the_last_word_on_running_statistics() -> None:
    config = SynergyConfig(buffer_size=6, minibatch_size=6, fisher_update_freq=0.0)
    synergy, alone = Synergy(config, small.setting(build_net=normalised.build)), normalised.build("net")
    first, second = small.batch(1), small.batch(2)
    synergy.observe(first)
    synergy.observe(second)
    for inputs in (first.inputs, first.inputs, torch.cat([second.inputs, first.inputs])):
        alone(inputs)
    torch.testing.assert_close(normalised.statistics(synergy.net), normalised.statistics(alone))


def test_a_short_average_is_remarked() -> None:
    """284 steps: with the published warm-up the average looks back over all of them, and has seen two fifths."""
    published, ours = method(ema_update_freq=0.4, ema_warmup=1.0), method(ema_update_freq=0.4)
    for synergy in (published, ours):
        synergy.steps = 284
    (remark,) = published.remarks()
    assert "averages over the last 285 updates and has seen 114" in remark and "ema_warmup" in remark
    assert ours.remarks() == []


def test_the_warm_up_is_how_far_the_average_looks_back() -> None:
    assert warm_decay(284, 0.999) == pytest.approx(1 - 1 / 285)
    assert warm_decay(270, 0.999, 30) == pytest.approx(0.9)
    assert warm_decay(10**6, 0.999, 30) == 0.999
