"""The page of a report: what it says, and how it behaves in a browser."""

from __future__ import annotations

import csv
import html
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synergy.errors import UsageError
from synergy.report import page, svg
from synergy.report.gather import Found, Gathered
from synergy.report.groups import Choice
from synergy.report.statistics import ranking
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
    return page.html(Gathered(tuple(map(Found, records))), Choice(), missing)


def test_the_page_says_who_is_ahead_by_how_much_and_how_sure_that_is() -> None:
    text = html.unescape(written(study(("seq-digits",)), ("failed: one",)))
    assert "synergy is best with" in text and "10.00 points ahead of er (95 % interval 10.00 to 10.00: a clear" in text
    assert "Too few seeds for tests of significance" in text and "<li>failed: one</li>" in text
    assert "one seed cannot say" in html.unescape(written(study(("seq-digits",), seeds=1)))


def test_a_critical_difference_needs_five_data_sets() -> None:
    assert "critical difference" in written(study()) and "Friedman p" in written(study())
    assert "needs 5 data sets" in written(study(SCENARIOS[:4]))


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


def test_a_heat_map_has_a_cell_for_each_task_seen() -> None:
    drawn = svg.heat_map([[90.0, None], [40.0, 80.0]])
    assert drawn.count("M") == 3 and ">90<" in drawn and ">40<" in drawn


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
def test_a_browser_sorts_filters_and_changes_the_theme(tmp_path: Path, browser: Any) -> None:
    file = tmp_path / "page.html"
    page.write(Gathered(tuple(map(Found, study()))), Choice(), file)
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
    assert sum(height > 100 for height in browser.execute_script(sizes)) >= 4 * len(SCENARIOS)
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
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
