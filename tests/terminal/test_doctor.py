"""`synergy doctor`: every problem is made for real, and must be found, named and answered."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from synergy.terminal import health
from synergy.terminal.doctor import shown
from synergy.terminal.health import Finding
from tests.commands import call
from tests.data.parquet_files import pictures, png, write_parquet, write_split
from tests.disk.test_files import posix
from tests.terminal.in_terminal import in_terminal, lines

ROOT = Path(__file__).parent.parent.parent


def found(check: Callable[[], Iterator[Finding]], level: str) -> list[Finding]:
    return [finding for finding in check() if finding.level == level]


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a small MNIST; SYNERGY_DATA names the one above."""
    folder = tmp_path / "data" / "mnist"
    write_split(folder / "train-0.parquet", pictures(20, 28, 28), [n % 10 for n in range(20)])
    write_split(folder / "test-0.parquet", pictures(10, 28, 28), [n % 10 for n in range(10)])
    monkeypatch.setenv("SYNERGY_DATA", str(folder.parent))
    return folder


def of_mnist() -> Finding:
    (finding,) = [each for each in health.data() if each.what == "data mnist"]
    return finding


def test_all_is_well_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SYNERGY_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    told = call("doctor")
    assert told.code == 0, told.out
    assert told.err == ""
    assert re.search(r"^ok       device cpu: 3 training steps, loss \d\.\d{4}", told.out, re.MULTILINE)
    assert "ok       data digits: bundled, 1437 + 360 samples" in told.out
    assert re.search(r"^0 problems, \d+ warnings?$", told.out, re.MULTILINE)
    assert list(tmp_path.iterdir()) == [], "it left something behind"


@posix
@pytest.mark.slow
def test_lines_fit_a_narrow_terminal(tmp_path: Path) -> None:
    """A path that is longer stands alone."""
    told = lines(in_terminal(["doctor"], 60, tmp_path))
    assert [line for line in told if len(line) > 60 and len(line.split()) > 1] == []


def test_a_problem_is_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGY_DATA", str(tmp_path / "nowhere"))
    told = call("doctor")
    assert told.code == 1
    assert f"problem  data: SYNERGY_DATA: {tmp_path / 'nowhere'}" in told.out.replace("\n         ", " ")
    assert "         do: set SYNERGY_DATA to a folder" in told.out
    assert re.search(r"^1 problem, ", told.out, re.MULTILINE)


def test_a_part_of_a_data_set_is_a_warning(mnist: Path) -> None:
    finding = of_mnist()
    assert finding.level == "warning"
    assert "20 + 10 samples" in finding.text and "a part, of 60000 + 10000" in finding.text
    assert finding.do == "for published numbers fetch ylecun/mnist"


def test_a_torn_data_file_is_a_problem(mnist: Path) -> None:
    file = mnist / "train-0.parquet"
    file.write_bytes(file.read_bytes()[:-40])
    finding = of_mnist()
    assert finding.level == "problem" and "train-0.parquet is damaged" in finding.text
    assert finding.do == "fetch the files of ylecun/mnist anew"


def test_a_damaged_image_is_a_problem(mnist: Path) -> None:
    encoded = png(pictures(1, 28, 28)[0])
    images: list[bytes | None] = [encoded[:40], *[encoded] * 9]
    write_parquet(mnist / "test-0.parquet", images, [n % 10 for n in range(10)])
    assert of_mnist().level == "problem" and "row 0 of test-0.parquet" in of_mnist().text


def test_a_label_that_cannot_be_is_a_problem(mnist: Path) -> None:
    write_split(mnist / "test-0.parquet", pictures(3, 28, 28), [1, 2, 10])
    assert of_mnist().level == "problem" and "has the label 10; expected 0 to 9" in of_mnist().text


def test_half_of_a_data_set_is_a_problem(mnist: Path) -> None:
    (mnist / "test-0.parquet").unlink()
    assert of_mnist().level == "problem" and "it has no test-*.parquet or valid-*.parquet" in of_mnist().text


def test_a_cache_that_is_no_folder_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "file"))
    (finding,) = health.cache()
    assert finding.level == "problem" and "set SYNERGY_CACHE" in finding.do


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder that nobody can write")
def test_a_cache_that_cannot_be_written_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGY_CACHE", "/proc/sys")
    assert [each.level for each in health.cache()] == ["problem"]
    monkeypatch.setenv("SYNERGY_CACHE", "/proc/synergy/cache")
    assert [each.level for each in health.cache()] == ["problem"]


