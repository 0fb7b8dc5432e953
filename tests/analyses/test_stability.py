"""What was learned and kept, beside the metrics of the record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synergy.analyses.stability import stability, stability_of
from synergy.analyses.trained import TrainedRun
from synergy.errors import UsageError


def test_learned_and_kept_are_the_diagonal_and_the_last_row(split_run: TrainedRun) -> None:
    found = stability(split_run).predictors
    assert list(found) == ["semantic", "working"]
    for name, each in found.items():
        judged = split_run.record.find(name, "class-IL")
        assert each.learned == tuple(row[t] for t, row in enumerate(judged.matrix))
        assert each.kept == judged.matrix[-1]
        metrics = [judged.metrics[metric] for metric in ("plasticity", "stability", "trade_off")]
        assert [each.plasticity, each.stability, each.trade_off] == metrics


def test_one_test_split_is_no_stability(split_run: TrainedRun) -> None:
    answer = split_run.record.answer()
    one = replace(split_run.record, accuracies=(replace(answer, matrix=((50.0,), (60.0,))),))
    with pytest.raises(UsageError, match="stability: given 2 tasks with 1 test splits"):
        stability_of(one)
