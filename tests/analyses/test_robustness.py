"""Damaged images, against slow oracles; whole ones give the run's own accuracy."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from synergy.analyses.robustness import BLUR, CONTRAST, DAMAGES, NOISE, described, robustness
from synergy.analyses.trained import TrainedRun
from synergy.errors import UsageError
from synergy.types import Split


def images(n: int = 2, size: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 1, size, size), generator=generator, dtype=torch.uint8)


def test_whole_images_give_the_runs_own_accuracy_to_the_bit(split_run: TrainedRun, rotated_run: TrainedRun) -> None:
    for run in (split_run, rotated_run):
        for name, kinds in robustness(run).predictors.items():
            own = run.record.find(name, run.protocol).metrics["final_average"]
            assert [levels[0] for levels in kinds.values()] == [own] * 3
            assert all(len(levels) == 6 for levels in kinds.values())
            assert kinds["noise"][5] < own


def test_two_times_are_one_result(split_run: TrainedRun) -> None:
    assert robustness(split_run) == robustness(split_run)


@pytest.mark.parametrize("strength", [1, 3, 5])
def test_blur_is_a_weighted_mean_of_the_neighbours(strength: int) -> None:
    raw = images()
    size, deviation = raw.shape[-1], BLUR[strength - 1] * raw.shape[-1]
    reach = max(1, round(3 * deviation))
    weights = [math.exp(-0.5 * (step / deviation) ** 2) for step in range(-reach, reach + 1)]

    def at(position: int) -> int:
        inside = abs(position)
        return inside if inside < size else 2 * (size - 1) - inside

    found = DAMAGES["blur"](raw, strength, torch.Generator())
    for y in range(size):
        for x in range(size):
            total = sum(
                weights[i] * weights[j] * float(raw[1, 0, at(y + i - reach), at(x + j - reach)])
                for i in range(len(weights))
                for j in range(len(weights))
            )
            assert abs(float(found[1, 0, y, x]) - total / sum(weights) ** 2) <= 0.51


def test_contrast_and_noise_are_of_the_size_they_say() -> None:
    raw = torch.full((1, 1, 200, 200), 128, dtype=torch.uint8)
    for strength in range(1, 6):
        noise = DAMAGES["noise"](raw, strength, torch.Generator().manual_seed(0)).float() - 128
        if strength <= 3:  # stronger noise is cut off at black and white
            assert noise.std().item() == pytest.approx(255 * NOISE[strength - 1], rel=0.03)
        pair = torch.tensor([20, 220], dtype=torch.uint8).view(1, 1, 1, 2)
        found = DAMAGES["contrast"](pair, strength, torch.Generator()).flatten().tolist()
        assert found == [round(120 - 100 * CONTRAST[strength - 1]), round(120 + 100 * CONTRAST[strength - 1])]


def test_damage_grows_with_its_strength_and_leaves_the_images_alone() -> None:
    raw = images(20, 28)
    before = raw.clone()
    for kind, damage in DAMAGES.items():
        sizes = [
            (damage(raw, strength, torch.Generator().manual_seed(0)).float() - raw.float()).square().mean().item()
            for strength in range(1, 6)
        ]
        assert sizes == sorted(sizes), kind
    assert torch.equal(raw, before)


def test_other_samples_than_images_are_refused(split_run: TrainedRun) -> None:
    run = replace(split_run)
    vars(run)["splits"] = [Split(torch.zeros(2, 3), torch.tensor([0, 1]), (0, 1))]
    with pytest.raises(UsageError, match=r"robustness: given samples torch.float32 \[3\]"):
        robustness(run)


def test_the_number_is_the_mean_over_strengths(split_run: TrainedRun) -> None:
    result = robustness(split_run)
    number = described(result).numbers[0]
    assert number.value == pytest.approx(sum(result.predictors["semantic"]["noise"][1:]) / 5)
