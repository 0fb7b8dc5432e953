"""What a run and a set of records look like in a terminal: plain text, made here and printed by the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Never

from tqdm import tqdm

from synergy.evaluate import Evaluations
from synergy.results import Accuracies, Record
from synergy.run import Prepared, device_name
from synergy.train import Listener
from synergy.types import Task

METRICS = {
    "final_average": "final average",
    "average_over_time": "average over time",
    "forgetting": "forgetting",
    "backward_transfer": "backward transfer",
    "forward_transfer": "forward transfer",
    "plasticity": "plasticity",
    "stability": "stability",
    "trade_off": "trade-off",
}


def table(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """A heading and rows, columns as wide as their widest cell; numbers stand to the right, all else to the left."""
    columns = [_aligned(column) for column in zip(*rows, strict=True)]
    return "\n".join((indent + "  ".join(cells)).rstrip() for cells in zip(*columns, strict=True))


def _aligned(column: Sequence[str]) -> list[str]:
    width = max(len(cell) for cell in column)
    numeric = all(cell == "" or cell[-1].isdigit() or cell.endswith((" s", "-")) for cell in column[1:])
    return [cell.rjust(width) if numeric else cell.ljust(width) for cell in column]


def opening(prepared: Prepared) -> str:
    """The block before training: what is run, on what, and where every value came from."""
    config, source = prepared.config, prepared.source
    values = config.as_mapping()
    data = f"{source.name} ({source.origin}): {source.train_samples} training, {source.test_samples} "
    data += "held-out samples" if config.training.validation else "test samples"
    data += "" if source.complete or config.training.validation else ", a part of the published data set"
    epochs = _count(prepared.schedule.n_epochs, "epoch")
    lines = {
        "scenario": f"{config.scenario_name}, {_count(prepared.scenario.n_tasks, 'task')}{_listed(values['scenario'])}",
        "protocol": ", ".join(prepared.scenario.protocols),
        "data": data,
        "method": f"{config.method_name}{_listed(values['method'])}",
        "net": f"{prepared.net_name}, {prepared.n_parameters:,} parameters",
        "training": f"{epochs}, batch size {config.training.batch_size}" + ", partial" * config.training.partial,
        "device": device_name(prepared.device),
        "seed": str(config.training.seed),
        "values from": ("\n" + 13 * " ").join(_origins(config.provenance)),
    }
    return "\n".join(f"{name:<13}{text}" for name, text in lines.items())


def _listed(options: Mapping[str, object]) -> str:
    return "".join(f", {name} {value}" for name, value in options.items() if name != "name")


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + "s" * (n != 1)


def _origins(provenance: Mapping[str, str]) -> list[str]:
    by_origin: dict[str, list[str]] = {}
    for name, origin in provenance.items():
        by_origin.setdefault(origin, []).append(name)
    ordered = sorted(by_origin, key=lambda origin: (origin.startswith("default"), origin))
    return [f"{origin}: {', '.join(by_origin[origin])}" for origin in ordered]


class Progress(Listener):
    """A bar for each task, and a line with the average accuracies after it.

    Args:
        n_tasks: of the run.
        say: prints a line.
        quiet: no bar, as when the output is not a terminal.
    """

    def __init__(self, n_tasks: int, say: Callable[[str], None], quiet: bool) -> None:
        self._n_tasks = n_tasks
        self._say = say
        self._quiet = quiet
        self._bar: tqdm[Never] | None = None

    def task_begins(self, task: Task, steps: int) -> None:
        name = f"task {task.index + 1}/{self._n_tasks}"
        self._bar = tqdm(total=steps, desc=name, unit="step", disable=self._quiet, leave=False, file=sys.stderr)

    def looked(self, step: int, new_steps: int, losses: dict[str, float]) -> None:
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()}, refresh=False)
            self._bar.update(new_steps)

    def task_ended(self, index: int, evaluations: Evaluations) -> None:
        self.close()
        width = len(str(self._n_tasks))
        averages: dict[str, list[str]] = {}
        for (predictor, protocol), evaluation in evaluations.items():
            seen = evaluation.accuracies[: index + 1]
            averages.setdefault(protocol, []).append(f"{predictor} {sum(seen) / len(seen):.2f}")
        text = "   ".join(f"{protocol}: {', '.join(each)}" for protocol, each in averages.items())
        self._say(f"task {index + 1:>{width}}/{self._n_tasks}  {text or 'no answer before the last task'}")

    def close(self) -> None:
        """Take the bar away, also when a task was not finished."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def closing(record: Record) -> str:
    """The accuracy matrix of the answer, the metrics of every predictor, and what it cost."""
    if not record.accuracies:
        return "nothing was evaluated"
    measured = record.measured
    cost = (
        f"{record.steps} steps in {measured.train_s:.1f} s ({measured.steps_per_s:.0f} steps/s), "
        f"evaluation {measured.evaluate_s:.1f} s, peak memory {measured.peak_memory_mb:.0f} MB"
    )
    return "\n\n".join([matrix(record.answer()), metrics(record), cost])


def matrix(accuracies: Accuracies) -> str:
    """Accuracy on each task seen (columns) after each task (rows)."""
    n = len(accuracies.matrix[0])
    title = f"accuracy of '{accuracies.predictor}' ({accuracies.protocol}), percent: task (column) after task (row)"
    rows = [["", *(str(k + 1) for k in range(n))]]
    for t, row in enumerate(accuracies.matrix):
        rows.append([str(t + 1), *(_number(value, 1) if n == 1 or k <= t else "" for k, value in enumerate(row))])
    return f"{title}\n{table(rows)}"


def metrics(record: Record) -> str:
    """A line for each predictor and protocol."""
    names = [name for name in METRICS if any(name in each.metrics for each in record.accuracies)]
    rows = [["predictor, protocol", *(METRICS[name] for name in names), "calibration error"]]
    for each in record.accuracies:
        values = [_number(each.metrics.get(name)) for name in names]
        rows.append([f"{each.predictor}, {each.protocol}", *values, _number(each.calibration_error)])
    return f"final and over time, percent\n{table(rows)}"


def comparison(records: Sequence[Record]) -> str:
    """A line for each run, with the answer of its recommended predictor under every protocol."""
    names = [name for name in METRICS if any(name in each.metrics for r in records for each in r.accuracies)]
    rows = [["run", "method", "answer", *(METRICS[name] for name in names), "wall time"]]
    for record in records:
        answer = record.answer().predictor
        for each in record.accuracies:
            if each.predictor == answer:
                values = [_number(each.metrics.get(name)) for name in names]
                method = str(record.config["method"]["name"])
                rows.append([_run(record), method, f"{answer}, {each.protocol}", *values, _seconds(record)])
    return table(rows)


def _run(record: Record) -> str:
    return record.run_id + " (partial)" * record.partial


def _seconds(record: Record) -> str:
    return f"{record.measured.wall_s:.1f} s"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
