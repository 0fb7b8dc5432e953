"""What a study asks for, from a file and from flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synergy.errors import UsageError
from synergy.studies.grid import planned
from synergy.studies.request import asked, read

BASE: dict[str, Any] = {"models": "er", "datasets": "rot-digits", "output_dir": "S"}


def names(**more: Any) -> list[str]:
    return [run.name for run in planned(asked(BASE | more)).runs]


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_run_is_named_by_what_differs() -> None:
    assert names(models="er,sgd", seeds="0-1", buffer_sizes=[200, 500], lr=[0.1]) == [
        "rot-digits-er-buffer200-seed0",
        "rot-digits-er-buffer500-seed0",
        "rot-digits-sgd-seed0",
        "rot-digits-er-buffer200-seed1",
        "rot-digits-er-buffer500-seed1",
        "rot-digits-sgd-seed1",
    ]
    assert names(lr=["0.1,0.2"])[1] == "rot-digits-er-buffer500-lr0.2-seed0"


def test_a_list_is_one_value_of_an_option_that_is_a_list() -> None:
    angles = [float(angle) for angle in range(20)]
    (one,) = planned(asked(BASE | {"rotation_angles": angles})).runs
    assert one.config.scenario.as_mapping()["rotation_angles"] == angles
    assert len(names(rotation_angles=[angles, angles[::-1]])) == 2


def test_variants_hold_for_the_runs_that_have_their_options() -> None:
    variants = [{"name": "both"}, {"name": "no-anchor", "penalty_weight": 0.0}]
    assert names(models=["er", "synergy"], variant=variants) == [
        "rot-digits-er-both-buffer500-seed0",
        "rot-digits-synergy-both-buffer500-seed0",
        "rot-digits-synergy-no-anchor-buffer500-seed0",
    ]


def test_what_cannot_be_learned_is_left_out_with_the_reason() -> None:
    plan = planned(asked(BASE | {"models": "gem,er", "datasets": "mnist-360"}))
    assert [run.differs["model"] for run in plan.runs] == ["er"]
    assert plan.remarks[0].startswith("left out: gem on mnist-360: method gem needs task boundaries")


def test_methods_without_tuned_values_run_with_their_defaults() -> None:
    plan = planned(asked(BASE | {"models": "er,der", "buffer_size": 200, "load_best_args": True}))
    assert [run.config.method.as_mapping()["lr"] for run in plan.runs] == [0.4, 0.1]
    assert plan.remarks == ("no tuned values for der on rot-digits: it runs with its defaults",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models = 'er'\nlearning_rate = 0.1\n", r"line 2: 'learning_rate'"),
        ("models = 'er'\nmodels_ = 'er'\n", r"line 2: 'models_'; did you mean 'models'\?"),
        ("models = 'er'\nlr = []\n", r"line 2: 'lr' is an empty list"),
        ("models = 'er'\nseeds = []\n", r"line 2: 'seeds' is an empty list"),
        ("models = 'er'\nseeds = '2-0'\n", r"line 2: given the range 2-0; allowed: .* 0-2"),
        ("models = 'er'\nlr = [0.1, -1]\n", r"line 2: lr: given -1.0; allowed: at least 0"),
        ("models = 'er'\nload_best_args = 1\n", r"line 2: given 1; allowed: true, false"),
        (
            "models = 'er'\n[[variant]]\nname = 'a'\n[[variant]]\nname = 'b'\n",
            "line 5: variants 'a' and 'b' are the same",
        ),
        ("models = 'er'\n[[variant]]\nname = 'a'\nbeta = 1\nlr = 1\n", "line 4: 'beta'"),
        ("models = 'er'\nseeds = 'many'\n", r"line 2: seed is given 'many'; allowed: a whole number, or a range"),
        ("models = 'er'\n[[variant]]\nname = 'a'\n\n[[variant]]\nname = 'b'\nlrr = 1\n", r"line 7: 'lrr'"),
        ("models = 'er'\n[[variant]]\nname = 'a'\n[[variant]]\nname = 'a'\nlr = 1\n", "line 5: two variants"),
        ("models = 'err'\n", "unknown method 'err'; did you mean 'er'"),
        ("seeds = 0\n", "models is missing"),
        ("models = 'er'\nmodel = 'sgd'\n", "line 2: 'model' is given twice"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = write(tmp_path, f"{text.replace('models', 'datasets = ' + repr('rot-digits') + '; models', 0)}")
    with pytest.raises(UsageError, match=told):
        planned(read(path, {"datasets": "rot-digits", "output_dir": "S"}))


def test_two_variants_that_are_the_same_run_are_refused() -> None:
    variants = [{"name": "a", "lr": 0.1}, {"name": "b"}]
    with pytest.raises(UsageError, match="'a' and 'b' are the same run"):
        names(variant=variants)


def test_a_variant_that_fits_no_run_is_refused() -> None:
    variants = [{"name": "plain"}, {"name": "weak", "penalty_weight": 0.1, "beta": 0.1}]
    with pytest.raises(UsageError, match=r"variant 'weak'.*penalty_weight, beta"):
        names(models="synergy,derpp", variant=variants)


def test_a_study_file_says_the_same_when_read_again(tmp_path: Path) -> None:
    request = asked(BASE | {"seeds": "0-2", "lr": [0.1, 0.2], "variant": [{"name": "x", "minibatch_size": 8}]})
    again = read(write(tmp_path, request.to_toml()), {"output_dir": "S"})
    assert planned(again).runs == planned(request).runs
    assert again.values == request.values


def test_flags_replace_the_keys_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "models = ['er', 'sgd']\ndatasets = 'rot-digits'\nseeds = '0-9'\noutput_dir = 'S'\n")
    assert read(path, {"seed": ["3"], "model": ["er"]}).values == {
        "dataset": ("rot-digits",),
        "seed": (3,),
        "model": ("er",),
    }
