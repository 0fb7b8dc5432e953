"""A learner in a file, and in another process: what is kept of it, and how it goes on from there."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synergy.device import find_device
from synergy.disk import checkpoint
from synergy.engine.worker import Worker
from synergy.errors import UsageError
from synergy.memory.reservoir import MOST
from synergy.nets.named import Packing
from synergy.state import State, collect, restore, restore_fresh
from synergy.stream.labels import restored, restored_weights, saved, saved_weights
from synergy.stream.progress import Progress
from synergy.stream.rehearsal import fill
from synergy.stream.view import try_view

KIND = "learner"
"""What the checkpoint of a learner calls itself."""
COMPILED = "_orig_mod."
"""What `torch.compile` puts before the names of a module's parameters."""


def write(progress: Progress, path: str | Path) -> None:
    """Write a learner to a folder, durably and all at once.

    Raises:
        UsageError: as `Learner.save`.
        OSError: as `Learner.save`.
    """
    folder = _folder(path)
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"path: given {path}, and there is no folder {folder.parent}; make it first, or name another")
    weights = progress.recipe.class_weights
    labels = {
        "labels": [saved(label) for label in progress.classes],
        "class_weights": None if weights is None else saved_weights(weights),
    }
    try:
        checkpoint.write(state_of(progress) | labels, folder)
    except TypeError as error:
        raise UsageError(f"save: {error}") from error


def read(path: str | Path, device: torch.device) -> State:
    """What `write` wrote, verified; tensors on `device`. Raises UsageError if there is no such thing."""
    state = checkpoint.read(_folder(path), device)
    if state.get("kind") != KIND:
        raise UsageError(f"learner {path}: holds something else than a learner; name a folder that Learner.save wrote")
    return state


def arguments(state: State) -> dict[str, Any]:
    """Arguments of `Learner` for a learner that was read, but for the network, the method and callables."""
    labels = labels_of(state) if state["fixed"] else None
    # Learners of earlier releases had no other layout than their network's own.
    options = {"memory_format": "contiguous"} | state["options"]
    return {"classes": labels, "class_weights": restored_weights(state["class_weights"]), **options}


def labels_of(state: State) -> list[Hashable]:
    """The labels known to a learner that was read, in the order of the outputs."""
    return [restored(label) for label in state["labels"]]


def pickled(progress: Progress) -> State:
    """What `pickle` and `copy.deepcopy` keep of a learner, callables included. All tensors are on the CPU."""
    recipe, net = progress.recipe, progress.recipe.template.net
    options = {name: value for name, value in recipe.options.as_mapping().items() if name != "buffer_bytes"}
    own = {
        "net": net if recipe.template.device.type == "cpu" else deepcopy(net).cpu(),
        "method": recipe.kind,
        "config": recipe.config,
        "classes": progress.classes if progress.labels is not None and progress.labels.fixed else None,
        "class_weights": recipe.class_weights,
        "device": recipe.template.device.type,
    }
    return {
        "arguments": own | recipe.callables() | options,
        "options": recipe.options,
        "labels": progress.classes,
        "learned": None if progress.worker is None else checkpoint.packed(state_of(progress)),
    }


def arguments_of_pickled(state: State) -> dict[str, Any]:
    """Arguments of `Learner` for a pickled one. If this machine lacks its device it warns, and takes the CPU."""
    given: dict[str, Any] = dict(state["arguments"])
    try:
        find_device(given["device"])
    except UsageError:
        warnings.warn(
            f"learner: it was on {given['device']}, which this machine does not have; it goes on on the CPU",
            stacklevel=3,
        )
        given["device"] = "cpu"
    return given


def unpickle(progress: Progress, state: State) -> None:
    """Let a fresh learner go on where `pickled` was called."""
    progress.recipe = replace(progress.recipe, options=state["options"])
    if state["learned"] is not None:
        device = progress.recipe.template.device
        restore_progress(progress, checkpoint.unpacked(state["learned"], device), state["labels"])


def state_of(progress: Progress) -> State:
    """Everything that decides how a learner goes on, but for its labels and their weights."""
    worker = progress.require_trained("save")
    recipe, form = progress.recipe, progress.intake.form()
    sample: State = {"shape": list(form.shape), "dtype": str(form.dtype).removeprefix("torch.")}
    if form.names is not None:
        sample["columns"] = [saved(name) for name in form.names]
    if form.packing is not None:
        sample["packing"] = form.packing.state()
    options = recipe.options.as_mapping()
    return {
        "kind": KIND,
        "method": {"name": recipe.name, "config": recipe.config.as_mapping()},
        "options": {name: value for name, value in options.items() if name != "buffer_bytes"},
        "buffer_bytes": recipe.options.buffer_bytes,
        "given": {name: given is not None for name, given in recipe.callables().items()},
        "fixed": progress.labels is not None and progress.labels.fixed,
        "sample": sample,
        "outputs": worker.outputs,
        "initial": _portable(recipe.template.initial()),
        "frozen": None if recipe.template.frozen is None else recipe.template.frozen.fingerprint,
        **_portable(worker.state_dict()),
        "prequential": progress.prequential.state_dict(),
        "learner": collect(_counters(progress)),
    }


