"""The published results: equal to what was printed, told apart by what was measured, refused if malformed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synergy.methods import METHODS, method_class
from synergy.presets.published import PublishedResult, results
from synergy.presets.published.reader import parse
from synergy.runs import records
from synergy.runs.config import build
from synergy.runs.metrics import titles
from synergy.scenarios import SCENARIOS, scenario_class
from tests.commands import run

ENTRY = {
    "scenario": '"rot-mnist"',
    "protocol": '"domain-IL"',
    "metric": '"final_average"',
    "predictor": '"working"',
    "source": '"Somebody 2020, table 1"',
    "results": '[{ method = "er", mean = 50.0, sd = 1.5, runs = 3 }]',
}


def text_of(**changes: str | None) -> str:
    entry = {**ENTRY, **changes}
    return "[[table]]\n" + "\n".join(f"{name} = {value}" for name, value in entry.items() if value is not None)


def refusal(text: str) -> str:
    with pytest.raises(AssertionError) as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (("seq-cifar10", "clser", 500, "class-IL", "stable"), (75.22, 0.71, 10)),
        (("seq-cifar10", "clser", 500, "class-IL", "working"), (63.09, 1.12, 10)),
        (("seq-cifar10", "derpp", 500, "class-IL", "working"), (72.70, 1.36, 10)),
        (("seq-cifar10", "er", 200, "class-IL", "working"), (44.79, 1.86, 10)),
        (("seq-cifar10", "synergy", 500, "class-IL", "semantic"), (70.40, 1.21, 10)),
        (("seq-cifar100", "clser", 500, "class-IL", "stable"), (51.40, 1.00, None)),
        (("seq-mnist", "clser", 5120, "task-IL", "stable"), (99.40, 0.04, None)),
        (("rot-mnist", "synergy", 500, "domain-IL", "semantic"), (91.72, None, 1)),
    ],
)
def test_the_numbers_are_those_that_were_printed(place: Any, expected: Any) -> None:
    scenario, method, size, protocol, predictor = place
    (found,) = results(scenario, method, buffer_size=size, protocol=protocol, predictor=predictor)
    assert (found.mean, found.sd, found.runs) == expected


def test_the_streams_of_one_scenario_are_told_apart() -> None:
    found = results("gcil-cifar100", "clser", buffer_size=500)
    assert [(each.options["weight_dist"], each.mean, each.sd) for each in found] == [
        ("unif", 36.34, 0.59),
        ("longtail", 28.63, 0.68),
    ]
    assert [each.fits({"weight_dist": "longtail", "n_tasks": 20}) for each in found] == [False, True]
    assert not found[0].fits({})


def test_single_runs_give_their_mean_and_deviation() -> None:
    (of_two,) = results("mnist-360", "synergy", buffer_size=500, predictor="semantic")
    assert of_two.mean == pytest.approx((75.1 + 73.6) / 2) and of_two.runs == 2
    assert of_two.sd == pytest.approx(1.5 / 2**0.5)
    (of_one,) = results("rot-mnist", "clser", buffer_size=500, predictor="stable")
    assert of_one.sd is None and of_one.fits({"rotation_angles": list(of_one.options["rotation_angles"])})


def test_nothing_is_known_where_nothing_is_known() -> None:
    assert results("perm-mnist") == () and results("rot-digits") == ()
    assert len(results()) == len(results(metric="final_average")) + len(results(metric="published_final"))


@pytest.mark.parametrize("result", results(), ids=lambda each: f"{each.scenario}-{each.method}-{each.buffer_size}")
def test_every_result_is_of_a_run_that_can_be_made(result: PublishedResult) -> None:
    assert result.scenario in SCENARIOS and result.method in METHODS
    assert result.protocol in scenario_class(result.scenario).protocols
    assert titles([result.metric])
    size = {} if result.buffer_size is None else {"buffer_size": result.buffer_size}
    assert ("buffer_size" in method_class(result.method).Config.names()) == bool(size)
    config = build(result.scenario, result.method, size | dict(result.options))
    tables = config.as_mapping()
    assert result.fits(
        {name: value for table in ("scenario", "method", "training") for name, value in tables[table].items()}
    )


@pytest.mark.parametrize("method", sorted({each.method for each in results()}))
def test_every_predictor_exists(method: str, tmp_path: Path) -> None:
    """By a run: some methods answer only when they have learned a task."""
    size = ("--buffer_size", "200") if "buffer_size" in method_class(method).Config.names() else ()
    dataset = "seq-digits" if method == "icarl" else "rot-digits"
    done = run(
        tmp_path, dataset, method, *size, "--max_tasks", "1", "--max_steps_per_task", "2", "--experiment_id", "r"
    )
    assert done.code == 0, done.err
    held = {each.predictor for each in records.read(tmp_path / "r").accuracies}
    assert {each.predictor for each in results(method=method)} <= held


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source": None}, "table 1, result 1: lacks source"),
        ({"metrik": '"x"'}, "unknown metrik; allowed: "),
        ({"source": '""'}, "source must be text, given ''"),
        ({"results": "[]"}, "table 1: lacks results"),
        ({"results": '[{ method = "er" }]'}, "needs either mean or values"),
        ({"results": '[{ method = "er", mean = 5, values = [1] }]'}, "needs either mean or values"),
        ({"results": '[{ method = "er", values = [1, 2], sd = 1 }]'}, "sd and runs follow from values"),
        ({"results": '[{ method = "er", values = [] }]'}, "values must be a list of numbers, given []"),
        ({"results": '[{ method = "er", mean = 105 }]'}, "mean must be from 0 to 100, given 105"),
        ({"results": '[{ method = "er", mean = nan }]'}, "mean must be from 0 to 100, given nan"),
        ({"results": '[{ method = "er", mean = 5, sd = -1 }]'}, "sd must be from 0 to 100, given -1"),
        ({"results": '[{ method = "er", mean = 5, runs = 0 }]'}, "runs must be a whole number of at least 1, given 0"),
        ({"results": '[{ method = "er", mean = 5, buffer_size = true }]'}, "buffer_size must be a whole number"),
        ({"options": "3"}, "options must be a table, given 3"),
        (
            {"results": '[{ method = "er", mean = 5 }, { method = "er", mean = 6 }]'},
            "two results for one number: rot-mnist, er, None, final_average, working, domain-IL",
        ),
    ],
)
def test_a_malformed_entry_is_named(changes: dict[str, str | None], says: str) -> None:
    assert says in refusal(text_of(**changes))


def test_a_file_of_something_else_is_refused() -> None:
    assert "must hold [[table]] entries only" in refusal("[[preset]]\nmethod = 'er'")
    assert refusal("[[table").startswith("results.toml: ")


def test_a_good_entry_is_read() -> None:
    (only,) = parse(text_of())
    assert (only.method, only.buffer_size, only.mean, only.sd, only.runs) == ("er", None, 50.0, 1.5, 3)
