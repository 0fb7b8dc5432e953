"""The command line: a mistake is one line and exit code 2, Ctrl-C is 130, a failed run 1; nobody sees a traceback."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synergy import presets
from synergy.data import hub
from synergy.errors import UsageError
from synergy.methods import METHODS
from synergy.methods.er import ER
from synergy.runs import records
from synergy.runs.config import build
from synergy.scenarios import SCENARIOS
from synergy.terminal import cli
from synergy.types import Batch, Step
from tests.commands import BRIEF, Outcome, call, run
from tests.disk.test_files import posix, unprivileged
from tests.runs.test_records import RECORD

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder to stand in, no data but those a test brings, and a hub that nobody reaches."""

    def unreachable() -> NoReturn:
        raise OSError("unreachable")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SYNERGY_DATA", raising=False)
    monkeypatch.setenv("SYNERGY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "require_hub", unreachable)


def assert_refused(outcome: Outcome, *parts: str) -> None:
    """One line on stderr that has all `parts`, exit code 2."""
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("synergy: error: ") and len(outcome.err) < 5100
    for part in parts:
        assert part in outcome.err
    assert outcome.code == 2


RUN = "run --dataset rot-digits --model er"
MISTAKES = [
    # what to run: the name that is unknown, the nearest, what there is
    ("runn", f"'runn' | 'run' | --help, --version, {', '.join(sorted(cli.COMMANDS))}"),
    ("--dataset rot-digits --model er", "--dataset | 'synergy run'"),
    ("--bogus", "--bogus"),
    ("--verison", "'--verison' | '--version'"),
    ("help", "'help' | '--help'"),
    ("run --dataset rot-digits --model ER", "method 'ER' | 'er'"),
    ("run --dataset rot-digits --model DER++", "method 'DER++' | 'derpp'"),
    ("run --dataset rot-digits --model iCaRL", "method 'iCaRL' | 'icarl'"),
    ("run --dataset rot-digits --model A-GEM", "method 'A-GEM' | 'agem'"),
    ("run --dataset Rot-MNIST --model er", "scenario 'Rot-MNIST' | 'rot-mnist'"),
    ("run", "--dataset is missing | rot-digits"),
    ("run --dataset rot-digits", "--model is missing | synergy"),
    ("run --dataset rot-digit --model er", "scenario 'rot-digit' | 'rot-digits'"),
    ("run --dataset rot-digit", "scenario 'rot-digit' | 'rot-digits'"),
    ("run --model synergi", "method 'synergi' | 'synergy'"),
    ("run --dataset rot-digits --model synergi", "method 'synergi' | 'synergy'"),
    ("run --dataset", "--dataset: | one"),
    ("run --help --model nosuch", "method 'nosuch'"),
    ("run --dataset mnist-360 --model joint", "joint | boundaries | mnist-360"),
    ("run --dataset rot-digits --model lwf", "lwf | class-IL, task-IL | rot-digits | domain-IL"),
    ("list everything", "name 'everything' | rot-digits | synergy | file.py:Class"),
    ("show synergi", "name 'synergi' | 'synergy'"),
    ("show er derpp", "'derpp'"),
    ("show builtins:dict", "builtins:dict | method, a scenario or a network"),
    # flags
    (f"{RUN} --bufer_size 200", "flag '--bufer_size' | --buffer_size"),
    (f"{RUN} --ema_alpha 0.9", "flag '--ema_alpha' | synergy"),
    (f"{RUN} --buffer 200", "flag '--buffer' | --buffer_size"),
    (f"{RUN} extra", "'extra'"),
    (f"{RUN} --seed", "--seed: | one"),
    (f"{RUN} --validation=yes", "--validation: | 'yes'"),
    (f"{RUN} $'a\\nb'", "argument"),
    # values: the option, what was given, the limit
    (f"{RUN} --seed one", "error: --seed: | 'one' | whole number"),
    (f"{RUN} --seed 1.5", "error: --seed: | '1.5' | whole number"),
    (f"{RUN} --seed -1", "seed: | -1 | least 0"),
    (f"{RUN} --seed {10**400}", "seed: | 1000 | whole number | 2^63"),
    (f"{RUN} --lr fast", "error: --lr: | 'fast' | number"),
    (f"{RUN} --buffer_size 1e3", "error: --buffer_size: | '1e3' | whole number"),
    (f"{RUN} --lr {'x' * 300}", "error: --lr: | 'xxx | ... | number"),
    (f"{RUN} --lr -0.1", "lr: | -0.1 | least 0"),
    (f"{RUN} --lr nan", "lr: | nan | finite"),
    (f"{RUN} --lr inf", "lr: | inf | finite"),
    (f"{RUN} --buffer_size 0", "buffer_size: | given 0 | least 1"),
    (f"{RUN} --buffer_size -200", "buffer_size: | -200 | least 1"),
    (f"{RUN} --minibatch_size 0", "minibatch_size: | given 0 | least 1"),
    (f"{RUN} --batch_size 0", "batch_size: | given 0 | least 1"),
    (f"{RUN} --n_epochs 0", "n_epochs: | given 0 | least 1"),
    (f"{RUN} --n_tasks 0", "n_tasks: | given 0 | least 1 | most 1000"),
    (f"{RUN} --n_tasks 2000", "n_tasks: | 2000 | least 1 | most 1000"),
    (f"{RUN} --max_tasks 0", "max_tasks: | given 0 | least 1"),
    (f"{RUN} --max_steps_per_task 0", "max_steps_per_task: | given 0 | least 1"),
    (f"{RUN} --checkpoint_every 0", "checkpoint_every: | given 0 | least 1"),
    (f"{RUN} --keep 0", "keep: | given 0 | least 1"),
    (f"{RUN} --fisher_memory_mb 0", "fisher_memory_mb: | given 0 | least 1"),
    (f"{RUN} --device gpu", "device: | 'gpu' | auto, cpu, cuda, mps"),
    (f"{RUN} --notes \udcff", "notes: | '\\udcff' | UTF-8"),
    ("run --dataset seq-digits --model er --n_tasks 3", "n_tasks: | given 3 | divisor | 10 classes | 1, 2, 5, 10"),
    ("run --dataset seq-digits --model er --batch_size 999", "batch_size: | 999 | most 271"),
    ("run --dataset rot-digits --model synergy --ema_alpha 2", "ema_alpha: | 2.0 | least 0 | most 1"),
    ("run --dataset rot-digits --model agem --buffer_size 19 --minibatch_size 8", "buffer_size: | 19 | least 20"),
    # angles
    (f"{RUN} --rotation_angles 10 20", "rotation_angles: | given 2 | 20 tasks | --n_tasks 2"),
    (f"{RUN} --rotation_angles=", "rotation_angles: | given none"),
    (f"{RUN} --rotation_angles", "--rotation_angles: | least one"),
    (f"{RUN} --n_tasks 2 --rotation_angles 10 x", "rotation_angles: | '10 x' | numbers | file"),
    (f"{RUN} --n_tasks 2 --rotation_angles 10 nan", "rotation_angles: | nan | finite"),
    (f"{RUN} --n_tasks 2 --rotation_angles 10 400", "rotation_angles: | 400.0 | least -360 | most 360"),
    (f"{RUN} --n_tasks 2 --rotation_angles nosuch.txt", "rotation_angles: | 'nosuch.txt' | numbers | file"),
    (f"{RUN} --n_tasks 2 --rotation_angles {'9' * 300}x", "rotation_angles: | '999"),
    (f"{RUN} --n_tasks 2 --rotation_angles binary", "rotation_angles: | 'binary' | numbers | file"),
    # tuned values
    (f"{RUN} --buffer_size 123 --load_best_args", "preset | 'er' | 'rot-digits' | 123"),
    (
        "run --dataset rot-mnist --model synergy --buffer_size 300 --load_best_args",
        "'synergy' | 'rot-mnist' | 300 | 200, 500, 1000 | --nearest_best_args | nearest, 200",
    ),
    ("run --dataset rot-mnist --model kder --load_best_args", "preset | 'kder' | 'rot-mnist'"),
    # where to write
    (f"{RUN} --output_dir file", "output_dir: | 'file' | File exists"),
    (f"{RUN} --output_dir file/deeper", "output_dir: | 'file/deeper' | Not a directory"),
    (f"{RUN} --experiment_id a/b", "experiment_id: | 'a/b' | 200 bytes"),
    (f"{RUN} --experiment_id {'é' * 101}", "experiment_id: | 'ééé | 200 bytes"),
    (f"{RUN} --experiment_id ..", "experiment_id: | '..'"),
    (f"{RUN} --experiment_id /abs", "experiment_id: | '/abs'"),
    (f"{RUN} --output_dir=", "output_dir: | '' | folder"),
    (f"{RUN} --max_tasks 21", "max_tasks: | 21 | most 20 | rot-digits"),
    (f"{RUN} --experiment_id results.jsonl", "experiment_id: | 'results.jsonl'"),
    # data
    ("run --dataset rot-mnist --model er --data_dir nosuch", "--data_dir: | nosuch | folder"),
    ("run --dataset rot-mnist --model er --data_dir ~nosuchuser/x", "--data_dir: | ~nosuchuser/x | folder"),
    ("run --dataset rot-mnist --model er --data_dir file", "--data_dir: | file | folder"),
    ("run --dataset rot-mnist --model er --data_dir empty", "empty/mnist | Parquet | ylecun/mnist | hub | rot-digits"),
    ("run --dataset rot-mnist --model er --data_dir half/mnist", "half/mnist | Parquet | mnist/train-*.parquet"),
    ("run --dataset rot-mnist --model er", "--data_dir | SYNERGY_DATA | rot-digits"),
    ("run --dataset rot-mnist --model er --data_dir half", "half/mnist | test-*.parquet"),
    ("run --dataset rot-mnist --model er --data_dir damaged", "mnist | train-0.parquet | damaged"),
    # configuration files
    ("run --config nosuch.toml", "configuration nosuch.toml | No such file"),
    ("run --config empty", "configuration empty/config.toml | No such file"),
    (f"run --config {'x' * 300}", f"configuration {'x' * 300} | File name too long"),
    ("run --config a\0b", "configuration a"),
    ("run --config binary", "configuration binary | TOML"),
    ("run --config tables.toml", "table | tables.toml | 'trainig' | 'training'"),
    ("run --config options.toml", "option | er | rot-digits | 'sed' | 'seed'"),
    # going on
    ("resume", "error: RUN is missing"),
    ("resume nosuch", "nosuch: | config.toml | --output_dir"),
    ("resume long", "table | long/config.toml | 'xxx | ..."),
    ("resume other", "configuration other/config.toml | TOML"),
    ("resume unreadable", "unreadable/record.json: | JSON"),
    (f"resume {'x' * 300}", f"{'x' * 300}: | File name too long | --output_dir"),
    ("resume a\0b", "folder of a run"),
    ("resume around", "around: | folder of a run"),
    # reports
    ("report", "error: RUN is missing"),
    ("check", "error: NAME is missing"),
    ("report nosuch", "nosuch: | No such file"),
    ("report nosuch.jsonl", "nosuch.jsonl: | No such file"),
    ("report killed", "killed: | record.json | synergy resume killed"),
    ("report 'cut off'", "synergy resume 'cut off'"),
    ("report empty", "empty: | record.json"),
    ("report file", "file: | JSON"),
    (f"report {'x' * 300}", f"{'x' * 300}: | File name too long"),
    (f"report {'x' * 300}.jsonl", f"{'x' * 300}.jsonl: | File name too long"),
    ("report a\0b", "zero byte"),
    ("report around", "around: | cannot be read"),
    ("report binary", "binary: | JSON"),
    ("report torn", "torn/record.json: | JSON"),
    ("report newer", "newer/record.json: | schema_version: | 999 | newer release"),
    ("report nameless", "method.name"),
    ("report good --picture a.jpg", "'a.jpg' | format 'jpg' | 'png'"),
    ("report good --picture a", "'a' | format '' | pdf, png, svg"),
    ("report good --picture ''", "format '' | pdf, png, svg"),
    ("report good --picture empty", "'empty' | Is a directory"),
    ("report good --picture .", "'.' | Is a directory"),
    ("report good --picture a\0.png", "zero byte"),
    (f"report good --picture {'x' * 300}.png", "'xxx | File name too long"),
    ("report empty.jsonl", "empty.jsonl: | no runs"),
    ("report good --picture file/a.png", "'file/a.png'"),
    ("report good --picture folder.png", "'folder.png' | Is a directory"),
    ("report one-task --picture a.png", "more than one task | given 0"),
    ("report good --pictures a.png", "flag '--pictures' | --picture,"),
]
"""A line, and the names and limits that its refusal has to hold."""


def furnish(folder: Path) -> None:
    """The files and folders that the mistakes above name."""
    (folder / "file").write_text("no folder\n")
    (folder / "empty.jsonl").write_text("")
    for name in ("killed", "cut off"):
        (folder / name).mkdir()
        (folder / name / "config.toml").write_text("")
    (folder / "binary").write_bytes(b"\xff\xfe\x00\x01")
    for name in ("empty", "half/mnist", "damaged/mnist", "torn", "newer", "folder.png", "other", "unreadable", "long"):
        (folder / name).mkdir(parents=True)
    (folder / "half/mnist/train-0.parquet").write_bytes(b"")
    for split in ("train", "test"):
        (folder / f"damaged/mnist/{split}-0.parquet").write_bytes(b"PAR1 and no more")
    head = '[scenario]\nname = "rot-digits"\n[method]\nname = "er"\n'
    (folder / "long/config.toml").write_text(f"[{'x' * 100_000}]\n")
    (folder / "around").symlink_to("around")
    (folder / "tables.toml").write_text(head + "[trainig]\n")
    (folder / "other/config.toml").write_text("[scenario")
    (folder / "unreadable/config.toml").write_text(head)
    (folder / "unreadable/record.json").write_text("{")
    (folder / "options.toml").write_text(head + "[training]\nsed = 1\n")
    good = records.write(RECORD, folder / "good").read_text()
    (folder / "torn/record.json").write_text(good[: len(good) // 2])
    (folder / "newer/record.json").write_text(good.replace('"schema_version": 1', '"schema_version": 999'))
    records.write(replace(RECORD, config={}), folder / "nameless")
    one_task = replace(RECORD.accuracies[0], matrix=((50.0,),))
    records.write(replace(RECORD, accuracies=(one_task,)), folder / "one-task")


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(("line", "parts"), MISTAKES, ids=[line[:60] for line, _ in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path: Path, line: str, parts: str) -> None:
    furnish(tmp_path)
    before = contents(tmp_path)
    outcome = call(*shlex.split(line))
    assert_refused(outcome, *parts.split(" | "))
    assert outcome.out == "" or line.startswith("run")
    assert contents(tmp_path) == before


@posix
def test_a_configuration_taken_for_something_else_leaves_its_defaults_behind(tmp_path: Path) -> None:
    first = "run --dataset seq-digits --model er --buffer_size 60 --seed 3 --max_steps_per_task 2 --max_tasks 1"
    assert call(*first.split(), "--experiment_id", "ex", "--output_dir", tmp_path).code == 0
    file = tmp_path / "ex" / "config.toml"
    arguments = ["run", "--config", file, "--dataset", "rot-digits", "--experiment_id", "other"]
    assert call(*arguments, "--output_dir", tmp_path).code == 0
    other = records.read(tmp_path / "other").config
    assert other["scenario"] == build("rot-digits", "er", {}).as_mapping()["scenario"]
    assert (other["training"]["batch_size"], other["training"]["n_epochs"]) == (16, 1)
    assert (other["method"]["buffer_size"], other["training"]["seed"]) == (60, 3)


@pytest.mark.parametrize("line", ["resume locked", "report locked", "run --config locked/config.toml"])
def test_a_folder_that_may_not_be_entered(tmp_path: Path, line: str) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    with unprivileged():
        assert_refused(call(*shlex.split(line)), "locked", "Permission denied")


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_refused(call(*shlex.split(f"{RUN} --device cuda")), "device: ", "cuda")


def test_a_home_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> NoReturn:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SYNERGY_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert_refused(call(*shlex.split("run --dataset rot-mnist --model er")), "SYNERGY_CACHE")


@pytest.mark.parametrize("library", ["matplotlib.figure", "tensorboard"])
def test_a_library_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    furnish(tmp_path)
    before = contents(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    drawing = library.startswith("matplotlib")
    outcome = call(*shlex.split("report good --picture a.png" if drawing else f"{RUN} --tensorboard"))
    assert_refused(outcome, f"pip install 'synergy-cl[{'report' if drawing else 'tensorboard'}]'")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "angles",
    [["10", "20.5"], ["10,20.5"], ["10,", "20.5"], ["angles.txt"], ["angles.csv"], ["-349.5", "1e1"]],
)
def test_angles_one_by_one_with_commas_or_from_a_file(tmp_path: Path, angles: list[str]) -> None:
    (tmp_path / "angles.txt").write_text("10\n20.5\n")
    (tmp_path / "angles.csv").write_text("10,20.5\n")
    arguments = ["--max_steps_per_task", "1", "--n_tasks", "2", "--rotation_angles", *angles]
    outcome = run(tmp_path / "runs", "rot-digits", "sgd", *arguments)
    assert outcome.code == 0, outcome.err
    (record,) = records.read_all(tmp_path / "runs")
    given = record.config["scenario"]["rotation_angles"]
    assert given == ([10.0, 20.5] if angles[0] != "-349.5" else [-349.5, 10.0])


def test_numbers_win_over_a_file_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "30").write_text("40")
    arguments = ["--max_steps_per_task", "1", "--n_tasks", "1", "--rotation_angles", "30"]
    assert run(tmp_path / "runs", "rot-digits", "sgd", *arguments).code == 0
    (record,) = records.read_all(tmp_path / "runs")
    assert record.config["scenario"]["rotation_angles"] == [30.0]


def test_a_configuration_runs_again_and_flags_win_over_it(tmp_path: Path) -> None:
    first = run(tmp_path / "one", "seq-digits", "synergy", *BRIEF, "--lr", 0.05, "--buffer_size", 40)
    assert first.code == 0, first.err
    (file,) = (tmp_path / "one").glob("*/config.toml")
    again = call("run", "--config", file, "--output_dir", tmp_path / "two")
    assert (again.code, again.err) == (0, "")
    (record,), (repeated,) = records.read_all(tmp_path / "one"), records.read_all(tmp_path / "two")
    assert repeated.accuracies == record.accuracies
    assert repeated.final_losses == record.final_losses
    call("run", "--config", file, "--output_dir", tmp_path / "three", "--seed", 1)
    (other,) = records.read_all(tmp_path / "three")
    assert (other.seed, other.config["method"]["lr"]) == (1, 0.05)
    assert other.accuracies != record.accuracies


@pytest.mark.filterwarnings("default:not taken from the file")
def test_a_configuration_from_a_colleague_makes_none_of_his_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "colleague"
    flags = [*BRIEF, "--lr", 0.03, "--csv_log", "--checkpoint_every", 2, "--notes", "his", "--experiment_id", "his"]
    assert run(there, "rot-digits", "sgd", *flags).code == 0
    his = (there / "his" / "config.toml").read_text(encoding="utf-8")
    assert str(tmp_path) not in his and "output_dir =" not in his.partition("[provenance]")[0]
    # An earlier version named the folder.
    data = f'[training]\ndata_dir = "{there}/data"\n'
    his = his.replace("[output]\n", f'[output]\noutput_dir = "{there}/new"\n').replace("[training]\n", data)
    Path("his.toml").write_text(his, encoding="utf-8")
    before = sorted(there.rglob("*"))
    outcome = call("run", "--config", "his.toml")
    assert outcome.code == 0
    assert outcome.err.startswith("synergy: warning: not taken from the file: checkpoint_every, csv_log, notes;")
    assert sorted(there.rglob("*")) == before
    (record,) = records.read_all(Path("runs"))
    assert record.config["method"]["lr"] == 0.03 and record.config["training"]["max_steps_per_task"] == 4
    assert record.config["output"] == {"output_dir": "runs", "csv_log": False, "tensorboard": False, "keep": 2}
    assert record.run_id == "rot-digits-sgd-seed0" and "data_dir" not in record.config["training"]
    other = call("run", "--config", "his.toml", "--dataset", "seq-digits", "--csv_log", "--output_dir", "mine")
    assert other.code == 0 and Path("mine/csv").is_dir() and sorted(there.rglob("*")) == before


def test_a_run_that_fails_is_exit_code_1(tmp_path: Path) -> None:
    outcome = run(tmp_path, "rot-digits", "sgd", *BRIEF, "--lr", "1e6")
    assert outcome.code == 1
    assert re.fullmatch(r"synergy: error: .* nan at step \d+.*--lr.*\n", outcome.err)
    assert "record: " in outcome.out
    (path,) = tmp_path.glob("*/record.json")
    assert records.read(path).status == "failed"


def interrupting(times: int) -> Callable[[Any, Batch], Step]:
    """An `observe` that is interrupted so often at its first step."""

    def observe(self: Any, batch: Batch) -> Step:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        return Step({})

    return observe


def test_ctrl_c_ends_between_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(ER, "observe", interrupting(1))
    outcome = run(tmp_path, "rot-digits", "er", *BRIEF)
    assert outcome.code == 130
    assert re.fullmatch(r"synergy: error: .*interrupted.* step 1\n", outcome.err)
    (path,) = tmp_path.glob("*/record.json")
    assert records.read(path).status == "interrupted"
    assert not (tmp_path / records.RESULTS_NAME).exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(ER, "observe", interrupting(2))
    outcome = run(tmp_path, "rot-digits", "er", *BRIEF)
    assert outcome.code == 130
    assert re.fullmatch(r"synergy: error: .*interrupted\n", outcome.err)
    assert not list(tmp_path.glob("*/record.json"))
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_ctrl_c_in_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "synergy.terminal.cli", *shlex.split(RUN), "--n_epochs", "100000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("average accuracy"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"synergy: error: .*interrupted.* step \d+\n", err)
    assert out.endswith("record: runs/rot-digits-er-buffer500-n_epochs100000-seed0/record.json\n")
    assert records.read(tmp_path / "runs/rot-digits-er-buffer500-n_epochs100000-seed0").status == "interrupted"
    assert not (tmp_path / "runs" / records.RESULTS_NAME).exists()


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    records.write(RECORD, tmp_path / "good")
    program = "import sys; from synergy.terminal.cli import main; sys.exit(main(['report', 'good']))"
    read, write = os.pipe()
    os.close(read)
    finished = subprocess.run(
        [sys.executable, "-c", program],
        stdout=write,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    os.close(write)
    assert (finished.returncode, finished.stderr) == (1, b"")


def test_a_warning_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(arguments: list[str]) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.warn("one\n   thing", stacklevel=1)
        return 0

    monkeypatch.setattr(cli, "_command", warn)
    assert call("list").err == "synergy: warning: one thing\n"


def test_an_error_moves_no_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(arguments: list[str]) -> NoReturn:
        raise UsageError("a  b\n  c\r\x1b[2Jü")

    monkeypatch.setattr(cli, "_command", refuse)
    assert call("list").err == "synergy: error: a  b c\\r\\x1b[2Jü\n"


@pytest.mark.slow
def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    arguments = [*BRIEF, "--checkpoint_every", "3", "--output_dir", "runs/ü", "--experiment_id", "ß"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    report, resume = ["report", "runs/ü", "--picture", "ö.png"], ["resume", "runs/ü/ß"]
    commands = [[*shlex.split(RUN), *arguments], report, resume]
    program = f"from synergy.terminal.cli import main; print(*map(main, {commands!a}))"
    command = [sys.executable, "-c", program]
    finished = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, check=False)
    out, err = finished.stdout.decode("ascii"), finished.stderr.decode("ascii")
    assert r"record: runs/\xfc/\xdf/record.json" in out and r"picture: \xf6.png" in out
    assert out.splitlines()[-1] == "0 0 2"
    assert_refused(Outcome(2, "", err), r"runs/\xfc/\xdf: ", "finished")


def test_a_process_that_ends_is_not_searched_for_cycles() -> None:
    program = """
import atexit, gc, sys
atexit.register(lambda: print("frozen:", gc.get_freeze_count() > 0))  # is called last
from synergy.terminal.cli import main
sys.argv[1:] = ["--version"]
sys.exit(main())
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == "frozen: True"


def test_help_and_the_package_import_no_large_library() -> None:
    program = """
import sys
from synergy.terminal.cli import main
LARGE = ("ray", "optuna", "matplotlib", "pandas", "mlflow", "datasets", "wandb", "rich", "jinja2")
for arguments in ([], ["--help"], ["--version"], ["run", "--help"], ["list", "--help"], ["report", "--help"],
                  ["study", "--help"], ["list"]):
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0
    for library in ("torch", "numpy", "sklearn", *LARGE):
        assert library not in sys.modules, (arguments, library)
import synergy
for library in ("torch", "numpy", *LARGE):
    assert library not in sys.modules, library
from synergy.terminal.cli import COMMANDS
for command in COMMANDS:
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert end.code == 0
    for library in LARGE:
        assert library not in sys.modules, (command, library)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.count("usage: synergy") == 6 + len(cli.COMMANDS)


def test_help_of_a_method_and_a_scenario_shows_their_options() -> None:
    text = call("run", "--help", "--model", "synergy", "--dataset", "rot-mnist").out
    for part in ("options of rot-mnist:", "--rotation_angles", "options of synergy:", "--fisher_alpha", "--seed"):
        assert part in text
    said = " ".join(text.split())
    assert "options of synergy: An episodic memory, a semantic memory (an averaged network)" in said
    assert "synergy show rot-mnist" in said
    plain = call("run", "-h").out
    assert "--fisher_alpha" not in plain
    assert all(name in " ".join(plain.split()) for name in (*METHODS, *SCENARIOS))


def test_help_says_defaults_and_choices() -> None:
    text = " ".join(call("run", "--help", "--model", "er", "--dataset", "rot-digits").out.split())
    assert "samples the memory holds (default 500)" in text
    assert "where to compute (one of auto, cpu, cuda, mps; default auto)" in text
    assert "of everything random (default 0)" in text
    assert "hold out 10 % of the training set" in text


def test_the_list_has_every_method_scenario_and_preset() -> None:
    outcome = call("list")
    assert (outcome.code, outcome.err) == (0, "")
    first_words = {line.split()[0] for line in outcome.out.splitlines() if line.startswith("  ")}
    assert set(METHODS) | set(SCENARIOS) <= first_words
    tuned = {
        (scenario, size, method)
        for scenario, sizes, _, methods in (
            re.split(r" {2,}", line.strip()) for line in outcome.out.partition("buffer sizes")[2].splitlines()[1:]
        )
        for size in sizes.split(", ")
        for method in methods.split(", ")
    }
    assert tuned == {
        (
            " ".join(filter(None, (preset.scenario, preset.variant))),
            "no memory" if preset.buffer_size is None else str(preset.buffer_size),
            preset.method,
        )
        for preset in presets.available()
    }


def test_a_report_of_runs_of_all_runs_and_of_both(tmp_path: Path) -> None:
    for seed in (0, 1):
        assert run(tmp_path, "rot-digits", "sgd", *BRIEF, "--seed", seed).code == 0
    folders = [tmp_path / f"rot-digits-sgd-max_steps_per_task4-max_tasks2-seed{seed}" for seed in (0, 1)]
    tables = [
        call("report", *folders),
        call("report", tmp_path),
        call("report", tmp_path / records.RESULTS_NAME),
        call("report", tmp_path, *folders),
    ]
    assert {table.code for table in tables} == {0}
    assert len({table.out for table in tables}) == 1
    (line,) = [line.split() for line in tables[0].out.splitlines() if "sgd (working)" in line]
    assert line[line.index("±") + 2] == "2"
    drawn = call("report", *folders, "--picture", tmp_path / "new" / "a.png")
    assert drawn.out == tables[0].out + f"\npicture: {tmp_path}/new/a.png\n"
    assert (tmp_path / "new" / "a.png").stat().st_size > 1000


@pytest.mark.filterwarnings("default:1 record cannot be read")
def test_a_report_of_a_folder_has_all_its_runs(tmp_path: Path) -> None:
    assert run(tmp_path, "rot-digits", "sgd", *BRIEF).code == 0
    assert run(tmp_path, "rot-digits", "sgd", *BRIEF, "--lr", 1e30, "--experiment_id", "diverged").code == 1
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "record.json").write_text("{")
    outcome = call("report", tmp_path)
    assert outcome.code == 0
    assert [line for line in outcome.out.splitlines() if "sgd lr=0.1 (working)" in line]
    assert "failed: diverged: " in outcome.out
    assert outcome.err.startswith("synergy: warning: 1 record cannot be read and is left out: ")
    assert f"{tmp_path}/damaged/record.json: not strict JSON" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.filterwarnings("default:experiment_id")
def test_a_run_says_that_its_name_was_taken(tmp_path: Path) -> None:
    arguments = ["rot-digits", "sgd", *BRIEF, "--experiment_id", "mine"]
    assert run(tmp_path, *arguments).err == ""
    second = run(tmp_path, *arguments)
    assert re.fullmatch(r"synergy: warning: experiment_id: .*'mine'.*'mine-2'\n", second.err)
    assert (tmp_path / "mine-2" / "record.json").exists()


def test_a_run_starts_from_the_folder_of_another(tmp_path: Path) -> None:
    assert run(tmp_path, "rot-digits", "sgd", *BRIEF, "--lr", 0.03, "--experiment_id", "first").code == 0
    arguments = ["--config", tmp_path / "first", "--experiment_id", "second", "--output_dir", tmp_path]
    assert call("run", *arguments).code == 0
    first, second = (records.read(tmp_path / name) for name in ("first", "second"))
    assert second.config["method"]["lr"] == 0.03
    assert second.accuracies == first.accuracies


def test_a_file_whose_only_run_is_torn_holds_none(tmp_path: Path) -> None:
    (tmp_path / "torn.jsonl").write_text('{"schema_version": 1, ')
    outcome = call("report", "torn.jsonl")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("synergy: error: torn.jsonl: line 1 (not strict JSON")
    assert outcome.err.count("\n") == 1


WORDS = [
    "run", "list", "report", "--help", "-h", "--version", "--load_best_args", "--nearest_best_args", "--validation",
    "--csv_log", "--tensorboard", "--memory_format", "--bogus", "--seed=3", "--lr=", "--", "-1", "=", "good", "empty",
]  # fmt: skip
FLAGS = [
    "--dataset", "--model", "--config", "--seed", "--lr", "--buffer_size", "--minibatch_size", "--batch_size",
    "--n_tasks", "--n_epochs", "--max_tasks", "--rotation_angles", "--device", "--data_dir", "--experiment_id",
    "--notes", "--class_order_seed", "--ema_alpha", "--fisher_update_freq", "--penalty_weight", "--precision",
    "--fisher_memory_mb", "--output_dir", "--picture",
]  # fmt: skip
VALUES = [
    "rot-digits", "seq-digits", "perm-digits", "rot-mnist", "mnist-360", "er", "sgd", "synergy", "joint", "der", "lwf",
    "0", "1", "2", "5", "20", "0.5", "1e6", "1e-3", "1e300", "nan", "-inf", "-1", "auto", "cpu", "mps", "bf16", "tf32",
    "", " ", "..", "a/b", "file", "binary", "good", "empty", "nosuch", "tables.toml", "options.toml", "a.png", "10,20",
    "\udcff", "ü\n", "9" * 18, "9" * 25, "%s", "'",
]  # fmt: skip
BEGINNINGS: list[list[str]] = [
    [],
    ["report"],
    ["run", "--dataset", "rot-digits", "--model", "synergy"],
    ["run", "--dataset", "seq-digits", "--model", "er"],
    ["run", "--dataset", "perm-digits", "--model", "derpp"],
]
PARTS = st.one_of(
    st.tuples(st.sampled_from(WORDS)),
    st.tuples(st.sampled_from(FLAGS), st.sampled_from(VALUES)),
    st.tuples(st.sampled_from(FLAGS), st.sampled_from(VALUES)),
    st.tuples(st.sampled_from(FLAGS + VALUES)),
)


@pytest.mark.filterwarnings("default:buffer_size", "default:experiment_id")
@settings(max_examples=250)
@given(st.sampled_from(BEGINNINGS), st.lists(PARTS, max_size=3))
def test_any_arguments_end_in_an_exit_code(
    tmp_path_factory: pytest.TempPathFactory, beginning: list[str], parts: list[tuple[str, ...]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any arguments"
    if not folder.exists():
        folder.mkdir()
        furnish(folder)
    ending = [*BRIEF, "--output_dir", "runs"] if "run" in beginning else []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        outcome = call(*beginning, *itertools.chain(*parts), *ending)
    assert outcome.code in (0, 1, 2)
    errors = [line for line in outcome.err.splitlines() if not line.startswith("synergy: warning: ")]
    assert len(errors) == (outcome.code != 0)
    assert all(line.startswith("synergy: error: ") for line in errors)
