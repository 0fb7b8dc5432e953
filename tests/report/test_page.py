"""The page of a report: what it says, and how it behaves in a browser."""

from __future__ import annotations

import csv
import html
import io
import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synergy.errors import UsageError
from synergy.report import maps, page, svg
from synergy.report.gather import Found, Gathered
from synergy.report.groups import Choice, groups
from synergy.report.statistics import ranking
from synergy.report.tables import table
from synergy.runs import findings
from synergy.runs.findings import Chart, Description, Finding, Grid, Line, Number
from synergy.runs.records import Record
from tests.report.runs import made

SCENARIOS = ("seq-digits", "rot-digits", "perm-digits", "seq-mnist", "rot-mnist")


def study(scenarios: tuple[str, ...] = SCENARIOS, tasks: int = 20, seeds: int = 3) -> list[Record]:
    made_up = []
    for s, scenario in enumerate(scenarios):
        for m, method in enumerate(("synergy", "er", "sgd")):
            for seed in range(seeds):
                top = 90.0 - 10 * m - s + seed * 0.5
                rows = tuple(tuple(top - (t - k) if k <= t else None for k in range(tasks)) for t in range(tasks))
                made_up.append(made(method, seed, scenario=scenario, matrix=rows))
    return made_up


def written(records: list[Record], missing: tuple[str, ...] = ()) -> str:
    text = page.html(Gathered(tuple(map(Found, records))), Choice(), missing)
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_page_says_who_is_ahead_by_how_much_and_how_sure_that_is() -> None:
    text = html.unescape(written(study(("seq-digits",)), ("failed: one",)))
    assert "synergy is best with" in text and "10.00 points ahead of er (95 % interval 10.00 to 10.00: a clear" in text
    assert "Too few shared seeds for a signed-rank test" in text and "<li>failed: one</li>" in text
    assert "one seed cannot say" in html.unescape(written(study(("seq-digits",), seeds=1)))


def test_a_signed_rank_test_takes_six_seeds() -> None:
    five, six = (html.unescape(written(study(("seq-digits",), tasks=3, seeds=seeds))) for seeds in (5, 6))
    assert "p (signed rank)" not in five and "needs 6: intervals instead" in five
    assert "p (signed rank)" in six and ">0.031</td>" in six, "all of six differences on one side: 2 / 2^6"


def test_published_numbers_stand_beside_ours() -> None:
    complete = {**made().source, "complete": True}
    records = [
        made("er", seed, 56.74, scenario="seq-cifar10", buffer_size=500, matrix=((56.74,),), source=complete)
        for seed in range(2)
    ]
    text = html.unescape(written(records))
    assert "57.74 ± 0.27 (n = 10)" in text and ">-1.00</td>" in text and "Buzzega et al. 2020 (DER), table 2" in text
    assert "ours - published" not in written([replace(record, partial=True) for record in records])
    part = [replace(record, source={**complete, "complete": False}) for record in records]
    assert "ours - published" not in written(part)


def test_accuracy_is_drawn_against_the_buffer_size_where_there_are_two() -> None:
    records = [made("er", seed, 50.0 + size / 100, buffer_size=size) for size in (200, 500) for seed in range(2)]
    text = written(records)
    assert "<h2>Buffer size</h2>" in text and ">200</text>" in text and ">500</text>" in text
    assert "<h2>Buffer size</h2>" not in written(records[:2])


def test_variants_of_a_method_are_an_ablation() -> None:
    variants = [({"a": 1.0, "b": 1.0}, 80.0), ({"a": 0.0, "b": 1.0}, 70.0), ({"a": 1.0, "b": 0.0}, 79.0)]
    records = [made("er", seed, final + seed, options=options) for options, final in variants for seed in range(3)]
    text = html.unescape(written(records))
    assert "er a=1 b=1 (reference)" in text and ">-10.00 [-10.00, -10.00]</td>" in text
    assert "<h2>Ablation</h2>" not in written(study(("seq-digits",)))


def with_findings(records: list[Record], folder: Path, tasks: int = 20) -> Gathered:
    """Beside every record what analyses leave, as large as that of a stream with so many tasks."""
    found = []
    for number, record in enumerate(records):
        xs = tuple(float(task + 1) for task in range(tasks))
        names = tuple(map(str, range(1, tasks + 1)))
        shown = Description(
            tuple(Number(f"number {n}, %", "working", 1.5 + record.seed) for n in range(8)),
            tuple(
                Chart(f"chart {c}", "task", "mass, %", (Line("working", xs, tuple(x + record.seed for x in xs)),))
                for c in range(9)
            ),
            tuple(
                Grid(f"grid {g}", "working", "row", "column", names, names, ((50.0,) * tasks,) * tasks) for g in (1, 2)
            ),
        )
        of = Finding(1, "made", record.run_id, record.measured.started_at, "class-IL", {}, "cpu", shown, {})
        place = folder / str(number)
        place.mkdir(parents=True)
        findings.write(of, place)
        found.append(Found(record, place))
    return Gathered(tuple(found))


