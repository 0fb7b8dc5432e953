"""Tables with methods as rows, and streams and buffers as columns."""

from __future__ import annotations

import csv
import io
import json

import pytest

from synergy.report import tables
from synergy.report.groups import Choice, groups
from synergy.report.statistics import Interval, mean_interval
from tests.report.runs import made

RECORDS = [
    *(made("er_ace", seed, 60.0 + seed) for seed in range(3)),
    *(made("derpp", seed, 60.5 + seed + seed % 2) for seed in range(3)),
    *(made("sgd", seed, 20.0 + seed, buffer_size=None) for seed in range(3)),
    *(made("derpp", seed, 70.0 + seed, buffer_size=500) for seed in range(3)),
    made("er_ace", 0, 80.0, scenario="rot-digits"),
]
TABLE = tables.table(groups(RECORDS), Choice())


def test_streams_and_buffers_are_columns() -> None:
    assert [(c.stream, c.protocol, c.buffer_size) for c in TABLE.columns] == [
        ("seq-digits", "class-IL", 200),
        ("seq-digits", "class-IL", 500),
        ("rot-digits", "class-IL", 200),
    ]
    rows = {method: ["-" if e is None else tables.number(e.shown) for e in cells] for method, cells in TABLE.rows()}
    half = mean_interval([20.0, 21.0, 22.0]).half
    assert rows == {
        "derpp": ["61.83 ± 2.87", f"71.00 ± {half:.2f}", "-"],
        "er_ace": [f"61.00 ± {half:.2f}", "-", "80.00"],
        "sgd": [f"21.00 ± {half:.2f}", f"21.00 ± {half:.2f}", "-"],
    }


def test_markdown() -> None:
    first, second, derpp, er_ace, sgd, _, note = tables.markdown(TABLE).splitlines()
    assert first.count("|") == second.count("|") == derpp.count("|") == 5
    assert derpp == "| derpp | **61.83 ± 2.87** | **71.00 ± 2.48** | - |"
    assert er_ace == "| er_ace | *61.00 ± 2.48* | - | 80.00 |", "a method alone in its column is not the best of any"
    assert sgd.startswith("| sgd | 21.00")
    assert note.startswith("final average, percent, mean and 95 % interval over seeds (Student's t). **Best** in bold")


def test_latex() -> None:
    lines = tables.latex(TABLE).splitlines()
    assert "\\begin{tabular}{lrrr}" in lines and lines[-1] == "\\end{tabular}"
    assert "derpp & \\textbf{61.83 $\\pm$ 2.87} & \\textbf{71.00 $\\pm$ 2.48} & - \\\\" in lines
    assert "er\\_ace & \\underline{61.00 $\\pm$ 2.48} & - & 80.00 \\\\" in lines
    assert " & 200 & 500 & 200 \\\\" in lines


def test_csv_is_exact() -> None:
    rows = list(csv.reader(io.StringIO(tables.as_csv(TABLE))))
    assert {len(row) for row in rows} == {1 + 4 * 3}
    assert rows[0][1] == "seq-digits, class-IL, buffer 200: mean"
    exact = mean_interval([60.5, 62.5, 62.5])
    assert rows[1][:5] == ["derpp", repr(exact.value), repr(exact.half), "3", "best"]
    assert rows[2][4] == "not clearly worse" and rows[2][5:9] == ["", "", "", ""]


def test_json_says_what_each_number_is() -> None:
    content = json.loads(tables.as_json(TABLE))
    assert content["metric"] == "final_average"
    assert len(content["cells"]) == 6
    assert content["cells"][0] == {
        "method": "derpp",
        "stream": "seq-digits",
        "buffer_size": 200,
        "column_buffer_size": 200,
        "protocol": "class-IL",
        "predictor": "working",
        "mean": mean_interval([60.5, 62.5, 62.5]).value,
        "low": mean_interval([60.5, 62.5, 62.5]).low,
        "high": mean_interval([60.5, 62.5, 62.5]).high,
        "seeds": [0, 1, 2],
        "mark": "best",
    }


@pytest.mark.parametrize("form", sorted(tables.FORMATS))
def test_one_seed_needs_no_interval(form: str) -> None:
    text = tables.FORMATS[form](tables.table(groups([made()]), Choice()))
    assert "50.0" in text and "nan" not in text.lower()


def test_a_name_with_special_characters_stays_readable() -> None:
    content = tables.table(groups([made("my|file.py:A_B&C")]), Choice())
    assert "| my\\|file.py:A_B&C |" in tables.markdown(content)
    assert "my|file.py:A\\_B\\&C & " in tables.latex(content)


def test_a_number_has_its_half_interval() -> None:
    assert tables.number(Interval(1.234, 1.0, 1.5), 1) == "1.2 ± 0.2"
