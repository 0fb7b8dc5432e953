"""Robustness: accuracy on images with noise, blur and less contrast, at five strengths.

The kinds of damage are those of Hendrycks and Dietterich 2019, *Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations*; the strengths are for images of up to 64 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.analyses.base import Analysis
from synergy.analyses.trained import TrainedRun, accuracy
from synergy.errors import UsageError
from synergy.options import Options, option
from synergy.randomness import torch_generator
from synergy.runs.findings import Chart, Description, Line, Number
from synergy.types import Split

NOISE = (0.05, 0.1, 0.2, 0.3, 0.4)
"""Standard deviation of the noise on each pixel, of values in [0, 1]."""
BLUR = (0.02, 0.03, 0.045, 0.06, 0.08)
"""Standard deviation of the blur, in widths of the image: 0.6 to 2.2 pixels of MNIST."""
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
"""What is left of a pixel's distance to the mean of its image."""
STRENGTHS = 5


@dataclass(frozen=True)
class RobustnessConfig(Options):
    """Options of the analysis.

    Examples:
        >>> RobustnessConfig().noise_seed
        0
    """

    noise_seed: int = option(0, "seed of the noise", low=0)
    samples: int | None = option(None, "test samples of each split, at most; by default all", low=1)


@dataclass(frozen=True)
class Robustness:
    """Final averages on damaged images.

    Attributes:
        predictors: name -> kind of damage -> final average at strengths 0 (whole images) to 5, percent, `[6]`.

    Examples:
        >>> Robustness({"working": {"blur": (90.0, 80.0, 70.0, 60.0, 50.0, 40.0)}}).predictors["working"]["blur"][0]
        90.0
    """

    predictors: dict[str, dict[str, tuple[float, ...]]]


def robustness(run: TrainedRun, options: RobustnessConfig | None = None) -> Robustness:
    """Final averages on the test images of every task under each kind of damage, at the end of the run.

    The damage is done to what the stream shows: to rotated or permuted images after they were turned or permuted. All
    predictors see the same images. At strength 0 the accuracy is the run's own, to the bit, if all samples
    are taken.

    Raises:
        UsageError: the samples are no images of bytes.
    """
    config = RobustnessConfig() if options is None else options
    splits = run.drawn(config.samples, config.noise_seed)
    for split in splits:
        if split.raw.dtype != torch.uint8 or split.raw.dim() != 4:
            given = f"{split.raw.dtype} {list(split.raw.shape[1:])}"
            raise UsageError(f"robustness: given samples {given}; allowed: images, torch.uint8 [C, H, W]")
    found: dict[str, dict[str, tuple[float, ...]]] = {name: {} for name in run.predictors}
    whole = _judged(run, splits)
    for kind, damage in DAMAGES.items():
        levels = [whole]
        for strength in range(1, STRENGTHS + 1):
            damaged = [
                Split(damage(split.raw, strength, _rng(config, number)), split.labels, split.classes)
                for number, split in enumerate(splits)
            ]
            levels.append(_judged(run, damaged))
        for name in run.predictors:
            found[name][kind] = tuple(level[name] for level in levels)
    return Robustness(found)


def _rng(config: RobustnessConfig, split: int) -> torch.Generator:
    """Equal for all strengths: noise grows, and does not change otherwise."""
    return torch_generator(config.noise_seed, f"robustness/{split}")


def _judged(run: TrainedRun, splits: list[Split]) -> dict[str, float]:
    """The final average of each predictor, percent."""
    return {
        name: run.average([accuracy(run.logits(name, split), split.labels.cpu()) for split in splits])
        for name in run.predictors
    }


def with_noise(raw: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Gaussian noise on every pixel of `uint8 [N, C, H, W]`.

    Examples:
        >>> image = torch.full((1, 1, 8, 8), 128, dtype=torch.uint8)
        >>> with_noise(image, 1, torch.Generator().manual_seed(0)).float().std() < 20
        tensor(True)
    """
    noise = torch.randn(raw.shape, generator=generator).to(raw.device)
    return _bytes(raw + 255 * NOISE[strength - 1] * noise)


def blurred(raw: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """A Gaussian blur of `uint8 [N, C, H, W]`; the border is mirrored.

    Examples:
        >>> image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
        >>> image[0, 0, 4, 4] = 200
        >>> blurred(image, 5, torch.Generator())[0, 0, 4, 3:6].tolist()
        [23, 61, 23]
    """
    width = raw.shape[-1]
    deviation = BLUR[strength - 1] * width
    reach = min(width - 1, raw.shape[-2] - 1, max(1, round(3 * deviation)))
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32, device=raw.device)
    weights = torch.exp(-0.5 * (steps / deviation).square())
    weights = weights / weights.sum()
    images = raw.flatten(0, 1).unsqueeze(1).float()
    padded = F.pad(images, (reach, reach, reach, reach), mode="reflect")
    across = F.conv2d(padded, weights.view(1, 1, 1, -1))
    return _bytes(F.conv2d(across, weights.view(1, 1, -1, 1))).view(raw.shape)


def with_less_contrast(raw: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Pixels of `uint8 [N, C, H, W]` nearer to the mean of their channel.

    Examples:
        >>> image = torch.tensor([0, 200], dtype=torch.uint8).view(1, 1, 1, 2)
        >>> with_less_contrast(image, 2, torch.Generator()).flatten().tolist()
        [50, 150]
    """
    means = raw.float().mean((2, 3), keepdim=True)
    return _bytes(means + CONTRAST[strength - 1] * (raw - means))


Damage = Callable[[Tensor, int, torch.Generator], Tensor]
DAMAGES: Mapping[str, Damage] = {"noise": with_noise, "blur": blurred, "contrast": with_less_contrast}
"""By name: from images, a strength from 1 to 5, and a generator to damaged images."""


def _bytes(values: Tensor) -> Tensor:
    return values.round_().clamp_(0, 255).to(torch.uint8)


def described(result: Robustness) -> Description:
    """What to show: a chart for each kind of damage, and the mean over its strengths."""
    strengths = tuple(float(strength) for strength in range(STRENGTHS + 1))
    charts, numbers = [], []
    for kind in DAMAGES:
        lines = tuple(Line(name, strengths, kinds[kind]) for name, kinds in result.predictors.items())
        charts.append(Chart(f"robustness: {kind}", "strength", "final average, %", lines))
        for name, kinds in result.predictors.items():
            numbers.append(Number(f"{kind}: mean over five strengths, %", name, sum(kinds[kind][1:]) / STRENGTHS))
    return Description(tuple(numbers), tuple(charts))


ANALYSIS = Analysis("robustness", "what does it know of damaged images?", RobustnessConfig, robustness, described)
