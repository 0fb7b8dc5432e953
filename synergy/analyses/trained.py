"""A finished run as its last checkpoint holds it: the networks that answer, and the data they are judged on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synergy.device import exactness
from synergy.disk import checkpoint
from synergy.disk.series import Series, progress
from synergy.errors import UsageError, unknown
from synergy.methods.base import Answer, Method
from synergy.randomness import generator
from synergy.runs import metrics, records
from synergy.runs.config import CONFIG_NAME, RunConfig
from synergy.runs.config_file import read_config
from synergy.runs.evaluate import answered, batch_size, own_classes
from synergy.runs.folder import shell_word
from synergy.runs.prepare import Prepared, prepare
from synergy.runs.records import Record
from synergy.runs.resume import check_origin, origin_of
from synergy.runs.session import CHECKPOINTS_NAME, Session, accuracies, origin
from synergy.state import restore_fresh
from synergy.types import Predictor, ProtocolName, Split


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, restored from the checkpoint of its end.

    Attributes:
        folder: of the run.
        record: of the run.
        session: as the run ended.

    Examples:
        >>> from synergy.runs.config import build
        >>> from synergy.runs.session import execute
        >>> options = {"max_tasks": 2, "max_steps_per_task": 4, "checkpoint_every": 100}
        >>> record, folder = execute(prepare(build("seq-digits", "er", options)))
        >>> run = trained_run(folder)
        >>> list(run.predictors), run.protocol, len(run.splits)
        (['working'], 'class-IL', 2)
        >>> run.average(run.scores("working")) == record.answer().metrics["final_average"]
        True
    """

    folder: Path
    record: Record
    session: Session

    @property
    def prepared(self) -> Prepared:
        """The parts of the run."""
        return self.session.prepared

    @property
    def protocol(self) -> ProtocolName:
        """That of the run's result."""
        return self.record.answer().protocol

    @property
    def tasks(self) -> int:
        """Tasks that were learned."""
        return len(self.record.answer().matrix)

    @cached_property
    def predictors(self) -> dict[str, Predictor]:
        """What answers, by name, the recommended one first."""
        return self.prepared.worker.predictors()

    @cached_property
    def splits(self) -> list[Split]:
        """The test data at the end, a split for each column of the accuracy matrix."""
        return list(self.session.training.tests(self.tasks - 1))

    def drawn(self, most: int | None, seed: int) -> list[Split]:
        """The test data, of each split at most so many samples, drawn at random; all of it for None."""
        if most is None:
            return self.splits
        found = []
        for number, split in enumerate(self.splits):
            order = generator(seed, f"analyses/samples/{number}").permutation(len(split))
            found.append(split.select(torch.from_numpy(np.sort(order[:most])).to(split.labels.device)))
        return found

    def nets(self, analysis: str) -> dict[str, nn.Module]:
        """The networks whose outputs are answers, by predictor.

        Raises:
            UsageError: no answer of the method is the output of a network.
        """
        nets = {name: each.net for name, each in self.predictors.items() if isinstance(each, Answer)}
        if not nets:
            names = ", ".join(self.predictors)
            method = self.record.name_of("method")
            raise UsageError(
                f"{analysis}: given {method}, whose {names} is no plain network; allowed: methods with one"
            )
        return nets

    def logits(self, predictor: str, split: Split) -> Tensor:
        """The scores of a split under the run's protocol, float `[N, n_classes]`, on the host.

        Raises:
            UsageError: there is no such predictor.
        """
        if predictor not in self.predictors:
            raise unknown(f"predictor of run {self.record.run_id}", predictor, self.predictors)
        view, answer = self.prepared.scenario.view, self.predictors[predictor]
        size, parts = batch_size(split, view), []
        with exactness(self.prepared.worker.means.precision), self.prepared.worker.context(), torch.no_grad():
            for start in range(0, len(split), size):
                scores = answer(view.plain(split.raw[start : start + size]))
                parts.append((own_classes(scores, split.classes) if self.protocol == "task-IL" else scores).cpu())
        return torch.cat(parts)

    def scores(self, predictor: str) -> list[float]:
        """The accuracy on each split, percent, `[K]`: to the bit that of the record."""
        return [accuracy(self.logits(predictor, split), split.labels) for split in self.splits]

    def average(self, of_splits: list[float]) -> float:
        """The final average of accuracies on the splits, percent, as the record takes it."""
        unknown_row: list[float | None] = [None] * len(of_splits)
        value = metrics.final_average([*[unknown_row] * (self.tasks - 1), [*of_splits]])
        assert value is not None, "the last row is whole"
        return value

    def class_names(self) -> list[str]:
        """The name of each class of the stream."""
        return [self.record.class_name(str(label)) for label in range(self.prepared.scenario.n_classes)]

    def after_tasks(self) -> Iterator[tuple[int, Method[Any]]]:
        """The method after each task whose checkpoint is still there: how many tasks it has learned, and itself."""
        for path in reversed(self.session.checkpoints.newest_first()):
            session = _restored(self.prepared.config, self.folder, path)
            if session.training.taken == 0 and session.training.task > 0:
                yield session.training.task, session.training.method


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Percent of samples whose greatest score is that of their label: logits `[N, n_classes]`, labels `int64 [N]`.

    Examples:
        >>> accuracy(torch.tensor([[2.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1]))
        50.0
    """
    correct = int((answered(logits)[1] == labels.to(logits.device)).sum())
    return 100 * correct / len(labels)


def trained_run(folder: Path, *, data_dir: str | None = None, device: str | None = None) -> TrainedRun:
    """Open a finished run.

    Args:
        folder: of the run.
        data_dir: where the data are, if not where they were.
        device: where to compute, if not where the run did.

    Raises:
        UsageError: there is no run, it has not finished, it kept no checkpoint, or data or configuration have changed.
    """
    record = records.read(folder)
    if record.status != "finished":
        raise UsageError(f"{folder}: the run is {record.status}; allowed: a finished run")
    config = read_config(folder / CONFIG_NAME)
    # A log of the run is no business of an analysis.
    config = replace(config, output=replace(config.output, csv_log=False, tensorboard=False))
    elsewhere: Mapping[str, Any] = {"data_dir": data_dir, "device": device}
    changes = {name: value for name, value in elsewhere.items() if value is not None}
    config = replace(config, training=replace(config.training, **changes))
    session = _restored(config, folder, _last(folder, record))
    if accuracies(session.training) != record.accuracies:
        raise UsageError(f"{folder}: its last checkpoint has other accuracies than its record; run it again")
    return TrainedRun(folder, record, session)


def _last(folder: Path, record: Record) -> Path:
    """The checkpoint of the end. Raises UsageError if there is none."""
    end = record.steps, len(record.answer().matrix)
    for path in Series(folder / CHECKPOINTS_NAME, 1).newest_first():
        if progress(path) == end:
            return path
    again = f"synergy run --config {shell_word(folder)} --checkpoint_every 1000"
    raise UsageError(f"{folder}: it has no checkpoint of its end; make one with: {again}")


def _restored(config: RunConfig, folder: Path, path: Path) -> Session:
    """The run as a checkpoint holds it."""
    session, what = Session(prepare(config), folder), f"checkpoint {path}"
    state = checkpoint.read(path, session.prepared.device)
    check_origin(origin_of(state, what), origin(session.prepared), what)
    restore_fresh(session, state, what)
    return session
