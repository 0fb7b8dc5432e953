"""A damaged checkpoint is refused in one line that names the damage, and nothing on the disk changes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synergy.disk import checkpoint
from synergy.disk.checkpoint import NAMES
from synergy.disk.encoding import STATE, TENSORS
from synergy.disk.sealed import MANIFEST
from synergy.errors import UsageError
from synergy.state import same
from tests.disk.test_checkpoint import PATIENCE, empty_folder, sample


def seal(folder: Path) -> None:
    """Make the manifest true of the files as they are."""
    facts = {}
    for name in (TENSORS, STATE):
        data = (folder / name).read_bytes()
        facts[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"files": facts}))


def refused(folder: Path) -> str:
    """The one line that `read` says."""
    before = sorted((path, path.lstat().st_size) for path in folder.parent.rglob("*"))
    with pytest.raises(UsageError) as complaint:
        checkpoint.read(folder)
    message = str(complaint.value)
    assert message.startswith(f"checkpoint {folder}: ")
    assert "\n" not in message
    assert "; " in message
    assert before == sorted((path, path.lstat().st_size) for path in folder.parent.rglob("*"))
    return message


@given(st.data())
@settings(max_examples=60 * PATIENCE, suppress_health_check=[HealthCheck.too_slow])
def test_any_damage_is_refused_or_makes_no_difference(data: st.DataObject) -> None:
    with empty_folder() as parent:
        folder = parent / "it"
        checkpoint.write(sample(), folder)
        path = folder / data.draw(st.sampled_from(sorted(NAMES)))
        content = bytearray(path.read_bytes())
        kind = data.draw(st.sampled_from(["flip", "cut", "more", "delete", "swap", "insert", "add"]))
        place = data.draw(st.integers(0, len(content) - 1))
        if kind == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del content[place:]
        elif kind == "more":
            content += bytes(place + 1)
        elif kind == "insert":
            content.insert(place, data.draw(st.integers(0, 255)))
        path.write_bytes(content)
        if kind == "delete":
            path.unlink()
        elif kind == "swap":
            other = folder / data.draw(st.sampled_from(sorted(NAMES - {path.name})))
            first, second = path.read_bytes(), other.read_bytes()
            path.write_bytes(second)
            other.write_bytes(first)
        elif kind == "add":
            (folder / data.draw(st.sampled_from(["more", ".hidden", "state.json~", "x.pt"]))).write_bytes(b"")
        try:
            state = checkpoint.read(folder)
        except UsageError:
            refused(folder)
        else:
            assert path.name == MANIFEST, "only the manifest holds what does not matter, such as its writer"
            assert same(state, sample())


@given(st.data())
@settings(max_examples=60 * PATIENCE, suppress_health_check=[HealthCheck.too_slow])
def test_damage_under_a_manifest_that_is_true_of_it_never_crashes(data: st.DataObject) -> None:
    with empty_folder() as parent:
        folder = parent / "it"
        checkpoint.write(sample(), folder)
        path = folder / data.draw(st.sampled_from([STATE, TENSORS]))
        content = bytearray(path.read_bytes())
        head = len(content) if path.name == STATE else 8 + struct.unpack("<Q", content[:8])[0]
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, head - 1))
            content[place] = data.draw(st.sampled_from([*b'0123456789[]{}",:.-eE$tfn', 0, 255, content[place] ^ 1]))
        path.write_bytes(content)
        seal(folder)
        try:
            state = checkpoint.read(folder)
        except UsageError:
            refused(folder)
        else:
            # It is a state, if another one: what does not fit a run is refused where it is restored.
            checkpoint.write(state, parent / "again")
            assert same(checkpoint.read(parent / "again"), state)


def text(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Replace a text in a file."""

    def change(folder: Path) -> None:
        content = (folder / name).read_text()
        assert old in content
        (folder / name).write_text(content.replace(old, new, 1))

    return change


