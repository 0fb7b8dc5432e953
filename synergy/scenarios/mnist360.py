"""General continual learning: two digits at a time, turning slowly, without boundaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from synergy.ops.rotation import gather_pixels, rotation_index
from synergy.scenarios.base import Scenario, ScenarioConfig, StreamSetting
from synergy.types import ProtocolName, Split, Task

DIGITS = 9
ROUNDS = 3


class Mnist360(Scenario[ScenarioConfig]):
    """Digits 0 to 8 in consecutive pairs, three rounds; every image once, every digit turning once around.

    The images of digit j are cut into 6 parts. A round visits the pairs (0, 1), (1, 2), ..., (7, 8), (8, 0); a visit
    takes one part of each of its two digits. Image k of the N_j images of digit j, in the order of their use, is turned
    by (j - 1) * 60 + k * 360 / N_j degrees. A batch mixes the two digits in proportion to what is left of the parts.
    The test set has all test images of digits 0 to 8, image k of digit j turned by k * 360 / (its test images) degrees.

    Reference: Buzzega et al. 2020, "Dark Experience for General Continual Learning", section 5.1.

    Deviations: the published code draws images with replacement, and some never appear; here each appears once.
    Its network has ten outputs, the tenth without samples; here it has nine.

    Examples:
        >>> [batch.tolist() for batch in mixed(np.array([1, 1]), np.array([2, 2, 2, 2]), 3)]
        [[1, 2, 2], [1, 2, 2]]
    """

    name = "mnist-360"
    dataset = "mnist"
    protocols: tuple[ProtocolName, ...] = ("general",)
    boundaries = False
    default_batch_size = 16

    def __init__(self, config: ScenarioConfig, setting: StreamSetting) -> None:
        super().__init__(config, setting)
        self.train = _first_digits(self.train)
        self.test = _first_digits(self.test)

    @property
    def n_tasks(self) -> int:
        return 1

    @property
    def n_classes(self) -> int:
        return DIGITS

    def task(self, index: int) -> Task:
        return Task(index, self.train, self._order, transform=self._turned)

    def tests(self, after: int) -> Sequence[Split]:
        return self._tests

    @cached_property
    def sequences(self) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
        """For each digit: the indices of its training images in the order of their use."""
        labels = self.train.labels.cpu().numpy()
        return [self.setting.rng(f"images/{j}").permutation(np.flatnonzero(labels == j)) for j in range(DIGITS)]

    @cached_property
    def angles(self) -> Tensor:
        """Angle of each training image, degrees, `float64 [N]`, on the CPU."""
        angles = torch.empty(len(self.train), dtype=torch.float64)
        for digit, sequence in enumerate(self.sequences):
            steps = torch.arange(len(sequence), dtype=torch.float64)
            angles[torch.from_numpy(sequence)] = (digit - 1) * 60 + steps * 360 / len(sequence)
        return angles

    def _order(self, epoch: int) -> Sequence[Tensor]:
        """The same in every epoch: the rotation runs through time, so the order stays."""
        used = [iter(np.array_split(sequence, 2 * ROUNDS)) for sequence in self.sequences]
        pairs = [(j, (j + 1) % DIGITS) for j in range(DIGITS)] * ROUNDS
        batches = (batch for a, b in pairs for batch in mixed(next(used[a]), next(used[b]), self.setting.batch_size))
        return [torch.from_numpy(batch).to(self.setting.device) for batch in batches]

    @cached_property
    def _index(self) -> Tensor:
        """For each training image, the pixel that every pixel shows, `int16 [N, H * W]`."""
        return _index_maps(self.angles, self.train.raw).to(self.setting.device)

    def _turned(self, raw: Tensor, indices: Tensor) -> Tensor:
        return gather_pixels(raw, self._index.index_select(0, indices).long())

    @cached_property
    def _tests(self) -> list[Split]:
        angles = torch.empty(len(self.test), dtype=torch.float64)
        for digit in range(DIGITS):
            of_digit = (self.test.labels.cpu() == digit).nonzero()[:, 0]
            angles[of_digit] = torch.arange(len(of_digit), dtype=torch.float64) * 360 / len(of_digit)
        index = _index_maps(angles, self.test.raw).to(self.setting.device).long()
        return [Split(gather_pixels(self.test.raw, index), self.test.labels, self.test.classes)]


def _first_digits(split: Split) -> Split:
    return split.select((split.labels < DIGITS).nonzero()[:, 0], tuple(range(DIGITS)))


def _index_maps(angles: Tensor, images: Tensor) -> Tensor:
    height, width = images.shape[2:]
    # A few images at a time: the float64 coordinates of all take eight times the memory of the result.
    return torch.cat([rotation_index(part, height, width).to(torch.int16) for part in angles.split(512)])


def mixed(
    one: np.ndarray[tuple[int], np.dtype[np.int64]], other: np.ndarray[tuple[int], np.dtype[np.int64]], size: int
) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Batches of `size` from both, in proportion to what is left; the last one may be smaller."""
    while len(one) + len(other):
        taken = min(size, len(one) + len(other))
        share = int(taken * len(one) / (len(one) + len(other)) + 0.5)
        yield np.concatenate([one[:share], other[: taken - share]])
        one, other = one[share:], other[taken - share :]