def test_findings_are_drawn_over_seeds(tmp_path: Path) -> None:
    gathered = with_findings(study(("seq-digits",)), tmp_path)
    text = html.unescape(page.html(gathered, Choice())).replace("\N{NO-BREAK SPACE}", " ")
    assert "Analyses: seq-digits" in text and ">2.50 ± 2.48</td>" in text
    assert "<figcaption>chart 0</figcaption>" in text and "synergy: grid 1, percent (working)" in text
    (tmp_path / "0" / "analyses" / "made.json").write_text("{}")
    assert "made.json: format: given None" in html.unescape(page.html(gathered, Choice()))


def test_two_hundred_runs_with_findings_fit_a_megabyte(tmp_path: Path) -> None:
    gathered = with_findings(study(SCENARIOS[:4], seeds=17), tmp_path)
    assert len(gathered.runs) >= 200
    assert len(page.html(gathered, Choice()).encode()) < 1_000_000


def test_a_critical_difference_needs_five_data_sets() -> None:
    assert "critical difference" in written(study()) and "Friedman p" in written(study())
    assert "needs 5 data sets" in written(study(SCENARIOS[:4]))


def test_two_buffer_sizes_of_a_stream_are_one_data_set() -> None:
    sizes = [made("er", seed, 40.0 + size / 100, buffer_size=size) for size in (200, 500) for seed in range(2)]
    others = [made("sgd", seed, 30.0, buffer_size=None) for seed in range(2)]
    both = table(groups([*sizes, *others]), Choice())
    assert len(both.columns) == 2 and both.by_stream(["er", "sgd"]) == {both.columns[0].stream: [43.5, 30.0]}
    assert "over 5 data sets" in written(study()) and "Friedman p = 0.007" in written(study())


def test_the_page_needs_no_network_and_two_hundred_runs_fit_a_megabyte() -> None:
    records = study(SCENARIOS, seeds=14)
    text = written(records)
    assert len(records) >= 200 and len(text.encode()) < 1_000_000
    assert not re.search(r"https?://|<link|src=", text)


def test_the_data_are_in_the_page() -> None:
    data = html.unescape(re.findall(r'<pre hidden id="data">(.*?)</pre>', written(study()), re.DOTALL)[0])
    rows = list(csv.DictReader(io.StringIO(data)))
    first = next(row for row in rows if row["metric"] == "final_average")
    assert (first["method"], first["seed"], first["protocol"]) == ("synergy", "0", "class-IL")
    assert float(first["percent"]) == pytest.approx(study()[0].answer().metrics["final_average"], abs=1e-4)


def test_names_are_text_not_markup() -> None:
    text = written([made("<script>x</script>", seed) for seed in range(2)])
    assert "<script>x" not in text and "&lt;script&gt;x" in text


def test_the_command_has_what_was_chosen() -> None:
    record = made(provenance={"buffer_size": "flag", "lr": "default", "seed": "default"})
    assert page.command(record) == "synergy run --dataset seq-digits --model er --buffer_size 200 --seed 0"


