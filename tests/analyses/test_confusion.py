"""Confusion, counted one sample at a time; its diagonal is the record's accuracy of each class."""

from __future__ import annotations

from synergy.analyses.confusion import confusion, described
from synergy.analyses.trained import TrainedRun


def test_the_counts_are_those_of_a_loop(split_run: TrainedRun) -> None:
    found = confusion(split_run)
    n = len(found.classes)
    counts = [[0] * n for _ in range(n)]
    for split in split_run.splits:
        for scores, label in zip(split_run.logits("working", split).tolist(), split.labels.tolist(), strict=True):
            counts[label][scores.index(max(scores))] += 1
    assert found.counts["working"] == tuple(map(tuple, counts))


def test_the_diagonal_is_the_accuracy_of_each_class_to_the_bit(split_run: TrainedRun, rotated_run: TrainedRun) -> None:
    for run in (split_run, rotated_run):
        for grid in described(confusion(run)).grids:
            per_class = run.record.find(grid.predictor, run.protocol).per_class
            assert {str(label): row[label] for label, row in enumerate(grid.values)} == per_class


def test_rows_and_columns_have_the_names_of_classes(rotated_run: TrainedRun) -> None:
    assert confusion(rotated_run).classes == tuple(str(digit) for digit in range(10))