def restore_progress(progress: Progress, state: State, labels: Sequence[Hashable]) -> None:
    """Let a fresh learner go on where `state_of` was called.

    Args:
        progress: of a learner that was made with the same arguments.
        state: from `state_of`.
        labels: known then, in the order of the outputs.

    Raises:
        UsageError, and what torch and numpy raise at values that they do not expect: it does not fit. `progress` is of
            no use then.
    """
    # It has become the method's buffer_size, beside which it cannot be given.
    options = replace(progress.recipe.options, buffer_bytes=state["buffer_bytes"])
    progress.recipe = replace(progress.recipe, options=options)
    shape, dtype = state["sample"]["shape"], vars(torch)[state["sample"]["dtype"]]
    example = torch.zeros(2, *shape, dtype=dtype, device=progress.recipe.template.device)
    packing = Packing.restored(state["sample"]["packing"]) if "packing" in state["sample"] else None
    if packing is not None:
        progress.recipe.template.take(packing)
    progress.intake.fix(example, packing)
    if "columns" in state["sample"]:
        progress.intake.fix_names([restored(name) for name in state["sample"]["columns"]])
    _restore_network(progress, state, example)
    if progress.recipe.options.memory_format == "channels_last":
        progress.recipe.template.lay_out()
    if progress.labels is not None:
        progress.labels.restore(labels)
    worker = progress.recipe.worker(state["outputs"], progress.labels, draws=state["chance"] is not None)
    worker.load_state_dict(_named_like(worker.state_dict(), state), state["learner"]["_observed"])
    _check_memories(progress, worker, example[:1])
    progress.worker = worker
    restore_fresh(progress.prequential, state["prequential"], "prequential")
    _restore_counters(progress, state["learner"])


@contextmanager
def fitting(path: str | Path) -> Iterator[None]:
    """Within, a state that is not what a learner saves, or not of such a network, is a UsageError."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"learner {path}: {error}") from error
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"learner {path}: does not fit ({reason}); give the network and options it was made with"
        ) from error


def _folder(path: str | Path) -> Path:
    if not isinstance(path, str | Path) or "\0" in str(path):
        raise UsageError(f"path: given {path!r}; allowed: the name of a folder")
    return Path(path)


def _restore_network(progress: Progress, state: State, example: Tensor) -> None:
    """Let the template be as it was: as wide, and with the weights it was made with."""
    template, initial = progress.recipe.template, state["initial"]
    if state.get("frozen") is None:
        template.frozen = None  # all was saved: nothing was frozen, or an earlier release saved it
    elif template.frozen is None or state["frozen"] != template.frozen.fingerprint:
        raise UsageError(
            "network: its frozen weights are others than those it was saved with, and the file does not hold them; "
            "give the network with the weights that the learner was made with"
        )
    if not template.is_lazy():
        _check_names(template.initial(), initial)
    inputs = try_view(progress.recipe.view, example, progress.recipe.options.seed)
    _, progress.output = fill(progress.recipe, inputs, progress.labels)
    if progress.labels is not None:
        missing = state["outputs"] - progress.output[0]
        if missing < 0 or (missing and progress.labels.fixed):
            raise ValueError(f"it has {state['outputs']} outputs, the network {progress.output[0]}")
        if missing:
            template.grow(missing)
    present = template.initial()
    _check_names(present, initial)
    initial = _named_like(present, initial)
    for name, value in present.items():
        if initial[name].shape != value.shape or initial[name].dtype != value.dtype:
            raise UsageError(
                f"network: '{_plain(name)}' is {_described(value)}; saved was {_described(initial[name])}; give the "
                "network that the learner was made with"
            )
    template.net.load_state_dict(initial, strict=template.frozen is None)


def _check_names(present: Mapping[str, Tensor], initial: Mapping[str, Tensor]) -> None:
    """Raises UsageError if a network has other parameters and buffers than the one that was saved."""
    names = [_plain(name) for name in present]
    for name in initial:
        if name not in names:
            raise UsageError(f"network: it has no '{name}', which was saved; give the network that was saved")
    for name in names:
        if name not in initial:
            raise UsageError(f"network: it has '{name}', which was not saved; give the network that was saved")


def _described(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _plain(name: str) -> str:
    return name.replace(COMPILED, "")


def _portable(state: Any) -> Any:
    """A state whose names are the same for a network and for that network compiled."""
    if isinstance(state, Mapping):
        return {_plain(k) if isinstance(k, str) else k: _portable(value) for k, value in state.items()}
    return state


def _named_like(fresh: Any, state: Any) -> Any:
    """A portable state with the names that a fresh one has."""
    if not isinstance(fresh, Mapping) or not isinstance(state, Mapping):
        return state
    own = {_plain(name): name for name in fresh if isinstance(name, str)}
    names = {key: own.get(key, key) if isinstance(key, str) else key for key in state}
    return {names[key]: _named_like(fresh.get(names[key]), value) for key, value in state.items()}


def _check_memories(progress: Progress, worker: Worker, raw: Tensor) -> None:
    """Raises ValueError unless memory holds samples like `raw` `[1, ...]`, and there is a label for each."""
    if progress.labels is None:
        numbers = raw.new_empty(1, *progress.output, dtype=progress.recipe.view.dtype)
        worker.check_memories(raw, numbers, None, progress.output)
        return
    known = len(progress.labels)
    if known > worker.outputs:
        raise ValueError(f"{known} labels for {worker.outputs} outputs")
    worker.check_memories(raw, torch.zeros(1, dtype=torch.int64), known, (worker.outputs,))


def _counters(progress: Progress) -> dict[str, Any]:
    """What the learner itself counts, by the names in a checkpoint."""
    return {"_rng": progress.augment_rng, "_observed": progress.batches, "_last_losses": progress.last_losses}


def _restore_counters(progress: Progress, state: State) -> None:
    counters = _counters(progress)
    restore(counters, state)
    if not 0 < counters["_observed"] < MOST:
        raise ValueError(f"it has observed {counters['_observed']} batches")
    progress.batches, progress.last_losses = counters["_observed"], counters["_last_losses"]
