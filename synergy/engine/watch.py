"""The watch over losses: all of them are finite, and nobody waits for the device at every step to know it."""

from __future__ import annotations

import math

import torch

from synergy.errors import TrainingError
from synergy.types import Losses


class LossWatch:
    """Keeps the losses of the latest steps on the device until somebody looks at them.

    Args:
        unit: what a step is called, such as "step" or "batch".
        remedy: what to do if a loss is not finite.

    Examples:
        >>> import torch
        >>> watch = LossWatch("step", "lower --lr")
        >>> watch.add(1, {"loss": torch.tensor(0.5)})
        >>> watch.look()
        {'loss': 0.5}
        >>> watch.add(2, {"loss": torch.tensor(float("inf"))})
        >>> watch.look()
        Traceback (most recent call last):
        synergy.errors.TrainingError: the loss became inf at step 2; lower --lr
    """

    def __init__(self, unit: str, remedy: str) -> None:
        self._unit = unit
        self._remedy = remedy
        self._unseen: list[tuple[int, Losses]] = []
        self.waiting = 0
        """Steps since the last look."""
        self.latest: dict[str, float] = {}
        """The terms of the last loss that was looked at."""

    def add(self, step: int, losses: Losses) -> None:
        """Keep the losses of a step; there are none if the method took no step."""
        self.waiting += 1
        if losses:
            self._unseen.append((step, losses))

    def look(self) -> dict[str, float]:
        """Fetch all losses since the last look at once; the terms of the latest one.

        Raises:
            TrainingError: one is not finite. It names the step and the term.
        """
        unseen, self._unseen, self.waiting = self._unseen, [], 0
        if unseen:
            totals = torch.stack([losses["loss"] for _, losses in unseen]).tolist()
            for total, (step, losses) in zip(totals, unseen, strict=True):
                if not math.isfinite(total):
                    self.latest = _numbers(losses)
                    raise TrainingError(self._complaint(step, self.latest))
            self.latest = _numbers(unseen[-1][1])
        return self.latest

    def _complaint(self, step: int, losses: dict[str, float]) -> str:
        terms = [name for name, value in losses.items() if name != "loss" and not math.isfinite(value)]
        if not terms:
            return f"the loss became {losses['loss']} at {self._unit} {step}; {self._remedy}"
        name = terms[0]
        found = f"the loss term '{name}' became {losses[name]} at {self._unit} {step}"
        return f"{found}; {self._remedy}, or the weight of that term"


def _numbers(losses: Losses) -> dict[str, float]:
    return {name: float(value) for name, value in losses.items()}
