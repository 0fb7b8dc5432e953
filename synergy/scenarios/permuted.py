"""Domain-incremental stream: every task shows the same images with its own fixed permutation of the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from synergy.ops.rotation import gather_pixels
from synergy.options import option
from synergy.scenarios.base import Scenario, ScenarioConfig
from synergy.types import ProtocolName, Split, Task


@dataclass(frozen=True)
class PermutedConfig(ScenarioConfig):
    """Options of a permuted stream.

    Examples:
        >>> PermutedConfig(n_tasks=3)
        PermutedConfig(n_tasks=3)
    """

    n_tasks: int = option(20, "tasks, each with a permutation of its own", low=1, high=1000)


class Permuted(Scenario[PermutedConfig]):
    """`n_tasks` tasks, each a fixed random permutation of the pixels of all images.

    Reference: Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", section 2.1.

    Examples:
        >>> from synergy import testing
        >>> stream = testing.scenario("perm-digits", options={"n_tasks": 3})
        >>> stream.permutations[0].shape, len(stream.tests(0))
        (torch.Size([64]), 3)
    """

    Config = PermutedConfig
    protocols: tuple[ProtocolName, ...] = ("domain-IL",)

    @property
    def n_tasks(self) -> int:
        return self.config.n_tasks

    def task(self, index: int) -> Task:
        return Task(
            index,
            self.train,
            self.shuffled(str(index), len(self.train), drop_last=False),
            transform=lambda raw, _: gather_pixels(raw, self.permutations[index]),
            earlier=self.earlier(index),
        )

    def tests(self, after: int) -> Sequence[Split]:
        return self._tests

    @cached_property
    def permutations(self) -> list[Tensor]:
        """For each task: the pixel of the original image that every pixel shows, `int64 [H * W]`."""
        pixels = self.train.raw[0, 0].numel()
        drawn = [self.setting.rng(f"permutation/{i}").permutation(pixels) for i in range(self.n_tasks)]
        return [torch.from_numpy(permutation).to(self.setting.device) for permutation in drawn]

    @cached_property
    def _tests(self) -> list[Split]:
        test = self.test
        return [Split(gather_pixels(test.raw, p), test.labels, test.classes) for p in self.permutations]


class PermutedMnist(Permuted):
    """Permuted MNIST: every task shows all digits with its own permutation of the pixels.

    Examples:
        >>> PermutedMnist.dataset, PermutedMnist.default_batch_size
        ('mnist', 128)
    """

    name = "perm-mnist"
    dataset = "mnist"
    default_batch_size = 128


class PermutedDigits(Permuted):
    """Permuted MNIST over the bundled digits of 8x8 pixels.

    Examples:
        >>> PermutedDigits.dataset, PermutedDigits.default_batch_size
        ('digits', 16)
    """

    name = "perm-digits"
    dataset = "digits"
    default_batch_size = 16
