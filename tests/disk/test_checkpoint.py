"""Checkpoints come back bit by bit or not at all: any damage is one line, and what was there before stays."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import math
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from synergy.disk import checkpoint, files
from synergy.disk.checkpoint import MANIFEST, NAMES, STATE, TENSORS, Series
from synergy.errors import UsageError
from synergy.randomness import generator
from synergy.state import State, same

PATIENCE = int(os.environ.get("SYNERGY_PATIENCE", "1"))
"""How many times as many examples to try as usual."""

posix = pytest.mark.skipif(sys.platform == "win32", reason="of another system")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def sample() -> State:
    """A state as a method has it."""
    return {
        "net": {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor(0.5)},
        "optimizer": {"state": {0: {"momentum": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "rng": dict(generator(0, "a").bit_generator.state),
        "memory": {"filled": 2, "sizes": [1, 2], "raw": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)},
        "none": None,
        "infinite": math.inf,
        "name": "Größe",
    }


# What is written comes back

finite_tensors = st.builds(
    lambda dtype, shape, seed: made(dtype, tuple(shape), seed),
    st.sampled_from(sorted(checkpoint.DTYPES, key=str)),
    st.lists(st.integers(0, 3), max_size=4),
    st.integers(0, 2**32),
)


def made(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> Tensor:
    """Any bits that a dtype can have, so also NaN, infinity and -0."""
    count = math.prod(shape)
    if dtype is torch.bool:
        return torch.from_numpy(generator(seed, "bits").integers(0, 2, count) > 0).reshape(shape)
    size = torch.empty(0, dtype=dtype).element_size()
    raw = generator(seed, "bits").bytes(count * size)
    whole = torch.frombuffer(bytearray(raw), dtype=dtype) if count else torch.empty(0, dtype=dtype)
    return whole.reshape(shape)


def laid_out(tensor: Tensor, how: int) -> Tensor:
    """The same values, stored otherwise."""
    if how == 1 and tensor.dim() == 4 and tensor.numel():
        return tensor.contiguous(memory_format=torch.channels_last)
    if how == 2:
        return tensor.mT if tensor.dim() >= 2 else tensor.repeat(2)[::2] if tensor.dim() else tensor
    if how == 3 and tensor.dim():
        return tensor[:1].expand(tensor.shape) if len(tensor) else tensor
    return tensor


tensors = st.builds(laid_out, finite_tensors, st.integers(0, 3))
leaves = st.one_of(
    tensors,
    st.integers(-(2**140), 2**140),
    st.floats(),
    st.text(st.characters(), max_size=5),
    st.booleans(),
    st.none(),
    st.sampled_from([-0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, "\ud800", "$tensor"]),
)
keys = st.one_of(
    st.text(max_size=4), st.integers(-3, 2**70), st.sampled_from(["$tensor", "$map", "a/b", "..", "__metadata__"])
)


def mappings(values: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[Any]:
    return st.dictionaries(keys, values, max_size=size)


states = mappings(
    st.recursive(leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), mappings(inner, 3)), max_leaves=8),
    4,
)


@contextmanager
def empty_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@given(states)
@example({"empty": torch.empty(0, dtype=torch.bfloat16).repeat(2)[::2], "one": torch.ones(2)[::2]})
@settings(max_examples=60 * PATIENCE)
def test_any_state_comes_back_bit_by_bit(state: State) -> None:
    with empty_folder() as folder:
        checkpoint.write(state, folder / "it")
        again = checkpoint.read(folder / "it")
        assert same(again, state)
        assert list(again) == list(state)
        assert names(folder) == ["it"]
        assert set(names(folder / "it")) == NAMES


def test_a_generator_goes_on() -> None:
    with empty_folder() as folder:
        one, other = generator(0, "a"), generator(1, "b")
        one.random(7)
        one.integers(0, 2, dtype=np.uint32)  # half of a draw is kept
        checkpoint.write({"rng": dict(one.bit_generator.state)}, folder / "it")
        other.bit_generator.state = checkpoint.read(folder / "it")["rng"]
        assert np.array_equal(one.random(5), other.random(5))


def test_tensors_come_to_the_device_asked_for(tmp_path: Path) -> None:
    checkpoint.write(sample(), tmp_path / "it")
    assert checkpoint.read(tmp_path / "it", "meta")["net"]["bias"].device.type == "meta"


def test_the_files_can_be_read_by_others(tmp_path: Path) -> None:
    import safetensors.torch

    checkpoint.write(sample(), tmp_path / "it")
    tensors = safetensors.torch.load_file(tmp_path / "it" / TENSORS)
    assert set(tensors) == {"0:net/weight", "1:net/bias", "2:optimizer/state/0/momentum", "3:memory/raw"}
    content = json.loads((tmp_path / "it" / STATE).read_text())
    assert content["net"] == {"weight": {"$tensor": "0:net/weight"}, "bias": {"$tensor": "1:net/bias"}}
    assert content["infinite"] == {"$float": "inf"}
    manifest = json.loads((tmp_path / "it" / MANIFEST).read_text())
    data = (tmp_path / "it" / STATE).read_bytes()
    assert manifest["files"][STATE] == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def nested(depth: int) -> State:
    state: State = {}
    for _ in range(depth):
        state = {"a": state}
    return state


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"a": {"b": object()}}, TypeError, "cannot save 'a/b': a object"),
        ({"a": {1.5: 0}}, TypeError, "cannot save 'a': a key of type float"),
        ({"a": {True: 0}}, TypeError, "cannot save 'a': a key of type bool"),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, TypeError, "cannot save 'a': a tensor of torch.complex64"),
        ({"a": torch.eye(2).to_sparse()}, TypeError, "cannot save 'a': a tensor of torch.float32, torch.sparse_coo"),
        (nested(checkpoint.MAX_DEPTH + 1), ValueError, "nested more than 64 deep"),
        ({"a": "x" * checkpoint.MAX_JSON_BYTES}, ValueError, "allowed: 16777216"),
    ],
)
def test_what_cannot_be_saved_is_told_before_anything_is_written(
    tmp_path: Path, state: State, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        checkpoint.write(state, tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_as_deep_as_allowed(tmp_path: Path) -> None:
    state = nested(checkpoint.MAX_DEPTH)
    checkpoint.write(state, tmp_path / "it")
    assert same(checkpoint.read(tmp_path / "it"), state)


# Writing is all or nothing


class Killed(BaseException):
    """The process ends here, and nothing of it runs any more."""


SYSCALLS = ("mkdir", "rename", "unlink", "rmdir", "fsync")


def kill(patch: pytest.MonkeyPatch, at: int) -> None:
    """From call number `at` (from 0) on, nothing changes on the disk any more."""
    count = itertools.count()
    for name in SYSCALLS:
        real = vars(os)[name]

        def call(*args: Any, real: Any = real, **kwargs: Any) -> Any:
            if next(count) >= at:
                raise Killed
            return real(*args, **kwargs)

        patch.setattr(os, name, call)


@pytest.mark.parametrize("replacing", [False, True])
def test_killed_at_any_moment_leaves_the_old_one_or_the_new_one(tmp_path: Path, replacing: bool) -> None:
    old, new = {"a": torch.zeros(3)}, {"a": torch.ones(3)}
    found = set()
    for at in itertools.count():
        folder = tmp_path / str(at) / "it"
        folder.parent.mkdir()
        if replacing:
            checkpoint.write(old, folder)
        # From here on no call does anything: not even those of the error's own cleaning up.
        with pytest.MonkeyPatch.context() as patch:
            kill(patch, at)
            try:
                checkpoint.write(new, folder)
                killed = False
            except Killed:
                killed = True
        try:
            state = checkpoint.read(folder)
            assert same(state, old) or same(state, new)
            found.add(float(state["a"][0]))
        except UsageError as error:
            assert not replacing and "there is no such folder" in str(error)
            found.add(-1)
        # The next writer sees to what is left.
        checkpoint.write(new, folder)
        assert names(folder.parent) == ["it"]
        assert same(checkpoint.read(folder), new)
        if not killed:
            break
    assert at > 5
    assert found == ({0.0, 1.0} if replacing else {-1.0, 1.0})


def test_killed_again_after_it_was_killed_between_its_renames(tmp_path: Path) -> None:
    for at in range(12):
        folder = tmp_path / str(at) / "it"
        folder.parent.mkdir()
        checkpoint.write({"a": 1}, folder)
        folder.rename(folder.with_name(".it.old"))
        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            kill(patch, at)
            checkpoint.write({"a": 2}, folder)
        assert checkpoint.read(folder) in ({"a": 1}, {"a": 2})


@pytest.mark.parametrize("replacing", [False, True])
def test_an_error_at_any_moment_leaves_all_as_it_was(tmp_path: Path, replacing: bool) -> None:
    old, new = {"a": torch.zeros(3)}, {"a": torch.ones(3)}
    for at in itertools.count():
        folder = tmp_path / str(at) / "it"
        folder.parent.mkdir()
        if replacing:
            checkpoint.write(old, folder)
        count = itertools.count()
        failed = False
        with pytest.MonkeyPatch.context() as patch:
            for name in ("mkdir", "rename", "fsync"):
                real = vars(os)[name]

                def call(*args: Any, real: Any = real, count: Any = count, at: int = at, **kwargs: Any) -> Any:
                    if next(count) == at:
                        raise OSError(errno.EIO, "Input/output error")
                    return real(*args, **kwargs)

                patch.setattr(os, name, call)
            try:
                checkpoint.write(new, folder)
            except OSError:
                failed = True
        assert names(folder.parent) == (["it"] if replacing or not failed else [])
        if not failed:
            assert same(checkpoint.read(folder), new)
            break
        if replacing:
            assert same(checkpoint.read(folder), old)
    assert at > 5


def test_all_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_sync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def note_rename(source: Any, target: Any) -> None:
        synced.append(f"-> {Path(target).name}")
        rename(source, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not say what a descriptor is of")
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    checkpoint.write(sample(), tmp_path / "it")
    *contents, folder, renamed, parent = synced
    assert set(contents) == NAMES
    assert contents[-1] == MANIFEST
    assert folder.startswith(".it.")
    assert (renamed, parent) == ("-> it", tmp_path.name)


@pytest.mark.parametrize("what", ["file", "folder", "folder with a checkpoint and more"])
def test_something_else_is_never_replaced(tmp_path: Path, what: str) -> None:
    place = tmp_path / "it"
    if what == "file":
        place.write_text("mine")
    elif what == "folder":
        place.mkdir()
        (place / "mine").write_text("mine")
    else:
        checkpoint.write({}, place)
        (place / "mine").write_text("mine")
    with pytest.raises(UsageError, match=r"there is something else of that name; name another folder"):
        checkpoint.write(sample(), place)
    assert (place if what == "file" else place / "mine").read_text() == "mine"
    assert names(tmp_path) == ["it"]


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    checkpoint.write(sample(), tmp_path / "it")
    assert same(checkpoint.read(tmp_path / "it"), sample())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "missing" / "it", tmp_path / "file" / "it"):
        with pytest.raises(OSError):
            checkpoint.write(sample(), folder)
    assert names(tmp_path) == ["file"]


@posix
def test_a_link_to_a_checkpoint_stays_one(tmp_path: Path) -> None:
    checkpoint.write({"a": 1}, tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    checkpoint.write({"a": 2}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert checkpoint.read(tmp_path / "link") == checkpoint.read(tmp_path / "real") == {"a": 2}


# Damage


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
    "a pipe": (instead(STATE, lambda path: os.mkfifo(path)), "state.json is no plain file"),
    "a folder in place of a file": (instead(STATE, lambda path: path.mkdir()), "cannot be read: Is a directory"),
    # the manifest
    "an endless manifest": (sparse(MANIFEST, 10**12), "manifest.json has 1000000000000 bytes, not the 65536"),
    "an endless file": (sparse(TENSORS, 10**12), "tensors.safetensors has 1000000000000 bytes, not the"),
    "no JSON": (whole(MANIFEST, b"x"), "manifest.json is not strict JSON"),
    "no text": (whole(MANIFEST, b"\xff"), "manifest.json is not strict JSON"),
    "not a table": (whole(MANIFEST, b"[]"), "manifest.json is none"),
    "NaN": (whole(MANIFEST, b'{"format": NaN}'), "manifest.json is not strict JSON"),
    "an endless number": (whole(MANIFEST, b'{"format": 1' + b"0" * 60_000 + b"}"), "manifest.json is not strict JSON"),
    "a large number": (manifest(format=10**4000), "manifest.json is none"),
    "deep": (whole(MANIFEST, b"[" * 60_000), "manifest.json is not strict JSON"),
    "twice": (text(MANIFEST, '"format": 1', '"format": 1, "format": 1'), "manifest.json is not strict JSON"),
    "a later format": (manifest(format=2), "its format is 2, this release reads format 1"),
    "format true": (manifest(format=True), "manifest.json is none"),
    "one more entry": (manifest(more=1), "manifest.json has other entries than it should"),
    "another file": (manifest(files={TENSORS: FACT, "../x": FACT}), "manifest.json names other files than it should"),
    "an absolute file": (manifest(files={TENSORS: FACT, STATE: FACT, "/etc/passwd": FACT}), "names other files"),
    "no files": (manifest(files=[TENSORS, STATE]), "has other entries than it should"),
    "no sizes": (manifest(files={TENSORS: 1, STATE: 1}), "does not say what tensors.safetensors is"),
    "a negative size": (manifest(files={TENSORS: {"size": -1, "sha256": ""}, STATE: FACT}), "does not say what"),
    "no digest": (manifest(files={TENSORS: {"size": 1, "sha256": 1}, STATE: FACT}), "does not say what"),
    "a large state": (
        manifest(files={TENSORS: FACT, STATE: {"size": 10**9, "sha256": ""}}),
        "tensors.safetensors has",
    ),
    # the state
    "a flipped number": (text(STATE, '"filled": 2', '"filled": 3'), "state.json is damaged: it is not what was writt"),
    "state no JSON": (sealed(whole(STATE, b"{")), "state.json is not strict JSON"),
    "state NaN": (sealed(text(STATE, '"filled": 2', '"filled": NaN')), "state.json is not strict JSON"),
    "state infinite": (sealed(text(STATE, '"filled": 2', '"filled": 1e999')), "state.json is not strict JSON"),
    "state deep": (sealed(whole(STATE, b"[" * 100_000)), "state.json is not strict JSON"),
    "state rather deep": (sealed(whole(STATE, b'{"a":' * 70 + b"1" + b"}" * 70)), "state.json is nested too deep"),
    "state twice": (sealed(text(STATE, '"filled": 2', '"filled": 2, "filled": 2')), "state.json is not strict JSON"),
    "state a list": (sealed(whole(STATE, b"[]")), "state.json is no state"),
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
    "no offsets": (sealed(whole(TENSORS, header(b'{"a":{"dtype":"F32","shape":[1]}}'))), "no tensors that can be"),
    "beyond the end": (sealed(whole(TENSORS, header(OF_ONE))), "holds no tensors that can be read"),
    "another size": (sealed(whole(TENSORS, header(OF_ONE.replace(b"[1]", b"[2]"), b"1234"))), "no tensors that can"),
    "another kind": (sealed(whole(TENSORS, header(OF_ONE.replace(b"F32", b"F99"), b"1234"))), "no tensors that can"),
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
    assert "of a kind that is never saved" in refused(tmp_path / "it")


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


# A series


def test_a_series_keeps_the_newest(tmp_path: Path) -> None:
    series = Series(tmp_path / "checkpoint", keep=2)
    assert series.newest_first() == []
    for step, task in ((5, 0), (10, 0), (10, 0), (10, 1), (100_000_000, 1)):
        series.add({"step": step, "task": task}, step=step, task=task)
    assert [path.name for path in series.newest_first()] == ["step-100000000-task-0001", "step-00000010-task-0001"]
    assert checkpoint.read(series.newest_first()[0]) == {"step": 100_000_000, "task": 1}


def test_one_that_could_not_be_used_and_lies_ahead_does_not_push_out_a_good_one(tmp_path: Path) -> None:
    first = Series(tmp_path, keep=1)
    first.add({"a": 1}, step=90, task=0)
    (tmp_path / "step-00000090-task-0000" / STATE).write_text("damaged")
    resumed = Series(tmp_path, keep=1)
    resumed.add({"a": 2}, step=80, task=0)
    resumed.add({"a": 3}, step=85, task=0)
    assert names(tmp_path) == ["step-00000085-task-0000", "step-00000090-task-0000"]
    resumed.add({"a": 4}, step=90, task=0)
    assert names(tmp_path) == ["step-00000090-task-0000"]
    assert checkpoint.read(tmp_path / "step-00000090-task-0000") == {"a": 4}


def test_a_series_removes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    other = tmp_path / "step-00000001-task-0000"
    other.mkdir()
    (other / "mine").write_text("mine")
    series = Series(tmp_path, keep=1)
    series.add({}, step=2, task=0)
    series.clean()
    assert names(tmp_path) == ["mine", "step-00000001-task-0000", "step-00000002-task-0000"]
    assert names(other) == ["mine"]


def add_file(folder: Path) -> None:
    (folder / "mine").write_text("mine")


def add_link(folder: Path) -> None:
    shutil.move(folder / STATE, folder.parent.parent / "elsewhere.json")
    (folder / STATE).symlink_to(folder.parent.parent / "elsewhere.json")


def add_folder(folder: Path) -> None:
    (folder / STATE).unlink()
    (folder / STATE).mkdir()
    (folder / STATE / "mine").write_text("mine")


def make_link(folder: Path) -> None:
    shutil.move(folder, folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")


def everything(folder: Path) -> dict[Path, object]:
    """All below a folder: what links say, what files hold."""
    there = sorted(folder.rglob("*"))
    return {p: p.readlink() if p.is_symlink() else p.read_bytes() if p.is_file() else None for p in there}


OLD = "step-00000001-task-0000"


@posix
@pytest.mark.parametrize("change", [add_file, add_link, add_folder, make_link])
@pytest.mark.parametrize("name", [OLD, f".{OLD}.old", f".{OLD}.{'0' * 16}.new"])
def test_a_folder_with_anything_else_and_a_link_stay_as_they_are(
    tmp_path: Path, change: Callable[[Path], None], name: str
) -> None:
    series = Series(tmp_path / "checkpoint", keep=1)
    series.add({"a": 1}, step=1, task=0)
    place = series.folder / name
    (series.folder / OLD).rename(place)
    change(place)
    before = everything(tmp_path)
    series.clean()
    series.add({"a": 2}, step=2, task=0)
    series.add({"a": 3}, step=3, task=0)
    if name != OLD:
        checkpoint.write({"a": 4}, series.folder / OLD)
    after = everything(tmp_path)
    assert {path: after.get(path) for path in before} == before


@posix
def test_a_series_writes_through_no_link(tmp_path: Path) -> None:
    checkpoint.write({"a": 1}, tmp_path / "elsewhere")
    series = Series(tmp_path / "checkpoint", keep=1)
    series.folder.mkdir()
    (series.folder / OLD).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="there is a link of that name; move it away"):
        series.add({"a": 2}, step=1, task=0)
    assert checkpoint.read(tmp_path / "elsewhere") == {"a": 1}


@posix
def test_a_folder_whose_files_are_none_is_not_replaced(tmp_path: Path) -> None:
    checkpoint.write({}, tmp_path / "it")
    add_folder(tmp_path / "it")
    before = everything(tmp_path)
    with pytest.raises(UsageError, match="there is something else of that name"):
        checkpoint.write({"a": 1}, tmp_path / "it")
    assert everything(tmp_path) == before


def test_what_only_looks_like_a_leftover_stays(tmp_path: Path) -> None:
    for name in (".mine.old", f".mine.{'0' * 16}.new"):
        (tmp_path / name).mkdir()
    Series(tmp_path, keep=1).clean()
    assert names(tmp_path) == [f".mine.{'0' * 16}.new", ".mine.old"]


def test_nothing_is_removed_before_the_new_one_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = Series(tmp_path, keep=1)
    series.add({"a": 1}, step=1, task=0)

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(files, "write_synced", full)
        series.add({"a": 2}, step=2, task=0)
    assert names(tmp_path) == ["step-00000001-task-0000"]
    # What failed is tried again.
    series.add({"a": 2}, step=2, task=0)
    assert names(tmp_path) == ["step-00000002-task-0000"]
