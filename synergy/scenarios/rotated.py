"""Domain-incremental stream: every task shows the same images turned by its own fixed angle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from synergy.errors import UsageError
from synergy.ops.rotation import gather_pixels, rotation_index
from synergy.options import option
from synergy.scenarios.base import Scenario, ScenarioConfig, StreamSetting
from synergy.types import ProtocolName, Split, Task


@dataclass(frozen=True)
class RotatedConfig(ScenarioConfig):
    """Options of a rotated stream.

    Examples:
        >>> RotatedConfig(n_tasks=2, rotation_angles=(0, 90)).rotation_angles
        (0.0, 90.0)
    """

    n_tasks: int = option(20, "tasks, each with an angle of its own", low=1, high=1000)
    rotation_angles: tuple[float, ...] | None = option(
        None,
        "angles in degrees, one for each task, or a file of them; by default drawn from U[0, 180)",
        low=-360,
        high=360,
    )


class Rotated(Scenario[RotatedConfig]):
    """`n_tasks` tasks, each all images turned by a fixed angle, counter-clockwise, about the centre, nearest neighbour.

    Reference: Lopez-Paz & Ranzato 2017, "Gradient Episodic Memory for Continual Learning", section 4.1.

    Raises:
        UsageError: the number of angles differs from the number of tasks.

    Examples:
        >>> from synergy import testing
        >>> stream = testing.scenario("rot-digits", options={"n_tasks": 2, "rotation_angles": (0, 90)})
        >>> straight, turned = (stream.task(index).train().raw for index in range(2))
        >>> torch.equal(turned, torch.rot90(straight, 1, (2, 3)))
        True
    """

    Config = RotatedConfig
    protocols: tuple[ProtocolName, ...] = ("domain-IL",)

    def __init__(self, config: RotatedConfig, setting: StreamSetting) -> None:
        super().__init__(config, setting)
        if config.rotation_angles == ():
            raise UsageError("rotation_angles: given none; allowed: one for each task, or leave the option out")
        if config.rotation_angles is not None and len(config.rotation_angles) != config.n_tasks:
            given = len(config.rotation_angles)
            raise UsageError(
                f"rotation_angles: given {given} angles; allowed: one for each of the {config.n_tasks} tasks "
                f"(or add --n_tasks {given})"
            )

    @property
    def n_tasks(self) -> int:
        return self.config.n_tasks

    def task(self, index: int) -> Task:
        return Task(
            index,
            self.train,
            self.shuffled(str(index), len(self.train), drop_last=False),
            transform=lambda raw, _: gather_pixels(raw, self.index_maps[index]),
            earlier=self.earlier(index),
        )

    def tests(self, after: int) -> Sequence[Split]:
        return self._tests

    @cached_property
    def angles(self) -> tuple[float, ...]:
        """Angle of each task, degrees."""
        if self.config.rotation_angles is not None:
            return self.config.rotation_angles
        return tuple(self.setting.rng("angles").uniform(0, 180, self.n_tasks).tolist())

    @cached_property
    def index_maps(self) -> list[Tensor]:
        """For each task: the pixel of the original image that every pixel shows, `int64 [H * W]`."""
        height, width = self.train.raw.shape[2:]
        # Computed on the CPU: an angle turns an image the same way on every device.
        maps = rotation_index(torch.tensor(self.angles, dtype=torch.float64), height, width)
        return list(maps.to(self.setting.device))

    @cached_property
    def _tests(self) -> list[Split]:
        test = self.test
        return [Split(gather_pixels(test.raw, m), test.labels, test.classes) for m in self.index_maps]


class RotatedMnist(Rotated):
    """Rotated MNIST: every task shows all digits turned by its own angle.

    Examples:
        >>> RotatedMnist.dataset, RotatedMnist.default_batch_size
        ('mnist', 128)
    """

    name = "rot-mnist"
    dataset = "mnist"
    default_batch_size = 128


class RotatedDigits(Rotated):
    """Rotated MNIST over the bundled digits of 8x8 pixels.

    Examples:
        >>> RotatedDigits.dataset, RotatedDigits.default_batch_size
        ('digits', 16)
    """

    name = "rot-digits"
    dataset = "digits"
    default_batch_size = 16
