"""The tuned values: equal to the published table, found by the stated rules, refused with errors that help."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from synergy import presets
from synergy.errors import UsageError
from synergy.presets import Preset, available, find, loader
from synergy.presets.loader import parse

GOLDEN = Path(__file__).parent.parent / "golden" / "published_presets.jsonl"

OF_THE_RUN = frozenset({"lr", "batch_size", "n_epochs"})

OF_THE_METHOD = {
    "sgd": "",
    "er": "minibatch_size",
    "agem": "minibatch_size",
    "agem_r": "minibatch_size",
    "gem": "gamma",
    "gss": "minibatch_size gss_minibatch_size batch_num",
    "hal": "minibatch_size hal_lambda beta gamma finetuning_epochs steps_on_anchors",
    "mer": "minibatch_size beta gamma batch_num",
    "fdr": "minibatch_size alpha",
    "icarl": "wd_reg",
    "lwf": "alpha softmax_temp wd_reg",
    "ewc_on": "e_lambda gamma",
    "si": "c xi",
    "pnn": "",
    "der": "minibatch_size alpha",
    "derpp": "minibatch_size alpha beta",
    "clser": "minibatch_size reg_weight stable_model_update_freq stable_model_alpha ema_warmup "
    "plastic_model_update_freq plastic_model_alpha",
    "synergy": "minibatch_size reg_weight penalty_weight ema_update_freq ema_alpha ema_warmup "
    "fisher_update_freq fisher_alpha",
}

METHODS = frozenset(OF_THE_METHOD) | {"joint", "kder", "er_ace", "gdumb", "esmer"}

Key = tuple[str, str | None, str, int | None]


def published_rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]


def key_of(preset: Preset) -> Key:
    return preset.scenario, preset.variant, preset.method, preset.buffer_size


def key_of_row(row: Mapping[str, Any]) -> Key:
    return row["scenario"], row["variant"], row["method"], row["buffer_size"]


def published_presets() -> list[Preset]:
    return [preset for preset in available() if preset.source.startswith("published: ")]


def refusal(*args: Any, **kwargs: Any) -> str:
    """The one line that `find` refuses with."""
    with pytest.raises(UsageError) as caught:
        find(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_names(message: str, *parts: str) -> None:
    for part in parts:
        assert part in message


class TestPublishedValues:
    def test_the_table_has_one_row_for_each_key(self) -> None:
        rows = published_rows()
        assert len(rows) == 238
        assert len({key_of_row(row) for row in rows}) == len(rows)

    @pytest.mark.parametrize("row", published_rows(), ids=lambda row: "-".join(map(str, key_of_row(row))))
    def test_every_row_is_there_with_equal_values(self, row: dict[str, Any]) -> None:
        (preset,) = (preset for preset in published_presets() if key_of(preset) == key_of_row(row))
        # The published average has no option for its warm-up: it is the rule with 1.
        rule = {"ema_warmup": 1} if preset.method in ("synergy", "clser", "esmer") else {}
        assert {**preset.values, **preset.unused} == row["hyperparameters"] | rule
        assert bool not in map(type, preset.values.values())
        assert preset.source == f"published: {row['source']}"

    def test_nothing_else_claims_to_be_published(self) -> None:
        assert {key_of(p) for p in published_presets()} == {key_of_row(row) for row in published_rows()}

    @pytest.mark.parametrize("method", sorted({row["method"] for row in published_rows()}))
    def test_unused_is_what_the_method_does_not_take(self, method: str) -> None:
        takes = OF_THE_RUN | set(OF_THE_METHOD[method].split())
        for preset in published_presets():
            if preset.method == method:
                assert preset.values.keys() <= takes, key_of(preset)
                assert not preset.unused.keys() & takes, key_of(preset)


class TestEveryEntry:
    def test_method_is_one_of_ours(self) -> None:
        assert {preset.method for preset in available()} <= METHODS

    def test_says_where_its_values_come_from(self) -> None:
        for preset in available():
            kind, _, origin = preset.source.partition(": ")
            assert kind in {"published", "chosen here"} and origin.strip(), key_of(preset)

    def test_has_values_and_a_positive_buffer_size_or_none(self) -> None:
        for preset in available():
            assert preset.values, key_of(preset)
            assert preset.buffer_size is None or preset.buffer_size > 0, key_of(preset)

    def test_cannot_be_changed(self) -> None:
        preset = find("rot-mnist", "synergy", 500)
        with pytest.raises(TypeError):
            preset.values["lr"] = 1.0  # type: ignore[index]
        with pytest.raises(TypeError):
            preset.unused["lr"] = 1.0  # type: ignore[index]


class TestAvailable:
    def test_is_sorted_by_scenario_variant_method_size(self) -> None:
        keys = [(s, v or "", m, n or 0) for s, v, m, n in map(key_of, available())]
        assert keys == sorted(keys)
        assert len(set(keys)) == len(keys)

    def test_narrows(self) -> None:
        assert {p.scenario for p in available("rot-mnist")} == {"rot-mnist"}
        assert {p.method for p in available(method="er")} == {"er"}
        assert [p.buffer_size for p in available("gcil-cifar100", "er", "unif")] == [200, 500, 1000]
        assert len(available("gcil-cifar100", "er")) == 6
        assert available("rot-mnist", "no such method") == ()

    def test_holds_every_scenario_of_the_table(self) -> None:
        assert {p.scenario for p in available()} >= {row["scenario"] for row in published_rows()}


class TestFind:
    def test_exact_size(self) -> None:
        preset = find("rot-mnist", "synergy", 500)
        assert key_of(preset) == ("rot-mnist", None, "synergy", 500)
        assert preset.values["fisher_update_freq"] == 0.8

    @pytest.mark.parametrize("buffer_size", [None, 0, 500])
    def test_method_without_memory_ignores_the_size(self, buffer_size: int | None) -> None:
        assert key_of(find("seq-cifar10", "ewc_on", buffer_size)) == ("seq-cifar10", None, "ewc_on", None)

    def test_variant(self) -> None:
        assert find("gcil-cifar100", "derpp", 500, "unif").values["beta"] == 0.6
        assert find("gcil-cifar100", "derpp", 500, "longtail").values["beta"] == 0.8

    @pytest.mark.parametrize(
        ("asked", "taken"),
        [(1, 200), (349, 200), (350, 200), (351, 500), (500, 500), (2810, 500), (2811, 5120), (10**6, 5120)],
    )
    def test_nearest_size_the_smaller_of_two(self, asked: int, taken: int) -> None:
        assert find("rot-mnist", "er", asked, nearest=True).buffer_size == taken

    def test_nearest_stays_within_the_variant(self) -> None:
        preset = find("gcil-cifar100", "synergy", 600, "longtail", nearest=True)
        assert key_of(preset) == ("gcil-cifar100", "longtail", "synergy", 500)


class TestRefusals:
    def test_no_such_size(self) -> None:
        message = refusal("rot-mnist", "er", 300)
        assert_names(
            message, "'er'", "'rot-mnist'", "size 300", "200, 500, 5120", "--nearest_best_args", "nearest, 200"
        )

    @pytest.mark.parametrize("nearest", [False, True])
    def test_no_size_given(self, nearest: bool) -> None:
        message = refusal("gcil-cifar100", "er", None, "unif", nearest=nearest)
        assert_names(message, "'er'", "'gcil-cifar100'", "'unif'", "--buffer_size", "200, 500, 1000")

    def test_no_preset_of_the_method_there(self) -> None:
        message = refusal("rot-mnist", "lwf", None, nearest=True)
        assert_names(message, "'lwf'", "'rot-mnist'")
        there, elsewhere = message.split("; ")[1:]
        assert {"clser", "er", "synergy"} <= set(there.split(": ")[1].split(", "))
        assert elsewhere.endswith(": seq-cifar10, seq-mnist, seq-tinyimg")

    def test_no_preset_of_the_method_in_the_variant(self) -> None:
        message = refusal("gcil-cifar100", "gem", 200, "unif")
        assert_names(message, "'gem'", "'gcil-cifar100'", "'unif'", ": clser, derpp, er, sgd, synergy; ")
        assert message.endswith(": perm-mnist, rot-mnist, seq-cifar10, seq-mnist")

    def test_no_preset_of_the_method_at_all(self) -> None:
        assert refusal("rot-mnist", "mine", 200).endswith("'mine': none")

    def test_variants_are_named_where_the_method_has_presets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        there = tuple(preset for preset in available() if preset.scenario != "seq-digits" or preset.method != "derpp")
        monkeypatch.setattr(loader, "_all_presets", lambda: there)
        assert "'derpp': gcil-cifar100 (longtail), gcil-cifar100 (unif), " in refusal("seq-digits", "derpp", 200)

    def test_scenario_without_presets(self) -> None:
        message = refusal("seq-nothing", "er", 200)
        assert_names(message, "'seq-nothing'")
        assert {row["scenario"] for row in published_rows()} <= set(message.rsplit(": ", 1)[1].split(", "))

    def test_variant_missing_unknown_or_out_of_place(self) -> None:
        assert_names(refusal("gcil-cifar100", "er", 200), "'gcil-cifar100'", "longtail, unif")
        assert_names(refusal("gcil-cifar100", "er", 200, "uniform"), "'gcil-cifar100'", "'uniform'", "longtail, unif")
        assert_names(refusal("rot-mnist", "er", 200, "unif"), "'rot-mnist'", "'unif'", "no variant")


GOOD = """
[[preset]]
method = "er"
buffer_size = 100
source = "chosen here: best of 5 learning rates on the validation split, 3 seeds"
note = "flat between 0.05 and 0.2"
values = { lr = 0.1 }
"""


class TestParse:
    def test_an_entry_chosen_here(self) -> None:
        (preset,) = parse("seq-digits", GOOD)
        assert key_of(preset) == ("seq-digits", None, "er", 100)
        assert preset.source == "chosen here: best of 5 learning rates on the validation split, 3 seeds"
        assert preset.note == "flat between 0.05 and 0.2"
        assert preset.values == {"lr": 0.1}
        assert preset.unused == {}

    def test_values_may_be_a_table_of_their_own(self) -> None:
        (preset,) = parse("seq-digits", GOOD.replace("values = { lr = 0.1 }", "[preset.values]\nlr = 0.1"))
        assert preset.values == {"lr": 0.1}

    @pytest.mark.parametrize(
        ("old", "new", "complaint"),
        [
            ("[[preset]]", "[[preset", r"presets/seq-digits\.toml: .*line 2"),
            ("[[preset]]", "[preset]", r"presets/seq-digits\.toml: .*\[\[preset\]\]"),
            ("[[preset]]", "[[presets]]", "entries only"),
            ("[[preset]]", 'title = "mine"\n[[preset]]', "entries only"),
            (GOOD, "preset = [1]", r"entry 1: must be a \[\[preset\]\] table"),
            ('method = "er"', "", "entry 1: lacks method"),
            ("values = { lr = 0.1 }", "", "lacks values"),
            ("buffer_size", "buffersize", "unknown buffersize; allowed: buffer_size, method"),
            ("= 100", "= 0", "entry 1: buffer_size .*given 0"),
            ("= 100", "= 100.0", "entry 1: buffer_size .*given 100.0"),
            ("= 100", "= true", "entry 1: buffer_size .*given True"),
            ("chosen here: best", "best", "source .*'published: <repository>' or 'chosen here: <how>'"),
            (
                '"chosen here: best of 5 learning rates on the validation split, 3 seeds"',
                '"chosen here: "',
                "source must",
            ),
            ('"er"', "7", "method .*given 7"),
            ('"flat between 0.05 and 0.2"', '""', "note .*given ''"),
            ("{ lr = 0.1 }", "{}", "values is empty"),
            ("{ lr = 0.1 }", "3", "values .*given 3"),
            ("{ lr = 0.1 }", "{ lr = [0.1] }", "lr must be a number, text or flag"),
            ("{ lr = 0.1 }", "{ lr = 0.1 }\nunused = { lr = 0.2 }", "in values and in unused: lr"),
        ],
    )
    def test_broken_data_are_named(self, old: str, new: str, complaint: str) -> None:
        assert old in GOOD
        with pytest.raises(AssertionError, match=complaint):
            parse("seq-digits", GOOD.replace(old, new, 1))

    @pytest.mark.parametrize(
        ("second", "complaint"),
        [
            (GOOD, "method 'er': two entries for one buffer size"),
            (GOOD.replace("buffer_size = 100", ""), "entries with and without buffer_size"),
            (GOOD.replace("[[preset]]", '[[preset]]\nvariant = "unif"'), "all entries must have a variant, or none"),
        ],
    )
    def test_entries_that_clash_are_named(self, second: str, complaint: str) -> None:
        with pytest.raises(AssertionError, match=complaint):
            parse("seq-digits", GOOD + second)


def test_needs_nothing_but_the_standard_library() -> None:
    allowed = sys.stdlib_module_names | {"synergy"}
    for folder in presets.__path__:
        for file in Path(folder).glob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert {name.split(".")[0] for name in names} <= allowed, file.name
                assert all(n.startswith(("synergy.presets", "synergy.errors")) for n in names if "synergy" in n)
