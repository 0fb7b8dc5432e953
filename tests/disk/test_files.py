"""Files are whole after every failure that can be arranged: a full disk, a short write, a torn line, other writers."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from synergy.disk import files

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit or lock")

LIMITED = """
import resource, signal, sys
from pathlib import Path
from synergy.disk import files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write = {"write_atomically": files.write_atomically, "append_line": files.append_line}[sys.argv[1]]
    write(Path(sys.argv[2]), "x" * 1000)
except OSError as error:
    sys.exit(0 if error.errno else 3)
sys.exit(4)
"""


def with_full_disk(function: Callable[..., None], path: Path) -> int:
    """Write 1,000 characters where a file may have 100 bytes; 0 if that gave an OSError."""
    return subprocess.run([sys.executable, "-c", LIMITED, function.__name__, str(path)], check=False).returncode


@contextmanager
def unprivileged() -> Iterator[None]:
    """Within, as somebody whom permissions bind, which root is not. Paths must lead from the working directory."""
    if sys.platform == "win32" or os.geteuid() != 0:
        yield
        return
    Path.cwd().chmod(0o777)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def fail(code: int) -> Callable[..., None]:
    def raise_error(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return raise_error


@pytest.mark.parametrize("content", ["Größe\r\n1\n", b"\x00\xff\r\n", "", b""])
def test_write_leaves_exactly_the_content(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "a.txt"
    path.write_text("something longer that was there before")
    files.write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(tmp_path) == ["a.txt"]


@posix
def test_a_written_file_has_ordinary_permissions(tmp_path: Path) -> None:
    files.write_atomically(tmp_path / "a", "1")
    (tmp_path / "b").write_text("1")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"]
    assert modes[0] == modes[1]


@posix
def test_write_on_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    assert with_full_disk(files.write_atomically, path) == 0
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="error"):
        patch.setattr(step, fail(errno.EIO))
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@posix
def test_a_write_is_synced_before_it_gets_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen, fsync = tmp_path / "a.txt", [], os.fsync

    def note(descriptor: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    files.write_atomically(path, "new")
    assert seen == [(False, False), (True, True)]


def test_what_a_killed_writer_left_goes_and_nothing_else(tmp_path: Path) -> None:
    mine, others = f".a.json.{'0' * 16}.tmp", [".a.json.tmp", f".b.json.{'0' * 16}.tmp", f".axjson.{'0' * 16}.tmp"]
    for name in (mine, *others):
        (tmp_path / name).write_text("half")
    folder = tmp_path / f".a.json.{'1' * 16}.tmp"
    folder.mkdir()
    files.remove_leftovers(tmp_path / "a.json")
    assert names(tmp_path) == sorted([*others, folder.name])


def test_to_try_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    files.try_writing(tmp_path / "a")
    assert (names(tmp_path), (tmp_path / "a").read_text()) == (["a"], "old")
    with pytest.raises(OSError):
        files.try_writing(tmp_path / "missing" / "a")


def test_an_unwritable_path_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        files.write_atomically(tmp_path / "missing" / "a", "1")
    with pytest.raises(OSError):
        files.append_line(tmp_path / "missing" / "a", "1")
    with pytest.raises(OSError):
        files.append_line(tmp_path, "1")


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    files.append_line(path, '"eins"')
    files.append_line(path, '"größer"')
    assert path.read_bytes() == '"eins"\n"größer"\n'.encode()


def test_a_torn_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'1\n{"torn": ')
    files.append_line(path, "2")
    assert path.read_bytes() == b'1\n{"torn": \n2\n'


def test_a_line_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one line"):
        files.append_line(tmp_path / "a.jsonl", "1\n2")
    assert names(tmp_path) == []


@posix
@pytest.mark.parametrize("old", [b"", b"old\n", b"old\n" * 20, b"torn"])
def test_append_on_a_full_disk_leaves_no_half_line(tmp_path: Path, old: bytes) -> None:
    # The system writes up to the limit and reports a short write: the half line is there until it is taken back.
    path = tmp_path / "a.jsonl"
    path.write_bytes(old)
    assert with_full_disk(files.append_line, path) == 0
    assert path.read_bytes() == old


def test_a_line_that_could_not_be_synced_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"old\n")
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(os, "fsync", fail(errno.EIO))
        files.append_line(path, "new")
    assert path.read_bytes() == b"old\n"


APPENDING = """
import sys
from pathlib import Path
from synergy.disk import files
sys.stdin.readline()
for number in range(40):
    files.append_line(Path(sys.argv[1]), f"{sys.argv[2]} {number} " + sys.argv[2] * 20_000)
"""


def in_three_processes(code: str, *arguments: str) -> None:
    """Run `code` at once in processes "a", "b" and "c", all started before the first goes."""
    start = [subprocess.Popen([sys.executable, "-c", code, *arguments, name], stdin=subprocess.PIPE) for name in "abc"]
    for process in start:
        process.communicate(b"go\n")
    assert [process.returncode for process in start] == [0, 0, 0]


@posix
def test_processes_append_whole_lines_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    in_three_processes(APPENDING, str(path))
    expected = {f"{name} {number} " + name * 20_000 for name in "abc" for number in range(40)}
    lines = path.read_text().splitlines()
    assert len(lines) == len(expected)
    assert set(lines) == expected


@posix
def test_a_filesystem_without_locks_and_folder_sync_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            fail(errno.EINVAL)()
        fsync(descriptor)

    monkeypatch.setattr("fcntl.flock", fail(errno.ENOSYS))
    monkeypatch.setattr(os, "fsync", only_files)
    files.append_line(tmp_path / "a.jsonl", "1")
    assert (tmp_path / "a.jsonl").read_text() == "1\n"


@posix
def test_a_lock_that_fails_for_another_reason_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", fail(errno.EIO))
    with pytest.raises(OSError):
        files.append_line(tmp_path / "a.jsonl", "1")


def test_a_synced_file_is_a_new_one(tmp_path: Path) -> None:
    files.write_synced(tmp_path / "a", b"1")
    with pytest.raises(FileExistsError):
        files.write_synced(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"1"