def test_a_cache_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = tmp_path / "mnist-0123"
    entry.mkdir()
    (entry / "train.npy").write_bytes(bytes(3_000_000))
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path))
    assert [each.text for each in health.cache()] == [f"{tmp_path}: 1 data sets, 3 MB, can be written"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder that nobody can write")
def test_runs_that_cannot_be_written_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    assert [each.level for each in health.output()] == ["problem"]


def test_the_free_space_is_measured(tmp_path: Path) -> None:
    assert health.space("here", tmp_path / "not" / "yet", 0, 0).level == "ok"
    assert health.space("here", tmp_path, little=1e12, none=0).level == "warning"
    full = health.space("here", tmp_path, little=1e12, none=1e12)
    assert full.level == "problem" and full.do == "make room"


@pytest.mark.parametrize(
    ("losses", "expected", "level"),
    [
        ({"loss": 2.3}, None, "ok"),
        ({"loss": 2.3}, {"loss": 2.3001}, "ok"),
        ({"loss": 2.3}, {"loss": 2.5}, "problem"),
        ({"loss": math.nan}, None, "problem"),
        ({}, None, "problem"),
    ],
)
def test_a_device_is_judged_by_what_it_computes(
    losses: dict[str, float], expected: dict[str, float] | None, level: str
) -> None:
    assert health.judged("cuda", losses, expected).level == level


def test_the_steps_are_real_and_repeat() -> None:
    first = health.steps_on("cpu")
    assert first == health.steps_on("cpu") and first["loss"] > 0
    with pytest.raises(ValueError, match="tpu"):
        health.steps_on("tpu")


@pytest.mark.parametrize(
    ("environment", "used", "cores", "share", "load", "says"),
    [
        ({}, 2, 2, None, 0.5, None),
        ({"OMP_NUM_THREADS": "1"}, 1, 2, None, 9.0, None),
        ({}, 2, 2, None, 9.0, "the machine is shared: 9.0 processes for 2 cores"),
        ({"OMP_NUM_THREADS": "64"}, 2, 2, None, 0.1, "OMP_NUM_THREADS is 64, for 2 cores"),
        ({}, 64, 2, None, 0.1, "torch uses 64 threads, for 2 cores"),
        ({}, 8, 8, 2.0, 0.1, "torch uses 8 threads, for 2 of 8 cores, the container's share"),
        ({}, 8, 8, 0.5, 0.1, "for 1 of 8 cores, the container's share"),
        ({"OMP_NUM_THREADS": "many"}, 2, 2, None, 0.1, "OMP_NUM_THREADS is 'many', no number of threads"),
    ],
)
def test_thread_settings_that_hurt_are_named(
    environment: dict[str, str], used: int, cores: int, share: float | None, load: float, says: str | None
) -> None:
    (finding,) = health.thread_findings(environment, used, cores, share, load)
    assert finding.level == ("ok" if says is None else "warning")
    assert says is None or (says in finding.text and "OMP_NUM_THREADS=" in finding.do)


def test_the_share_of_a_container_is_read(tmp_path: Path) -> None:
    for text, share in (("150000 100000\n", 1.5), ("max 100000\n", None), ("nonsense", None)):
        (tmp_path / "cpu.max").write_text(text)
        assert health.cpu_share(tmp_path / "cpu.max") == share
    assert health.cpu_share(tmp_path / "missing") is None


def test_the_extras_are_those_of_the_package() -> None:
    given = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {
        extra: tuple(re.split(r"[>\[]", each)[0] for each in needs)
        for extra, needs in given["optional-dependencies"].items()
    }
    assert {extra: needs for extra, needs in names.items() if extra not in ("docs", "dev")} == dict(health.EXTRAS)
    assert tuple(re.split(r"[>\[]", each)[0] for each in given["dependencies"]) == health.LIBRARIES
    assert all("pip install 'synergy-cl[" in each.text for each in health.extras() if "not installed" in each.text)


def doctor_in(tmp_path: Path, **variables: str) -> tuple[int, str]:
    """In a process of its own, with these variables and modules from `tmp_path` first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), **variables}
    done = subprocess.run(
        [sys.executable, "-m", "synergy.terminal.cli", "doctor"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=300,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, " ".join(done.stdout.split())


@pytest.mark.slow
def test_more_threads_than_cores_are_found(tmp_path: Path) -> None:
    code, told = doctor_in(tmp_path, OMP_NUM_THREADS="1000")
    assert code == 0 and "warning threads: OMP_NUM_THREADS is 1000, for" in told


@pytest.mark.slow
@pytest.mark.parametrize("module", ["torch", "pyarrow", "sklearn"])
def test_a_broken_library_is_found(tmp_path: Path, module: str) -> None:
    (tmp_path / module).mkdir()
    (tmp_path / module / "__init__.py").write_text("raise ImportError('libbroken.so: no such file')")
    code, told = doctor_in(tmp_path)
    library = {"sklearn": "scikit-learn"}.get(module, module)
    assert code == 1 and f"problem {library}: cannot be loaded: ImportError: libbroken.so: no such file" in told


def test_a_check_that_fails_is_a_problem_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("ok", "first", "well")
        raise RuntimeError("nobody foresaw\nthis")

    monkeypatch.setattr(health, "CHECKS", (broken, health.output))
    levels = [(each.level, each.what) for each in health.findings()]
    assert levels == [("ok", "first"), ("problem", "broken"), ("ok", "runs")]
    assert "cannot be looked at: RuntimeError: nobody foresaw this" in shown([*health.findings()][1])
