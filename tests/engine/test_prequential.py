"""The running means against their definition, and that nothing waits unseen."""

from __future__ import annotations

import pytest
import torch

from synergy.engine.prequential import FADING, WAITING, Prequential, hits, squared_errors


def plain() -> Prequential:
    """The answer is the score."""
    return Prequential(lambda answers, targets: answers[:, 0])


def add(prequential: Prequential, score: float, n: int) -> None:
    """A batch whose scores have the sum `score`."""
    prequential.add(torch.full((n, 1), score / n), torch.zeros(n))


def filled(scores: list[float], sizes: list[int]) -> Prequential:
    prequential = plain()
    for score, n in zip(scores, sizes, strict=True):
        add(prequential, score, n)
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
    assert plain().mean() is None and plain().recent() is None


def test_looking_and_saving_change_no_bit() -> None:
    scores, sizes = [0.1 * (number % 7) for number in range(250)], [3] * 250
    looked, restored = plain(), plain()
    for number, (score, n) in enumerate(zip(scores, sizes, strict=True)):
        add(looked, score, n)
        add(restored, score, n)
        if number % 13 == 0:
            looked.mean()
            state = restored.state_dict()
            restored = plain()
            add(restored, 5.0, 1)  # must be gone when the state is taken up
            restored.load_state_dict(state)
    expected = filled(scores, sizes).state_dict()
    assert looked.state_dict() == restored.state_dict() == expected


def test_no_more_scores_wait_than_are_meant_to() -> None:
    prequential = filled([1.0] * (2 * WAITING + 3), [1] * (2 * WAITING + 3))
    assert len(prequential._waiting) == 3


def test_only_the_batch_and_what_is_known_counts() -> None:
    """Rows beyond the targets and columns beyond the known ones say nothing, whatever the width of the outputs."""
    prequential = Prequential(hits)
    for outputs, known in (
        ([[1.0, 9.0], [0.0, 0.0]], 1),
        ([[1.0, 9.0, 9.0]], 1),
        ([[1.0, 2.0, 9.0], [7.0, 0.0, 0.0]], 2),
    ):
        prequential.add(torch.tensor(outputs), torch.tensor([0]), known)
    assert prequential.mean() == pytest.approx(2 / 3)


def test_the_first_of_the_highest_is_the_answer() -> None:
    scores = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0], [3.0, 1.0, 3.0]])
    assert hits(scores, torch.tensor([0, 1, 0])).all()
    assert not hits(scores, torch.tensor([1, 2, 2])).any()


def test_what_was_given_may_be_written_to_afterwards() -> None:
    prequential, outputs, targets = Prequential(squared_errors), torch.ones(2, 1), torch.zeros(2, 1)
    prequential.add(outputs, targets)
    outputs.fill_(5), targets.fill_(9)
    assert prequential.mean() == 1


def test_squared_errors_of_single_numbers() -> None:
    assert squared_errors(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 5.0])).tolist() == [4.0, 0.0]


def test_squared_errors_are_means_over_elements() -> None:
    answers, targets = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    assert squared_errors(answers, targets).tolist() == [2.5, 2.0]
