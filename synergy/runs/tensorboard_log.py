"""TensorBoard events of a run. The only file that imports tensorboard."""

from __future__ import annotations

from pathlib import Path

from synergy.errors import UsageError
from synergy.runs.evaluate import Evaluations
from synergy.runs.training import Listener


def check_installed() -> None:
    """Raises UsageError if tensorboard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401 - to see whether it is there
    except ImportError as error:
        reason = "--tensorboard needs tensorboard; install it with: pip install 'synergy-cl[tensorboard]'"
        raise UsageError(reason) from error


class TensorBoard(Listener):
    """Writes losses by step, and the average accuracy over the tasks seen by task.

    Args:
        folder: of the event files; made if it is missing.
        after: the step that a resumed run goes on from; what a file that is there says of later ones counts no more.
    """

    def __init__(self, folder: Path, after: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=None if after is None else after + 1)

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        for name, value in losses.items() if new_steps else ():
            self._writer.add_scalar(f"loss/{name}", value, step)

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        for (predictor, protocol), evaluation in evaluations.items():
            seen = evaluation.accuracies[: index + 1]
            self._writer.add_scalar(f"accuracy/{protocol}/{predictor}", sum(seen) / len(seen), index + 1)
        self._writer.flush()

    def saving(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
