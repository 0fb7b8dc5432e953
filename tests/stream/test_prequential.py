"""The running means against their definition, and that nothing waits unseen."""

from __future__ import annotations

import pytest
import torch

from synergy.stream.prequential import FADING, WAITING, Prequential


def filled(scores: list[float], sizes: list[int]) -> Prequential:
    prequential = Prequential()
    for score, n in zip(scores, sizes, strict=True):
        prequential.add(torch.tensor(score), n)
    return prequential


@pytest.mark.parametrize("batches", [1, WAITING - 1, WAITING, WAITING + 1, 3 * WAITING + 7])
def test_means_are_those_of_all_samples(batches: int) -> None:
    sizes = [1 + number % 5 for number in range(batches)]
    scores = [float(number % (size + 1)) for number, size in enumerate(sizes)]
    # Sample by sample: all those of a batch fade together, by the number of samples that came after the batch.
    after = [sum(sizes[number + 1 :]) for number in range(batches)]
    weights = [FADING**n for n in after]
    prequential = filled(scores, sizes)
    assert prequential.mean() == pytest.approx(sum(scores) / sum(sizes))
    faded = sum(weight * score for weight, score in zip(weights, scores, strict=True))
    total = sum(weight * size for weight, size in zip(weights, sizes, strict=True))
    assert prequential.recent() == pytest.approx(faded / total)


def test_before_the_first_sample_there_is_no_mean() -> None:
    assert Prequential().mean() is None and Prequential().recent() is None


def test_looking_and_saving_change_no_bit() -> None:
    scores, sizes = [0.1 * (number % 7) for number in range(250)], [3] * 250
    looked, restored = Prequential(), Prequential()
    for number, (score, n) in enumerate(zip(scores, sizes, strict=True)):
        looked.add(torch.tensor(score), n)
        restored.add(torch.tensor(score), n)
        if number % 13 == 0:
            looked.mean()
            state = restored.state_dict()
            restored = Prequential()
            restored.add(torch.tensor(5.0), 1)  # must be gone when the state is taken up
            restored.load_state_dict(state)
    expected = filled(scores, sizes).state_dict()
    assert looked.state_dict() == restored.state_dict() == expected


def test_no_more_scores_wait_than_are_meant_to() -> None:
    prequential = filled([1.0] * (2 * WAITING + 3), [1] * (2 * WAITING + 3))
    assert len(prequential._waiting) == 3
