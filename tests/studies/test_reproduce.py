"""Which runs a published table needs, and how a number stands beside the published one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synergy.errors import UsageError
from synergy.presets.published import PublishedResult, results
from synergy.studies.grid import planned
from synergy.studies.reproduce import TABLES, Cell, Row, compared, reproduction
from synergy.terminal import reproduce as command

FOLDER = Path("nowhere")


def cells(table: str, **how: Any) -> list[str]:
    return [cell.name for cell in reproduction(table, FOLDER, **how).cells]


def published(mean: float, sd: float | None) -> PublishedResult:
    return PublishedResult("rot-mnist", "er", 500, "final_average", "working", "domain-IL", mean, sd, 10, "Somebody")


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("quick", [False, True])
def test_every_table_is_a_study_of_its_cells_with_tuned_values(table: str, quick: bool) -> None:
    wanted = reproduction(table, FOLDER, quick=quick)
    runs = planned(wanted.request).runs
    tuned = [cell for cell in wanted.cells if cell.tuned is not None]
    assert len(runs) == len(tuned) * (1 if quick else 3)
    for cell in tuned:
        of_cell = [run for run in runs if cell.fits(run.config)]
        assert {run.config.training.seed for run in of_cell} == ({0} if quick else {0, 1, 2})
    for run in runs:
        origins = set(run.config.provenance.values())
        assert any(origin.startswith("preset: ") for origin in origins), run.name
        assert run.config.partial == (quick and bool(TABLES[table].quick))


def test_a_cell_stands_for_one_set_of_options() -> None:
    assert cells("rot-mnist", models=["er", "si"], buffer_sizes=[500]) == [
        "er, buffer 500",
        "er, buffer 500, 20 rotation_angles",
        "si",
    ]
    assert cells("seq-cifar10", models=["synergy"], buffer_sizes=[500]) == [
        "synergy, buffer 500",
        "synergy, buffer 500, penalty_weight 0.0",
    ]
    assert cells("gcil", models=["clser"], buffer_sizes=[200]) == [
        "clser, buffer 200, weight_dist unif",
        "clser, buffer 200, weight_dist longtail",
    ]


def test_the_runs_of_a_cell_have_its_options() -> None:
    wanted = reproduction("rot-mnist", FOLDER, models=["er", "synergy"], buffer_sizes=[200, 500], seeds="0")
    angles = [run.config.scenario.as_mapping().get("rotation_angles") for run in planned(wanted.request).runs]
    assert sum(each is None for each in angles) == 4 and sum(each is not None for each in angles) == 2
    known = results("rot-mnist", "synergy", buffer_size=500)[0].options["rotation_angles"]
    assert {tuple(each) for each in angles if each is not None} == {known}


def test_published_results_stand_in_the_cell_of_their_options() -> None:
    plain, given = reproduction("rot-mnist", FOLDER, models=["er"], buffer_sizes=[500]).cells
    assert [each.mean for each in plain.published] == [88.91]
    assert [each.runs for each in given.published] == [2]
    unif, longtail = reproduction("gcil", FOLDER, models=["er"], buffer_sizes=[500]).cells
    assert [each.mean for cell in (unif, longtail) for each in cell.published] == [28.21, 20.30]


def test_what_has_no_tuned_values_is_not_run() -> None:
    wanted = reproduction("rot-mnist", FOLDER, models=["gss", "kder"], buffer_sizes=[500])
    assert [(cell.name, cell.tuned is None) for cell in wanted.cells] == [
        ("gss, buffer 500", False),
        ("kder, buffer 500", True),
    ]
    assert {run.config.method_name for run in planned(wanted.request).runs} == {"gss"}
    with pytest.raises(
        UsageError, match=r"no tuned values for kder in table 'rot-mnist'.*methods with tuned values there: agem"
    ):
        reproduction("rot-mnist", FOLDER, models=["kder"])


def test_the_difference_is_in_standard_deviations() -> None:
    cell = Cell("rot-mnist", "er", 500, {}, (), None)
    seeds = {0: 90.0, 1: 92.0}
    row = Row(cell, "working", "domain-IL", seeds, published(88.0, 1.5))
    assert (row.mean, row.difference, row.deviations) == (91.0, 3.0, 2.0)
    ours = Row(cell, "working", "domain-IL", seeds, published(88.0, None))
    assert ours.deviations == pytest.approx(3 / 2**0.5)
    for values, theirs in (({0: 90.0}, published(88.0, None)), (seeds, None), ({}, published(88.0, 1.5))):
        assert Row(cell, "working", "domain-IL", values, theirs).deviations is None
    assert Row(cell, "working", "domain-IL", {0: 88.0, 1: 88.0}, published(87.0, None)).deviations is None


def test_nothing_run_is_nothing_compared(tmp_path: Path) -> None:
    rows, found = compared(reproduction("seq-mnist", tmp_path / "S", models=["clser"]))
    assert found == [] and [row.mean for row in rows] == [None] * 4
    assert [row.published.mean for row in rows if row.published] == [89.54, 97.97, 92.05, 98.95]


def test_an_unknown_table_or_method_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown table 'rot-mnits'; did you mean 'rot-mnist'"):
        reproduction("rot-mnits", FOLDER)
    with pytest.raises(UsageError, match="unknown method 'clsre'; did you mean 'clser'"):
        reproduction("rot-mnist", FOLDER, models=["clsre"])


def test_the_command_names_the_tables_there_are() -> None:
    assert set(command.NAMES) == set(TABLES)
