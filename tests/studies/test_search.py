"""Searches: real trials on the digits, from whatever place they were stopped at."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synergy import presets
from synergy.errors import UsageError
from synergy.runs import records
from synergy.runs.config_file import read_config
from synergy.studies.conduct import Watcher, conduct
from synergy.studies.folders import StudyFolder
from synergy.studies.preset_file import to_toml
from synergy.studies.request import asked, read
from synergy.studies.search import JOURNAL_NAME, Searches
from synergy.studies.targets import targets
from tests.commands import call
from tests.studies.inline import Inline

SMALL: dict[str, Any] = {"model": "er", "dataset": "rot-digits", "n_tasks": 3, "max_steps_per_task": 3, "seeds": "0-1"}
SPACE = {"lr": {"low": 0.01, "high": 1.0, "log": True}, "minibatch_size": [8, 16]}


def searched(
    folder: Path, trials: int = 10, most: int = 10_000, places: int = 1, search: Any = None, **more: Any
) -> tuple[Searches, Inline]:
    asked_for = {"trials": trials, "space": SPACE, **(search or {})}
    request = asked(SMALL | more | {"output_dir": str(folder), "search": asked_for})
    folder.mkdir(exist_ok=True)
    searches, pool = Searches(targets(request), folder), Inline(places, most)
    conduct(StudyFolder(folder), searches, pool, Watcher())
    return searches, pool


def trials(searches: Searches) -> list[dict[str, Any]]:
    """All that came of the trials."""
    names = ("state", "params", "value", "intermediate_values", "user_attrs")
    return [
        {name: vars(each).get(name, vars(each).get(f"_{name}")) for name in names} | {"value": each.value}
        for seeker in searches.seekers
        for each in seeker.study.trials
    ]


def test_the_best_values_are_those_of_the_best_trial_and_a_run_takes_them(tmp_path: Path) -> None:
    searches, _ = searched(tmp_path / "S", trials=4, seeds="0", search={"first_task_only": True})
    ((target, preset, path),) = searches.write_best()
    found = trials(searches)
    best = max(found, key=lambda trial: trial["value"])
    assert len({trial["value"] for trial in found}) > 1
    assert preset.values == best["params"]
    for number, trial in enumerate(found):
        record = records.read(tmp_path / "S" / f"{target.name}-trial{number}-seed0")
        assert record.answer().metrics["final_average"] == trial["value"]
        training = record.config["training"]
        assert training["validation"] and training["max_tasks"] == 1 and training["seed"] == 0
        assert record.config["method"]["lr"] == trial["params"]["lr"]
    assert presets.read(path) == (preset,)
    assert f"trial {found.index(best)} of 4 (4 finished, 0 pruned)" in preset.source and "synergy-cl" in preset.source
    assert "% on the validation split, seed 0; seed of the sampler 0" in preset.source
    output = ("--output_dir", tmp_path / "R", "--experiment_id", "r", "--max_tasks", "1", "--max_steps_per_task", "2")
    outcome = call("run", "--config", path, *output)
    assert outcome.code == 0, outcome.err
    config = read_config(tmp_path / "R/r")
    assert (config.scenario_name, config.method_name) == ("rot-digits", "er")
    assert config.method.as_mapping()["lr"] == best["params"]["lr"]
    assert config.provenance["lr"] == f"preset: {preset.source}" and config.provenance["seed"] == "default"
    assert not config.training.validation


def global_randomness() -> tuple[object, ...]:
    return random.getstate(), str(np.random.get_state(legacy=True)), torch.get_rng_state().tolist()


def test_a_search_draws_from_its_seed_and_from_no_global_generator(tmp_path: Path) -> None:
    before = global_randomness()
    one, _ = searched(tmp_path / "one", trials=3)
    assert global_randomness() == before
    np.random.seed(5)
    two, _ = searched(tmp_path / "two", trials=3)
    other, _ = searched(tmp_path / "other", trials=3, search={"seed": 1})
    assert trials(one) == trials(two)
    assert trials(one)[0]["params"] != trials(other)[0]["params"]


@pytest.mark.slow
def test_a_search_goes_on_from_every_place_of_its_journal(tmp_path: Path) -> None:
    whole, _ = searched(tmp_path / "S", trials=8, seeds="0")
    expected = trials(whole)
    states = [trial["state"].name for trial in expected]
    assert {"COMPLETE", "PRUNED"} == set(states)
    journal = tmp_path / "S" / JOURNAL_NAME
    lines = journal.read_bytes().splitlines(keepends=True)
    for count in range(0, len(lines), 2):
        journal.write_bytes(b"".join(lines[:count]) + lines[count][: len(lines[count]) // 2])
        again, pool = searched(tmp_path / "S", trials=8, seeds="0")
        assert trials(again) == expected, f"cut after line {count}"
        assert pool.made == []


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 4, 9])
def test_a_search_stopped_after_a_run_makes_the_same_trials(tmp_path: Path, most: int) -> None:
    whole, all_of_it = searched(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        searched(tmp_path / "killed", most=most)
    again, rest = searched(tmp_path / "killed")
    assert trials(again) == trials(whole)
    assert len(rest.made) == len(all_of_it.made) - most


def test_more_trials_go_on_and_other_options_are_refused(tmp_path: Path) -> None:
    searched(tmp_path / "S", trials=2, seeds="0")
    more, pool = searched(tmp_path / "S", trials=3, seeds="0")
    assert len(trials(more)) == 3 and len(pool.made) == 1
    with pytest.raises(UsageError, match=r"seeds was \[0\], and is \[0, 1\]"):
        searched(tmp_path / "S", trials=4)
    with pytest.raises(UsageError, match=r"n_tasks was 3, and is 2; name another output_dir"):
        searched(tmp_path / "S", trials=4, seeds="0", n_tasks=2)


def test_a_trial_that_diverges_is_told_as_pruned_and_a_point_is_tried_once(tmp_path: Path) -> None:
    searches, pool = searched(tmp_path / "S", trials=6, seeds="0", search={"space": {"lr": [0.1, 1e30]}}, model="sgd")
    found = trials(searches)
    assert len(pool.made) == 2
    assert {trial["state"].name for trial in found if trial["params"]["lr"] > 1} == {"PRUNED"}
    assert {trial["state"].name for trial in found if trial["params"]["lr"] < 1} == {"COMPLETE"}
    assert "failed: the loss" in " ".join(trial["user_attrs"].get("why", "") for trial in found)
    assert searches.seekers[0].best() is not None


def test_each_method_is_searched_where_it_has_options(tmp_path: Path) -> None:
    space = {"lr": [0.1, 0.2], "penalty_weight": {"low": 0, "high": 1}, "buffer_size": [100, 200]}

    def names(models: str, space: dict[str, Any]) -> dict[str, list[str]]:
        search = {"trials": 1, "space": space}
        request = asked({"models": models, "dataset": "rot-digits", "output_dir": "S", "search": search})
        return {target.name: [*target.search.space] for target in targets(request)}

    assert names("er,synergy", space) == {
        "rot-digits-er": ["lr", "buffer_size"],
        "rot-digits-synergy": ["lr", "penalty_weight", "buffer_size"],
    }
    with pytest.raises(UsageError, match="sgd has none of the searched options penalty_weight"):
        names("synergy,sgd", {"penalty_weight": [0.1, 0.2]})


HEAD = 'model = "er"\ndataset = "rot-digits"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[search]\ntrials = 5\n", r"line 3: 'space' must name what is searched"),
        ("[search]\nspace = { lr = [1] }\n", r"line 3: 'trials' is missing; allowed: a whole number, at least 1"),
        ("[search]\ntrails = 5\n", r"key in .*line 4: 'trails'; did you mean 'trials'"),
        ("[search]\ntrials = 0\nspace.lr = [1]\n", r"line 4: trials is given 0"),
        ("[search]\ntrials = 5\n[search.space]\nminibatchsize = [1]\n", r"line 6: 'minibatchsize'; did you mean 'mini"),
        ("[search]\ntrials = 5\n[search.space]\nlr = []\n", r"line 6: lr is given \[\]; allowed: a list of values, or"),
        ("[search]\ntrials = 5\n[search.space]\nlr = { low = 1, hi = 2 }\n", r"line 6: lr: 'hi'; did you mean 'high'"),
        (
            "[search]\ntrials = 5\n[search.space]\nlr = { low = 1, high = 1 }\n",
            r"line 6: lr .*allowed: numbers low < hi",
        ),
        (
            "[search]\ntrials = 5\n[search.space]\nlr = { low = 0, high = 1, log = true }\n",
            r"line 6: .*allowed: above 0",
        ),
        ("[search]\ntrials = 5\n[search.space]\nlr = [-1]\n", r"line 6: lr: given -1.0; allowed: at least 0"),
        (
            "[search]\ntrials = 5\n[search.space]\nbuffer_size = { low = 0.5, high = 2 }\n",
            r"line 6: .*whole numbers low",
        ),
        ("lr = 0.1\n[search]\ntrials = 5\n[search.space]\nlr = [1]\n", r"line 7: lr is also given in .*line 3"),
        ("[search]\ntrials = 5\n[search.space]\nseed = [1, 2]\n", r"unknown option to search in .*line 6: 'seed'"),
        (
            "[search]\ntrials = 5\n[search.space]\nn_tasks = [1, 2]\n",
            r"unknown option to search in .*line 6: 'n_tasks'",
        ),
        ("[search]\ntrials = 5\nfirst_task_only = 1\nspace.lr = [1]\n", r"line 5: given 1; allowed: true, false"),
        ("[search]\ntrials = 5\nspace.class_weights = [1.0]\n", r"line 5: class_weights .*it is a list itself"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    with pytest.raises(UsageError, match=told):
        targets(read(path, {"output_dir": "S"}))


def test_a_study_file_keeps_the_search(tmp_path: Path) -> None:
    request = asked(SMALL | {"output_dir": "S", "search": {"trials": 5, "seed": 3, "space": SPACE}})
    again = asked({**tomllib.loads(request.to_toml()), "output_dir": "S"})
    assert again.search == request.search


def test_a_file_of_tuned_values_is_one_kind_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "best.toml"
    path.write_text('[[preset]]\nmethod = "er"\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"best.toml, entry 1: must name its scenario"):
        presets.read(path)
    two = [
        presets.Preset("rot-digits", None, "er", 200, {"lr": 0.1}, "chosen here: by hand"),
        presets.Preset("rot-digits", None, "er", 500, {"lr": 0.2}, "chosen here: by hand"),
    ]
    path.write_text(to_toml(two), encoding="utf-8")
    refused = call("run", "--config", path)
    assert refused.code == 2 and "2 presets for nothing" in refused.err and "--buffer_size" in refused.err
    refused = call("run", "--config", path, "--buffer_size", "200", "--load_best_args")
    assert refused.code == 2 and "given beside a file of tuned values" in refused.err
