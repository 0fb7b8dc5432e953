"""Runs that differ in their seed are a group; what else differs is in its name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synergy.errors import UsageError
from synergy.report.courses import course, group_course
from synergy.report.groups import Choice, by_stream, check_choice, compared, groups
from synergy.report.statistics import Interval, mean_interval
from synergy.runs import metrics
from tests.report.runs import made


def test_seeds_are_one_group_and_the_last_run_of_a_seed_counts() -> None:
    again = made(seed=1, final=70.0, measured=replace(made(seed=9).measured, wall_s=5.0))
    failed = made(seed=2, status="failed", error="nan")
    (group,) = groups([made(seed=1, final=30.0), made(seed=0), again, failed])
    assert list(group.runs) == [0, 1] and group.runs[1] == again
    assert [record.seed for record in group.superseded] == [1] and group.stopped == (failed,)
    assert group.values(Choice()) == {0: 50.0, 1: 70.0}
    assert group.interval(Choice()) == mean_interval([50.0, 70.0])
    assert group.seconds == 3.0


def test_the_place_of_output_and_data_makes_no_other_group() -> None:
    elsewhere = made(seed=1)
    config = {**elsewhere.config, "output": {"output_dir": "other", "notes": "x"}}
    training = {**config["training"], "data_dir": "/data", "device": "cpu"}
    moved = replace(elsewhere, config={**config, "training": training}, source={**elsewhere.source, "origin": "folder"})
    assert len(groups([made(), moved])) == 1


def test_what_differs_is_in_the_name_and_nothing_else() -> None:
    found = groups([made(options={"reg": 0.5}), made(options={"reg": 1.0}), made("derpp"), made(buffer_size=500)])
    assert [group.method for group in found] == ["er reg=0.5", "er reg=1", "derpp", "er"]
    assert [group.name for group in found][-1] == "er, buffer 500"
    assert {group.stream for group in found} == {"seq-digits"}


def test_another_stream_of_the_scenario_has_another_name() -> None:
    part = made()
    part = replace(part, source={**part.source, "train_samples": 100, "complete": False})
    ordered = made()
    ordered = replace(ordered, config={**ordered.config, "scenario": {"name": "seq-digits", "angles": list(range(40))}})
    streams = list(by_stream(groups([made(), part, ordered, made(scenario="rot-digits")])))
    assert streams == [
        "seq-digits data train_samples=1437 data complete=True angles=none",
        "seq-digits data train_samples=100 data complete=False angles=none",
        "seq-digits data train_samples=1437 data complete=True angles=[40 values]",
        "rot-digits",
    ]


def test_groups_are_ranked_and_what_is_not_clearly_worse_is_marked() -> None:
    records = [
        *(made("er", seed, 60.0 + seed) for seed in range(3)),
        *(made("derpp", seed, 60.5 + seed + seed % 2) for seed in range(3)),
        *(made("sgd", seed, 20.0 + seed, buffer_size=None) for seed in range(3)),
        made("one", 0, 59.0),
    ]
    (entries,) = compared(groups(records), Choice()).values()
    assert [entry.group.method for entry in entries] == ["derpp", "er", "one", "sgd"]
    assert [(entry.best, entry.close) for entry in entries] == [
        (True, False),
        (False, True),
        (False, False),  # one seed: nobody can say
        (False, False),
    ]
    (lost,) = compared(groups(records), Choice("forgetting", protocol="task-IL")).values()
    assert {entry.protocol for entry in lost} == {"task-IL"} and lost[0].shown == Interval(30.0, 30.0, 30.0)


def test_lower_is_better_where_the_metric_says_so() -> None:
    keeps = made("keeps", matrix=((50.0, None), (50.0, 50.0)))
    (entries,) = compared(groups([made(), keeps]), Choice("forgetting")).values()
    assert [entry.group.method for entry in entries] == ["keeps", "er"]


def test_answers_of_other_protocols_are_not_compared() -> None:
    task_il = made("lwf")
    task_il = replace(task_il, accuracies=task_il.accuracies[1:])
    assert list(compared(groups([made(), task_il]), Choice())) == ["class-IL", "task-IL"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice("finalaverage"), "unknown metric of these runs 'finalaverage'; did you mean 'final_average'?"),
        (Choice(predictor="semantc"), "unknown predictor of these runs 'semantc'; allowed: working"),
        (Choice(protocol="class"), "unknown protocol of these runs 'class'; did you mean 'class-IL'?"),
    ],
)
def test_a_choice_that_no_run_has_is_named(choice: Choice, message: str) -> None:
    with pytest.raises(UsageError, match="unknown") as caught:
        check_choice(choice, [made()])
    assert str(caught.value).startswith(message)
    check_choice(Choice("calibration_error"), [made()])


def test_a_course_is_the_metric_of_the_run_up_to_there() -> None:
    matrix = ((90.0, 5.0, 1.0), (70.0, 80.0, 2.0), (50.0, 60.0, 70.0))
    record = made(matrix=matrix)
    answer = record.answer()
    assert course(record, answer, Choice()) == [90.0, 75.0, 60.0]
    assert course(record, answer, Choice("forgetting")) == [None, 20.0, metrics.forgetting(matrix)]
    assert course(record, answer, Choice("calibration_error")) == [None, None, 7.5]
    single = made(matrix=((90.0,), (70.0,), (50.0,)))
    assert course(single, single.answer(), Choice()) == [90.0, 70.0, 50.0]


def test_the_course_of_a_group_has_an_interval_where_all_runs_have_a_value() -> None:
    (group,) = groups([made(seed=0, final=50.0), made(seed=1, final=60.0, matrix=((None, None), (50.0, 70.0)))])
    assert group_course(group, Choice()) == [None, mean_interval([50.0, 60.0])]
