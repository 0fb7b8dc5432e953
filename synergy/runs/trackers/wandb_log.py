"""Weights & Biases runs. The only file that imports wandb."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any

from synergy.disk import files, strict_json
from synergy.runs.trackers.base import TrackedRun, Tracker, curves, final_numbers, require, results

if TYPE_CHECKING:
    from synergy.runs.evaluate import Evaluations
    from synergy.runs.records import Record

STATE_NAME = "wandb.json"
"""File in a run's folder that says which run of W&B is its own."""


class Wandb(Tracker):
    """Logs the configuration, losses by step, accuracies by task, the final numbers as summary and as a table.

    Project, server and mode are those of W&B's own variables (`WANDB_PROJECT`, by default `synergy`;
    `WANDB_MODE=offline` keeps all on disk). Files lie in `wandb/` in the run's folder. A resumed run goes on under the
    same id; W&B drops what it is told twice, by step.

    Args:
        run: what is logged.

    Examples:
        >>> from synergy.runs.trackers import TRACKER_CLASSES
        >>> TRACKER_CLASSES.load("wandb") is Wandb
        True
    """

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        super().__init__(run)
        known = self._known()
        self._step = run.steps
        self._exit_code = 1
        self._log: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "synergy"),
            name=run.name,
            id=known or self._new(),
            resume=None if known is None else "allow",
            reinit="create_new",  # a run that the user's own script has open goes on
            dir=str(run.folder),
            config=dict(run.config),
            settings=wandb.Settings(console="off", quiet=True),
        )
        for curve, step in (("loss/*", "step"), ("accuracy/*", "task"), ("accuracy_on_task/*", "task")):
            self._log.define_metric(step, hidden=True)
            self._log.define_metric(curve, step_metric=step)

    @classmethod
    def check(cls) -> None:
        require("wandb", "wandb")

    @classmethod
    def failures(cls) -> tuple[type[Exception], ...]:
        import wandb
        from wandb.sdk.mailbox import HandleAbandonedError

        return (wandb.Error, HandleAbandonedError)

    def _known(self) -> str | None:
        try:
            state = strict_json.parse((self.run.folder / STATE_NAME).read_bytes())
            return str(state["id"]) if isinstance(state, dict) else None
        except (OSError, ValueError, LookupError):
            return None

    def _new(self) -> str:
        made = secrets.token_hex(4)
        files.write_atomically(self.run.folder / STATE_NAME, json.dumps({"id": made}) + "\n")
        return made

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        if new_steps:
            self._step = step
            self._log.log({"step": step, **{f"loss/{name}": value for name, value in losses.items()}}, step=step)

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        self._log.log({"task": index + 1, **curves(index, evaluations)}, step=self._step)

    def recorded(self, record: Record) -> None:
        import wandb

        columns, rows = results(record)
        self._log.log({"results": wandb.Table(columns=[*columns], data=rows)}, step=self._step)
        self._log.summary.update(final_numbers(record))
        self._exit_code = 0 if record.status == "finished" else 1

    def close(self) -> None:
        self._log.finish(exit_code=self._exit_code)
