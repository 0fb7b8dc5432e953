"""ESMER: scaling, selection and running mean by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.methods.base import Answer
from synergy.methods.esmer import ESMER, EsmerConfig, usual_mean
from synergy.ops.vectors import parameter_vector
from tests.methods import small


def method(**changes: float) -> ESMER:
    options = {"buffer_size": 50, "minibatch_size": 50, "ema_model_update_freq": 1.0, "loss_margin": 0.9} | changes
    return ESMER(EsmerConfig.from_mapping({"lr": 0.5, "reg_weight": 0.3, **options}, "this test"), small.setting())


def averaged(old: nn.Module, new: nn.Module, decay: float) -> None:
    theta = decay * parameter_vector(old) + (1 - decay) * parameter_vector(new)
    nn.utils.vector_to_parameters(theta, old.parameters())


@pytest.mark.parametrize(("ema_alpha", "loss_alpha"), [(0.999, 0.99), (0.6, 0.55)])
def test_four_steps_by_hand(ema_alpha: float, loss_alpha: float) -> None:
    esmer = method(ema_model_alpha=ema_alpha, loss_alpha=loss_alpha, ema_warmup=1.0)
    net, phi = small.twin(esmer.net), small.twin(esmer.net)
    mu, memory_x, memory_y = 0.0, list[Tensor](), list[Tensor]()
    scaled = 0
    for t in range(1, 5):
        batch = small.batch(t)
        terms, offered, surprises = [], [], []
        for x, y in zip(batch.inputs, batch.labels, strict=True):
            surprise = F.cross_entropy(phi(x[None]), y[None]).item()
            large = t > 1 and surprise > 0.9 * mu
            scaled += large
            terms.append(F.cross_entropy(net(x[None]), y[None]) * (mu / surprise if large else 1.0))
            surprises.append(surprise)
            if not large:
                offered.append((x, y))
        loss = torch.stack(terms).mean()
        if memory_x:
            x_m, y_m = torch.stack(memory_x), torch.stack(memory_y)
            loss = loss + F.cross_entropy(net(x_m), y_m) + 0.3 * (net(x_m) - phi(x_m).detach()).square().mean()
        small.step(net, loss, lr=0.5)
        memory_x += [x for x, _ in offered]
        memory_y += [y for _, y in offered]
        averaged(phi, net, decay=min(1 - 1 / (t + 1), ema_alpha))
        values = torch.tensor(surprises, dtype=torch.float64)
        usual = values[values <= values.mean() + values.std()]
        decay = min(1 - 1 / t, loss_alpha)
        mu = decay * mu + (1 - decay) * float(usual.mean())

        ours = esmer.observe(batch).losses
        torch.testing.assert_close(ours["loss"], loss.detach())
        small.assert_same_weights(esmer.net, net)
        small.assert_same_weights(esmer.averaged, phi)
        assert float(esmer.mean_loss) == pytest.approx(mu, rel=1e-12)
        stored = esmer.memory.all()
        assert torch.equal(small.VIEW.plain(stored.raw), torch.stack(memory_x))
        assert torch.equal(stored.labels, torch.stack(memory_y))
    assert 0 < scaled < 18, "the test needs samples of both kinds"


def test_the_averaged_network_answers() -> None:
    esmer = method()
    assert {name: answer.net for name, answer in esmer.predictors().items() if isinstance(answer, Answer)} == {
        "averaged": esmer.averaged,
        "working": esmer.net,
    }
    assert next(iter(esmer.predictors())) == "averaged"


def test_a_wide_margin_is_plain_replay() -> None:
    esmer = method(loss_margin=1e6, reg_weight=0.0)
    net = small.twin(esmer.net)
    first, second = small.batch(1), small.batch(2)
    small.step(net, F.cross_entropy(net(first.inputs), first.labels), lr=0.5)
    on_both = F.cross_entropy(net(second.inputs), second.labels) + F.cross_entropy(net(first.inputs), first.labels)
    small.step(net, on_both, lr=0.5)
    esmer.observe(first)
    esmer.observe(second)
    small.assert_same_weights(esmer.net, net)
    assert len(esmer.memory) == 12


def test_nothing_is_offered_where_all_losses_are_large() -> None:
    esmer = method(loss_margin=0.0)
    esmer.observe(small.batch(1))
    esmer.observe(small.batch(2))
    assert torch.equal(esmer.memory.all().raw, small.batch(1).raw)


@pytest.mark.parametrize(
    ("losses", "margin", "expected"),
    [([1.0, 1.0, 1.0, 9.0], 1.0, 1.0), ([1.0, 1.0, 1.0, 9.0], 2.0, 3.0), ([0.3] * 6, 0.0, 0.3), ([2.5], 1.0, 2.5)],
)
def test_outliers_do_not_count(losses: list[float], margin: float, expected: float) -> None:
    assert float(usual_mean(torch.tensor(losses), margin)) == pytest.approx(expected)


def test_with_batch_norm_stream_and_replay_are_passes_of_their_own() -> None:
    def build(name: str) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), small.build_net(name)).double()

    esmer = ESMER(
        EsmerConfig(buffer_size=50, minibatch_size=50, ema_model_update_freq=0.0), small.setting(build_net=build)
    )
    alone = build("net")
    first, second = small.batch(1), small.batch(2)
    esmer.observe(first)
    esmer.observe(second)
    for inputs in (first.inputs, second.inputs, first.inputs):
        alone(inputs)
    for net in (esmer.net, esmer.averaged):
        ours, expected = net.get_submodule("1"), alone.get_submodule("1")
        assert isinstance(ours, nn.BatchNorm1d) and isinstance(expected, nn.BatchNorm1d)
        assert ours.running_mean is not None and expected.running_mean is not None
        torch.testing.assert_close(ours.running_mean, expected.running_mean)