def whole(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def file_instead(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("mine")


def sealed(change: Callable[[Path], None]) -> Callable[[Path], None]:
    def both(folder: Path) -> None:
        change(folder)
        seal(folder)

    return both


def manifest(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / MANIFEST).read_text()) | changes
        (folder / MANIFEST).write_text(json.dumps(content))

    return change


def header(content: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(content)) + content + data


def link(name: str) -> Callable[[Path], None]:
    """A link to the same content elsewhere."""

    def change(folder: Path) -> None:
        shutil.move(folder / name, folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)

    return change


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def sparse(name: str, size: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        os.truncate(folder / name, size)

    return change


FACT = {"size": 0, "sha256": ""}
OF_ONE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    # the folder
    "gone": (lambda folder: shutil.rmtree(folder), "there is no such folder"),
    "a file": (file_instead, "there is no such folder"),
    "empty": (emptied, "it has no manifest.json"),
    "no tensors": (lambda folder: (folder / TENSORS).unlink(), "it has no tensors.safetensors"),
    "one more file": (lambda folder: (folder / "more").touch(), "'more' does not belong to it"),
    "a link": (link(STATE), "state.json is a link"),
    "a linked manifest": (link(MANIFEST), "manifest.json is a link"),
    "a pipe": (instead(STATE, lambda path: os.mkfifo(path)), "state.json is not a plain file"),
    "a folder in place of a file": (instead(STATE, lambda path: path.mkdir()), "cannot be read: Is a directory"),
    # the manifest
    "an endless manifest": (sparse(MANIFEST, 10**12), "manifest.json has 1000000000000 bytes, not the 65536"),
    "an endless file": (sparse(TENSORS, 10**12), "tensors.safetensors has 1000000000000 bytes, not the"),
    "no JSON": (whole(MANIFEST, b"x"), "manifest.json is not strict JSON"),
    "no text": (whole(MANIFEST, b"\xff"), "manifest.json is not strict JSON"),
    "not a table": (whole(MANIFEST, b"[]"), "manifest.json is not a manifest"),
    "NaN": (whole(MANIFEST, b'{"format": NaN}'), "manifest.json is not strict JSON"),
    "an endless number": (whole(MANIFEST, b'{"format": 1' + b"0" * 60_000 + b"}"), "manifest.json is not strict JSON"),
    "a large number": (manifest(format=10**4000), "manifest.json is not a manifest"),
    "deep": (whole(MANIFEST, b"[" * 60_000), "manifest.json is not strict JSON"),
    "twice": (text(MANIFEST, '"format": 1', '"format": 1, "format": 1'), "manifest.json is not strict JSON"),
    "a later format": (manifest(format=2), "its format is 2, this release reads format 1"),
    "format true": (manifest(format=True), "manifest.json is not a manifest"),
    "one more entry": (manifest(more=1), "manifest.json has other entries than it should"),
    "another file": (manifest(files={TENSORS: FACT, "../x": FACT}), "manifest.json names other files than it should"),
    "an absolute file": (manifest(files={TENSORS: FACT, STATE: FACT, "/etc/passwd": FACT}), "names other files"),
    "no files": (manifest(files=[TENSORS, STATE]), "has other entries than it should"),
    "no sizes": (manifest(files={TENSORS: 1, STATE: 1}), "does not say what tensors.safetensors is"),
    "a negative size": (manifest(files={TENSORS: {"size": -1, "sha256": ""}, STATE: FACT}), "does not say what"),
    "no digest": (manifest(files={TENSORS: {"size": 1, "sha256": 1}, STATE: FACT}), "does not say what"),
    "a large state": (
        manifest(files={TENSORS: FACT, STATE: {"size": 10**9, "sha256": ""}}),
        "state.json has 1000000000 bytes; allowed: 16777216",
    ),
    # the state
    "a flipped number": (text(STATE, '"filled": 2', '"filled": 3'), "state.json is damaged: it is not what was writt"),
    "state no JSON": (sealed(whole(STATE, b"{")), "state.json is not strict JSON"),
    "state NaN": (sealed(text(STATE, '"filled": 2', '"filled": NaN')), "state.json is not strict JSON"),
    "state infinite": (sealed(text(STATE, '"filled": 2', '"filled": 1e999')), "state.json is not strict JSON"),
    "state deep": (sealed(whole(STATE, b"[" * 100_000)), "state.json is not strict JSON"),
    "state rather deep": (sealed(whole(STATE, b'{"a":' * 70 + b"1" + b"}" * 70)), "state.json is nested too deep"),
    "state twice": (sealed(text(STATE, '"filled": 2', '"filled": 2, "filled": 2')), "state.json is not strict JSON"),
    "state a list": (sealed(whole(STATE, b"[]")), "state.json is not a state"),
    "unknown tag": (sealed(text(STATE, '"$float"', '"$code"')), "state.json holds what no state holds"),
    "no such float": (sealed(text(STATE, '"inf"', '"infinity"')), "state.json holds what no state holds"),
    "tag and more": (sealed(text(STATE, '"$float"', '"x": 1, "$float"')), "state.json holds what no state holds"),
    "a map without pairs": (sealed(whole(STATE, b'{"$map": [[1]]}')), "state.json holds what no state holds"),
    "a map of true": (sealed(whole(STATE, b'{"$map": [[true, 1]]}')), "state.json holds what no state holds"),
    "a map with a key twice": (sealed(whole(STATE, b'{"$map": [[1, 1], [1, 2]]}')), "holds what no state holds"),
    "a tensor that is missing": (sealed(text(STATE, '"0:net/weight"', '"9:x"')), "names the tensor '9:x', which"),
    "a tensor used twice": (sealed(text(STATE, '"1:net/bias"', '"0:net/weight"')), "names the tensor '0:net/weight'"),
    "a tensor not used": (sealed(text(STATE, '{"$tensor": "1:net/bias"}', "1")), "holds '1:net/bias', which"),
    # the tensors
    "tensors cut": (sealed(whole(TENSORS, b"")), "the header of tensors.safetensors is not strict JSON"),
    "no header": (sealed(whole(TENSORS, b"\xff" * 100)), "tensors.safetensors has no header"),
    "header no JSON": (sealed(whole(TENSORS, header(b"x"))), "the header of tensors.safetensors is not strict JSON"),
    "no offsets": (sealed(whole(TENSORS, header(b'{"a":{"dtype":"F32","shape":[1]}}'))), "tensors that cannot be"),
    "beyond the end": (sealed(whole(TENSORS, header(OF_ONE))), "holds tensors that cannot be read"),
    "another size": (sealed(whole(TENSORS, header(OF_ONE.replace(b"[1]", b"[2]"), b"1234"))), "tensors that cannot"),
    "another kind": (sealed(whole(TENSORS, header(OF_ONE.replace(b"F32", b"F99"), b"1234"))), "tensors that cannot"),
    "an endless shape": (
        sealed(whole(TENSORS, header(OF_ONE.replace(b"[1]", b"[18446744073709551615,0]").replace(b"4]", b"0]")))),
        "holds",
    ),
    "text beside tensors": (
        sealed(whole(TENSORS, header(b'{"__metadata__":{"a":"b"}}'))),
        "tensors.safetensors holds something else than tensors",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(tmp_path: Path, kind: str) -> None:
    if sys.platform == "win32" and ("link" in kind or "pipe" in kind):
        pytest.skip("of another system")
    checkpoint.write(sample(), tmp_path / "it")
    change, message = DAMAGE[kind]
    change(tmp_path / "it")
    assert message in refused(tmp_path / "it")


LONG = "9:" + "x" * 100_000


@pytest.mark.parametrize("new", [f'{{"$tensor": "{LONG}"}}', "1"])
def test_a_message_is_no_longer_for_a_long_name(tmp_path: Path, new: str) -> None:
    checkpoint.write(sample(), tmp_path / "it")
    text(STATE, '{"$tensor": "1:net/bias"}', new)(tmp_path / "it")
    path = tmp_path / "it" / TENSORS
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    head = data[8 : 8 + size].replace(b'"1:net/bias"', f'"0{LONG}"'.encode())
    path.write_bytes(header(head, data[8 + size :]))
    seal(tmp_path / "it")
    assert len(refused(tmp_path / "it")) < len(str(tmp_path)) + 200


def test_a_kind_that_is_never_saved(tmp_path: Path) -> None:
    checkpoint.write({"a": torch.zeros(2, dtype=torch.int32)}, tmp_path / "it")
    path = tmp_path / "it" / TENSORS
    path.write_bytes(path.read_bytes().replace(b'"I32"', b'"U32"'))
    seal(tmp_path / "it")
    assert "of a type that is never saved" in refused(tmp_path / "it")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.write(sample(), tmp_path / "it")

    def forbidden(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", forbidden)
    assert "cannot be read: Permission denied; name another folder" in refused(tmp_path / "it")


def test_more_than_the_machine_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.write(sample(), tmp_path / "it")

    def full(data: bytes) -> Any:
        raise MemoryError

    monkeypatch.setattr("safetensors.torch.load", full)
    assert "it does not fit into memory; use a larger machine" in refused(tmp_path / "it")


@pytest.mark.parametrize("place", ["", "a/b/c", "x" * 300, "/"])
def test_a_place_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^checkpoint "):
        checkpoint.read(Path(place))
