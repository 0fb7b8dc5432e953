"""Trained runs, made once."""

from __future__ import annotations

import pytest

from synergy.analyses.trained import TrainedRun, trained_run
from tests.analyses.runs import finished


@pytest.fixture(scope="session")
def split_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """Class-incremental, two predictors, all tasks."""
    return trained_run(finished(tmp_path_factory.mktemp("runs"), "seq-digits", "synergy", fisher_update_freq=0.2))


@pytest.fixture(scope="session")
def rotated_run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """Domain-incremental, one predictor, three of four tasks."""
    options = {"n_tasks": 4, "max_tasks": 3}
    return trained_run(finished(tmp_path_factory.mktemp("runs"), "rot-digits", "er", **options))
