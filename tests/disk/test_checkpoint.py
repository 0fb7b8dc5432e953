"""Checkpoints come back bit by bit or not at all: any damage is one line, and what was there before stays."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from synergy.disk import checkpoint, encoding
from synergy.disk.checkpoint import NAMES
from synergy.disk.encoding import STATE, TENSORS
from synergy.disk.sealed import MANIFEST
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
    st.sampled_from(sorted(encoding.DTYPES, key=str)),
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
        (nested(encoding.MAX_DEPTH + 1), ValueError, "nested more than 64 deep"),
        ({"a": "x" * encoding.MAX_JSON_BYTES}, ValueError, "allowed: 16777216"),
    ],
)
def test_what_cannot_be_saved_is_told_before_anything_is_written(
    tmp_path: Path, state: State, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        checkpoint.write(state, tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_as_deep_as_allowed(tmp_path: Path) -> None:
    state = nested(encoding.MAX_DEPTH)
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