def test_no_number_no_page(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished run has a published final"):
        page.write(Gathered((Found(made()),)), Choice("published_final"), tmp_path / "a.html")
    with pytest.raises(UsageError, match="cannot write the page"):
        page.write(Gathered((Found(made()),)), Choice(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_shades_of_a_heat_map_reach_from_its_lowest_value_to_its_highest() -> None:
    drawn = maps.heat_map([[99.0, None], [62.0, 80.0]])
    assert maps.shown_range([[99.0, 0.0], [62.0, 80.0]]) == (60.0, 100.0)
    assert re.findall(r'fill-opacity="([\d.]+)"', drawn) == ["1.0", "0.1", "0.55"]
    assert maps.shown_range([[100.0]]) == (100.0, 110.0)


def test_a_heat_map_has_a_cell_for_each_task_seen() -> None:
    drawn = maps.heat_map([[90.0, None], [40.0, 80.0]])
    assert drawn.count("M") == 3 and ">90<" in drawn and ">40<" in drawn


def test_a_grid_has_a_shade_for_each_value_and_names_at_its_sides() -> None:
    drawn = maps.grid(["cat", "dog"], ["cat", "dog"], [[90.0, 10.0], [None, 100.0]], ("class", "answer"))
    assert drawn.count("M") == 3 and drawn.count(">cat<") == 2 and ">90<" in drawn


def test_names_beside_dots_cover_nothing() -> None:
    """Five dots close together, one of them at the right edge."""
    names = ["synergy", "clser", "derpp", "er-ace", "a-long-name"]
    points = {name: (90.0 + 0.4 * n, 3.0 + 0.2 * n) for n, name in enumerate(names)} | {"sgd": (84.0, 20.0)}
    drawn = svg.scatter(points, dict.fromkeys(points, 0), ("plasticity", "forgetting"))
    dots = re.findall(r'<circle [^>]*cx="([\d.]+)" cy="([\d.]+)"', drawn)
    boxes = [(float(x) - 5, float(y) - 5, float(x) + 5, float(y) + 5) for x, y in dots]
    texts = re.findall(r'<text class="name" x="([\d.]+)" y="([\d.]+)">([^<]+)<', drawn)
    assert sorted(name for _, _, name in texts) == sorted(points)
    boxes += [(float(x), float(y) - 8, float(x) + 6 * len(name), float(y)) for x, y, name in texts]
    for one, other in itertools.combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    assert all(right <= svg.WIDTH for _, _, right, _ in boxes)


def test_ranks_are_joined_where_they_are_not_told_apart() -> None:
    drawn = svg.critical_difference(["a", "b"], ranking([[2.0, 1.0]] * 3))
    assert drawn.count('class="clique"') == 1 and "a (1.00)" in drawn


@pytest.fixture
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.mark.slow
def test_a_window_of_usual_width_shows_tables_whole_and_headings_below_the_key(tmp_path: Path, browser: Any) -> None:
    complete = {**made().source, "complete": True}
    records = [
        made(method, seed, final + 3.21 * seed, scenario="seq-cifar10", buffer_size=500, source=complete)
        for method, final in (("clser", 71.37), ("er", 56.74), ("sgd", 9.87))
        for seed in range(3)
    ]
    file = tmp_path / "page.html"
    page.write(Gathered(tuple(map(Found, records))), Choice(), file)
    browser.get(file.as_uri())
    assert "ours - published" in browser.find_element("css selector", "table").text.replace("\n", " ")
    browser.set_window_size(1200, 900)
    hidden = "return [...document.querySelectorAll('.wide')].map(each => each.scrollWidth - each.clientWidth)"
    assert max(browser.execute_script(hidden)) <= 0
    for width in (1200, 420):
        browser.set_window_size(width, 900)
        covered = """
            const heading = document.querySelectorAll("h2")[1], key = document.querySelector(".key");
            heading.scrollIntoView();
            return key.getBoundingClientRect().bottom - heading.getBoundingClientRect().top"""
        assert browser.execute_script(covered) <= 1, f"the key covers a heading in a window of {width}"


@pytest.mark.slow
def test_a_browser_sorts_filters_and_changes_the_theme(tmp_path: Path, browser: Any) -> None:
    file = tmp_path / "page.html"
    page.write(with_findings(study(), tmp_path / "runs"), Choice(), file)
    browser.get(file.as_uri())

    def first_cells() -> list[str]:
        shown = "[...document.querySelector('table').tBodies[0].rows].filter(row => !row.hidden)"
        script = f"return {shown}.map(row => row.cells[0].textContent)"
        cells: list[str] = browser.execute_script(script)
        return cells

    assert first_cells() == ["synergy", "er", "sgd"]
    browser.find_element("css selector", "table th:nth-child(4) button").click()
    assert first_cells() == ["sgd", "er", "synergy"]
    browser.find_element("id", "filter").send_keys("syn")
    assert first_cells() == ["synergy"]
    sizes = "return [...document.querySelectorAll('.figures svg')].map(each => each.getBoundingClientRect().height)"
    assert sum(height > 100 for height in browser.execute_script(sizes)) >= (4 + 9) * len(SCENARIOS)
    before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    browser.find_element("id", "theme").click()
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") != before
    for width in (1200, 420):
        browser.set_window_size(width, 900)
        overflow = browser.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 0, f"the page is {overflow} pixels wider than a window of {width}"
        assert browser.save_screenshot(str(tmp_path / f"{width}.png"))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.execute_script("return [...document.querySelectorAll('details')].every(each => each.open)")
    assert not browser.find_element("id", "theme").is_displayed()
    assert browser.save_screenshot(str(tmp_path / "print.png"))
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
