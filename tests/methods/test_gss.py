"""GSS: the scores one at a time, and steps by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from synergy.methods.gss import FIRST_SCORE, GSS, GssConfig
from tests.methods import small


def method(**changes: int) -> GSS:
    options = {"buffer_size": 10, "minibatch_size": 4, "gss_minibatch_size": 5} | changes
    return GSS(GssConfig(lr=0.5, **options), small.setting())


def test_scores_are_those_of_gradients_taken_one_at_a_time() -> None:
    gss = method()
    gss.observe(small.batch(1))
    stored = gss.memory.draw(5, gss.setting.rng("comparison"))
    second = small.batch(2)
    gss.observe(second)

    net = small.twin(gss.net)

    def score(raw: torch.Tensor, labels: torch.Tensor) -> float:
        of_new = small.gradient(net, F.cross_entropy(net(small.VIEW.plain(raw)), labels))
        cosines = []
        for x, y in zip(stored.raw.split(1), stored.labels.split(1), strict=True):
            of_stored = small.gradient(net, F.cross_entropy(net(small.VIEW.plain(x)), y))
            cosines.append(float(of_new @ of_stored / (of_new.norm() * of_stored.norm())))
        return 1 + max(cosines)

    by_hand = [score(x, y) for x, y in zip(second.raw.split(1), second.labels.split(1), strict=True)]
    assert gss.memory.scores[:6].tolist() == [FIRST_SCORE] * 6
    assert gss.memory.scores[6:].tolist() == pytest.approx(by_hand[:4], rel=1e-9)


def test_a_full_memory_is_offered_the_score_of_the_mean_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    gss = method(gss_minibatch_size=10, buffer_size=6)
    gss.observe(small.batch(1))
    offered: list[tuple[np.ndarray[tuple[int], np.dtype[np.float64]], float]] = []
    monkeypatch.setattr(gss.memory, "offer", lambda samples, scores, of_batch: offered.append((scores, of_batch)))
    stored, second = gss.memory.store.all(), small.batch(2)
    gss.observe(second)
    net = small.twin(gss.net)
    of_batch = small.gradient(net, F.cross_entropy(net(second.inputs), second.labels))
    of_stored = [
        small.gradient(net, F.cross_entropy(net(small.VIEW.plain(x)), y))
        for x, y in zip(stored.raw.split(1), stored.labels.split(1), strict=True)
    ]
    cosines = [float(of_batch @ g / (of_batch.norm() * g.norm())) for g in of_stored]
    ((scores, batch_score),) = offered
    assert scores.shape == (6,)
    assert batch_score == pytest.approx(1 + max(cosines), rel=1e-9)


def test_every_batch_is_trained_several_times_with_fresh_draws() -> None:
    gss = method(batch_num=3)
    by_hand, first, second = small.twin(gss.net), small.batch(1), small.batch(2)
    for _ in range(3):
        small.step(by_hand, F.cross_entropy(by_hand(first.inputs), first.labels), lr=0.5)
    gss.observe(first)
    small.assert_same_weights(gss.net, by_hand)

    rng = gss.setting.rng("replay")
    for _ in range(3):
        drawn = rng.choice(6, size=4, replace=False, shuffle=False)
        inputs = torch.cat([second.inputs, first.inputs[drawn]])
        labels = torch.cat([second.labels, first.labels[drawn]])
        loss = F.cross_entropy(by_hand(inputs), labels)
        small.step(by_hand, loss, lr=0.5)
    losses = gss.observe(second).losses
    torch.testing.assert_close(losses["loss"], loss.detach())
    small.assert_same_weights(gss.net, by_hand)
