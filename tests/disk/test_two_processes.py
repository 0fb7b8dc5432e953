"""Processes that save to one folder wait for each other, and who loads it finds a whole checkpoint each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from synergy.disk import checkpoint, folders, locks
from synergy.errors import UsageError
from tests.disk.test_checkpoint import names, posix
from tests.disk.test_locks import held_elsewhere

pytestmark = posix

SAVING = """
import sys, time
from pathlib import Path
import torch
from synergy.disk import checkpoint
state = {"a": torch.full((1000,), float(sys.argv[2]))}
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + 1.5
count = 0
while time.monotonic() < end:
    checkpoint.write(state, Path(sys.argv[1]))
    count += 1
print(count)
"""


def saver(folder: Path, value: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SAVING, str(folder), str(value)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_that_save_and_one_that_loads(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    checkpoint.write({"a": torch.zeros(1000)}, folder)
    savers = [saver(folder, value) for value in (1, 2)]
    for each in savers:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    for each in savers:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    found, loads = set(), 0
    while any(each.poll() is None for each in savers):
        values = checkpoint.read(folder)["a"].unique().tolist()
        assert len(values) == 1
        found.add(values[0])
        loads += 1
    saves = [int(each.communicate()[0]) for each in savers]
    assert [each.returncode for each in savers] == [0, 0]
    assert min(*saves, loads) > 5
    assert {1.0, 2.0} <= found <= {0.0, 1.0, 2.0}
    assert names(tmp_path) == ["it"]


def test_a_draft_is_swept_when_its_writer_is_dead_and_not_before(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    with folders.replacing(folder, checkpoint.NAMES) as draft:
        checkpoint.write({"a": 1}, folder)
        assert names(tmp_path) == sorted([draft.name, "it"])
        for name, content in checkpoint.packed({"a": 2}).items():
            (draft / name).write_bytes(content)
    assert checkpoint.read(folder) == {"a": 2}
    (tmp_path / f".it.{'0' * 16}.new").mkdir()
    checkpoint.write({"a": 3}, folder)
    assert names(tmp_path) == ["it"]


def test_a_stopped_process_is_named_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    checkpoint.write({"a": 1}, tmp_path / "it")
    with held_elsewhere(tmp_path):
        with pytest.raises(BlockingIOError, match="another process is using it"):
            checkpoint.write({"a": 2}, tmp_path / "it")
        with pytest.raises(UsageError, match=r"^checkpoint .* another process is using it"):
            checkpoint.read(tmp_path / "it")
    assert checkpoint.read(tmp_path / "it") == {"a": 1}
    assert names(tmp_path) == ["it"]


def test_who_may_not_look_into_the_folder_above_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.write({"a": 1}, tmp_path / "it")
    monkeypatch.setattr("synergy.disk.folders.locked", locked_out)
    assert checkpoint.read(tmp_path / "it") == {"a": 1}


def locked_out(path: Path, **_: object) -> None:
    raise PermissionError(path)
