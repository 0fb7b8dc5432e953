"""How well a run predicts its own stream: the accuracy on every batch before it is learned, task by task."""

from __future__ import annotations

import math

from torch import Tensor

from synergy.engine.prequential import Prequential, hits
from synergy.state import State


class OnlineAccuracy:
    """Counts the outputs that steps return. It costs no forward pass, and the device is waited for rarely.

    Attributes:
        tasks: accuracy in each task that is over, in percent; empty if the method returns no outputs.

    Examples:
        >>> import torch
        >>> online = OnlineAccuracy()
        >>> online.add(torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([1, 1]))
        >>> online.end_task()
        >>> online.tasks
        [50.0]
    """

    def __init__(self) -> None:
        self.tasks: list[float] = []
        self._current = Prequential(hits, later=True)

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        """Count outputs `[N, K]`, first those for the labels `int64 [B]`."""
        self._current.add(outputs, labels)

    def end_task(self) -> None:
        """The task is over: keep its accuracy."""
        mean = self._current.mean()
        if mean is not None:
            self.tasks.append(100 * mean)
        self._current = Prequential(hits, later=True)

    def mean(self) -> float | None:
        """Mean over the tasks that are over, in percent; None without any."""
        return sum(self.tasks) / len(self.tasks) if self.tasks else None

    def state_dict(self) -> State:
        return {"tasks": list(self.tasks), "current": self._current.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Go on where the state was taken. Raises ValueError if it holds something else than accuracies."""
        tasks = state["tasks"]
        if not all(isinstance(value, float) and math.isfinite(value) and 0 <= value <= 100 for value in tasks):
            raise ValueError("'online' holds something else than accuracies")
        self._current.load_state_dict(state["current"])
        self.tasks = list(tasks)
