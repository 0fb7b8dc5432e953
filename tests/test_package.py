"""What an index gets is whole: an sdist with all of the repository, a page without dead links, a wheel that works."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import nbformat
import pytest

import synergy
from setup import without_files
from tests.commands import BRIEF
from tests.pages import close

ROOT = Path(__file__).parent.parent
BUILT = {".venv", ".git", "build", "dist", "runs", "site"}
"""Folders at the root that tools write."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HERE = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}


def command(*arguments: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """What a process prints; it ends well."""
    done = subprocess.run(
        list(map(str, arguments)),
        cwd=cwd,
        env=HERE | (environment or {}),
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def in_repository() -> Iterator[str]:
    """Every file that belongs to the repository, as git lists them, or, in an unpacked sdist, all that is there."""
    if (ROOT / ".git").exists():
        listed = command("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
        yield from (name for name in listed if (ROOT / name).is_file())
        return
    for path in ROOT.rglob("*"):
        name = path.relative_to(ROOT)
        if path.is_file() and name.parts[0] not in BUILT and not set(name.parts) & {"__pycache__", ".pytest_cache"}:
            yield name.as_posix()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built of the sdist."""
    folder = tmp_path_factory.mktemp("package")
    tree = folder / "tree"
    for name in in_repository():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    command(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", cwd=tree)
    return folder / "dist"


@pytest.fixture(scope="session")
def unpacked(built: Path) -> Path:
    """The sdist's folder."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(built / "unpacked", filter="data")
    return built / "unpacked" / sdist.name.removesuffix(".tar.gz")


@pytest.fixture(scope="session")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="session")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


@pytest.mark.slow
def test_the_sdist_holds_the_repository(unpacked: Path) -> None:
    held = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    made = {name for name in held if ".egg-info/" in name} | {"PKG-INFO", "setup.cfg"}
    assert held - made == set(in_repository()) - made


@pytest.mark.slow
def test_the_sdist_s_tests_run_where_it_was_unpacked(unpacked: Path) -> None:
    tests = ("tests/test_architecture.py", "tests/presets", "tests/runs/test_format1.py")
    options = ("-q", "-p", "no:cacheprovider", "-m", "not slow")
    assert " passed" in command(sys.executable, "-m", "pytest", *options, *tests, cwd=unpacked)
    everything = command(sys.executable, "-m", "pytest", "-q", "--collect-only", cwd=unpacked)
    assert " tests collected" in everything


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    ours = {name for name in in_repository() if name.startswith("synergy/")}
    assert held == ours


@pytest.mark.slow
def test_the_wheel_says_what_it_is(metadata: Message) -> None:
    assert metadata["Version"] == synergy.__version__
    assert metadata["Author"] == "synergy contributors"
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    page = str(metadata.get_payload())
    assert "pip install" in page
    assert re.findall(r"\]\((?!https?:)[^)]*\)", page) == []


@pytest.fixture(scope="session")
def fresh(built: Path) -> Path:
    """The scripts of a fresh environment with the wheel alone; torch and the like are those of the tests."""
    home = built / "fresh"
    (path,) = built.glob("*.whl")
    command(sys.executable, "-m", "venv", "--without-pip", home, cwd=built)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    install = ("install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", path)
    command(sys.executable, "-m", "pip", "--python", scripts / "python", *install, cwd=built)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    # Folders that such a file names are searched last, and what links them to this repository is left out.
    (packages / "heavy.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return scripts


@pytest.mark.slow
def test_a_fresh_environment_runs_a_command(fresh: Path, tmp_path: Path) -> None:
    home = command(fresh / "python", "-c", "import synergy; print(synergy.__file__)", cwd=tmp_path)
    assert Path(home).is_relative_to(fresh.parent)
    assert command(fresh / "synergy", "--version", cwd=tmp_path).strip() == synergy.__version__
    words = (
        "--dataset",
        "rot-digits",
        "--model",
        "synergy",
        "--buffer_size",
        "200",
        "--load_best_args",
        "--n_tasks",
        "2",
    )
    assert "domain-IL: semantic" in command(fresh / "synergy", "run", *words, cwd=tmp_path)
    assert len(list(tmp_path.glob("runs/*/record.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stream", "method"])
def test_a_tutorial_runs_from_the_wheel(name: str, fresh: Path, tmp_path: Path) -> None:
    program, shown = [], ""
    for cell in nbformat.read(ROOT / f"docs/tutorials/{name}.ipynb", as_version=4).cells:
        if cell.cell_type != "code":
            continue
        if cell.source.startswith("%%writefile "):
            head, _, body = cell.source.partition("\n")
            (tmp_path / head.split()[1]).write_text(body, encoding="utf-8")
        else:
            program.append(cell.source)
            shown += "".join(output.text for output in cell.outputs)
    (tmp_path / "walk.py").write_text("\n".join(program), encoding="utf-8")
    printed = command(fresh / "python", "walk.py", cwd=tmp_path)
    assert close(printed, shown), f"{name}.ipynb shows\n{shown}\nbut this was printed:\n{printed}"


@pytest.mark.slow
def test_a_paper_s_commands_run_from_the_wheel(fresh: Path, tmp_path: Path) -> None:
    """With few steps, and no preset: the notebook is run whole elsewhere."""
    asked = ("--models", "sgd,er", "--datasets", "seq-digits", "--seeds", "0-1", "--output_dir", "S")
    assert "4 of 4 runs finished: S" in command(fresh / "synergy", "study", *asked, *BRIEF, cwd=tmp_path)
    assert "\\begin{tabular}" in command(fresh / "synergy", "report", "S", "--format", "latex", cwd=tmp_path)
    for flag, name in (("--picture", "accuracy.png"), ("--html", "page.html")):
        command(fresh / "synergy", "report", "S", flag, name, cwd=tmp_path)
        assert (tmp_path / name).stat().st_size > 10_000


def test_a_source_tree_that_was_never_installed_works() -> None:
    """-I and -S: neither the environment's packages nor the working folder; only the tree itself."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import synergy; print(synergy.__version__)"
    assert command(sys.executable, "-I", "-S", "-c", program, cwd=ROOT).strip() == synergy.__version__


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("![a picture](docs/a.png)\n\nText.", "Text."),
        (
            "See [the docs](docs/a.md#part) and [the paper](https://a.org/b).",
            "See the docs and [the paper](https://a.org/b).",
        ),
        ("![badge](https://a.org/b.svg)", "![badge](https://a.org/b.svg)"),
    ],
)
def test_links_to_files_become_text(text: str, expected: str) -> None:
    assert without_files(text) == expected
