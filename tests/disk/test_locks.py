"""One lock: it keeps processes and threads apart, ends with its holder, and is done without where there is none."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from synergy.disk.locks import locked
from tests.disk.test_files import fail, in_three_processes, names, posix

pytestmark = posix

HOLDING = """
import sys, time
from pathlib import Path
from synergy.disk.locks import locked
with locked(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""


@contextmanager
def held_elsewhere(path: Path, how: str = "alone", seconds: float = 60) -> Iterator[None]:
    """Within, another process holds the lock of `path`, or has given it back."""
    command = [sys.executable, "-c", HOLDING, str(path), how, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        try:
            yield
        finally:
            other.kill()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_another_process_is_kept_out(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    path.mkdir() if kind == "folder" else path.write_text("mine", encoding="utf-8")
    with held_elsewhere(path):
        for shared in (False, True):
            with (
                pytest.raises(BlockingIOError, match="another process is using it"),
                locked(path, shared=shared, patience=0),
            ):
                pass
    # The lock is gone with the process.
    with locked(path, patience=0), pytest.raises(BlockingIOError), locked(path, patience=0):
        pass
    assert path.is_dir() or path.read_text(encoding="utf-8") == "mine"


def test_a_shared_lock_lets_in_those_who_share(tmp_path: Path) -> None:
    alone = pytest.raises(BlockingIOError)
    with (
        held_elsewhere(tmp_path, "shared"),
        locked(tmp_path, shared=True, patience=0),
        alone,
        locked(tmp_path, patience=0),
    ):
        pass


def test_who_waits_gets_it(tmp_path: Path) -> None:
    began = time.monotonic()
    with held_elsewhere(tmp_path, seconds=0.3), locked(tmp_path):
        assert time.monotonic() - began > 0.3


def test_waiting_ends(tmp_path: Path) -> None:
    began = time.monotonic()
    with held_elsewhere(tmp_path), pytest.raises(BlockingIOError), locked(tmp_path, patience=0.2):
        pass
    assert time.monotonic() - began > 0.2


FORKING = """
import os, sys, time
from pathlib import Path
from synergy.disk.locks import locked
with locked(Path(sys.argv[1])):
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
print(child, flush=True)
"""


def test_a_forked_child_does_not_keep_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        child = int(other.stdout.readline())
        try:
            with locked(tmp_path, patience=0):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_filesystem_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", fail(errno.ENOSYS))
    with locked(tmp_path), locked(tmp_path):
        pass
    monkeypatch.setattr("fcntl.flock", fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path):
        pass


def test_what_is_not_there_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(tmp_path / "missing"):
        pass


COUNTING = """
import sys
from pathlib import Path
from synergy.disk import files
from synergy.disk.locks import locked
path = Path(sys.argv[1]) / "count"
sys.stdin.readline()
for _ in range(40):
    with locked(path.parent):
        files.write_atomically(path, str(int(path.read_text()) + 1))
"""


def test_a_locked_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0", encoding="utf-8")
    in_three_processes(COUNTING, str(tmp_path))
    assert (tmp_path / "count").read_text(encoding="utf-8") == "120"
    assert names(tmp_path) == ["count"]
