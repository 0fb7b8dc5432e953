"""`--features`: a data set as a frozen backbone sees it. Every sample passes the backbone once, for all runs.

The features are cached like decoded images: checked, memory-mapped, `float32`. The weights, the preparation of images
and the data decide which cache is read, so that features of others are never taken for these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from synergy.data import cache, sources
from synergy.data.cache import Decoded
from synergy.data.sources import FeaturesInfo, Source
from synergy.data.view import scaled
from synergy.errors import UsageError
from synergy.nets import BACKBONES, frozen_backbone
from synergy.nets.frozen_backbone import Features, FrozenBackbone, Preparation
from synergy.scenarios.base import AnyScenario
from synergy.types import Split, View

BATCH = 64
"""Samples in one pass of the backbone."""
PARTS = ("train", "test")
_VERSION = 1
"""Changes when the same weights and data give other features."""

Told: TypeAlias = Callable[[int, int], None]
"""Is told how many samples have passed the backbone, and of how many."""


def is_backbone(name: str) -> bool:
    """Whether a name is that of a backbone; else it is that of a file.

    Examples:
        >>> is_backbone("hf:OWNER/NAME"), is_backbone("features.safetensors")
        (True, False)
    """
    return name.partition(":")[0] in BACKBONES


def check_scenario(scenario: AnyScenario) -> None:
    """Raises UsageError if a task shows its samples changed: they are not those whose features are known."""
    if any(scenario.task(index).changes_samples for index in range(scenario.n_tasks)):
        raise UsageError(
            f"features: given for {scenario.name}, whose tasks change their images; allowed: scenarios that show "
            "images as they are stored, such as seq-cifar10"
        )


def of(
    source: Source, name: str, view: View, device: torch.device, told: Told, cache_dir: Path | None = None
) -> Source:
    """The same data as features `float32 [N, F]`, from the cache, from a file, or from a pass of the backbone.

    Args:
        source: the data.
        name: `hf:NAME`, `timm:NAME`, or a file of features in safetensors (see `of_file`).
        view: of the scenario; it normalises images where the backbone does not say how.
        device: where the backbone computes.
        told: is told how far the pass is.
        cache_dir: folder of all caches; by default that of decoded images.

    Raises:
        UsageError: there is no such backbone or file, or it does not fit the data.
    """
    if not is_backbone(name):
        return of_file(source, Path(name))
    backbone = frozen_backbone.find(name)
    shape = tuple(source.train.raw.shape[1:])
    preparation = backbone.preparation(shape)
    if preparation is None and source.train.raw.is_floating_point():
        raise UsageError(f"features {name}: given data that are features already; allowed: images or texts")
    reader = _FeaturesReader(source, _checksum(source), backbone, preparation, view, device, told)
    found = sources.read(reader, cache_dir)
    identity = hashlib.sha256(json.dumps(reader.facts()).encode()).hexdigest()
    return _like(source, found.train.raw, found.test.raw, backbone.name, backbone.fingerprint, f"sha256 {identity}")


def of_file(source: Source, path: Path) -> Source:
    """The same data as the features in a file of safetensors, memory-mapped.

    The file holds `train` and `test`, float `[N, F]`, a row for each sample in the order of the data set, and
    `train_labels` and `test_labels`, `int64 [N]`, which show that it is this order. Its metadata may name the
    `backbone`, and hold the `checksum` of the data as records have it.

    Raises:
        UsageError: the file cannot be read, or its features are not those of these data.
    """
    if not path.is_file():
        raise _missing(path)
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            held = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise UsageError(f"features: cannot read {path} as safetensors ({error}); make it anew") from error
    wanted = [part + kind for part in PARTS for kind in ("", "_labels")]
    if missing := [key for key in wanted if key not in held]:
        raise UsageError(f"features: {path} has no tensor '{missing[0]}'; allowed: a file with {', '.join(wanted)}")
    parts = dict(zip(PARTS, (source.train, source.test), strict=True))
    for part, split in parts.items():
        _check_rows(path, part, held[part], held[f"{part}_labels"], split, source.info.name)
    if held["train"].shape[1] != held["test"].shape[1]:
        widths = [held[part].shape[1] for part in PARTS]
        raise UsageError(
            f"features: {path} has {widths[0]} columns in 'train', {widths[1]} in 'test'; allowed: as many"
        )
    checksum = _checksum(source)
    if facts.get("checksum", checksum) != checksum:
        raise UsageError(f"features: {path} was made from other data than these of {source.info.name}; make it anew")
    mark = frozen_backbone.fingerprint([path])
    identity = hashlib.sha256(json.dumps([mark, checksum]).encode()).hexdigest()
    train, test = (_floats(held[part], f"{path}: {part}") for part in PARTS)
    return _like(source, train, test, facts.get("backbone", path.name), mark, f"sha256 {identity}")


@dataclass(frozen=True)
class _FeaturesReader:
    """Passes a data set through a backbone.

    Attributes:
        checksum: of the data.
        preparation: of its images; None for texts.
        view: of the scenario.
    """

    data: Source
    checksum: str
    backbone: FrozenBackbone
    preparation: Preparation | None
    view: View
    device: torch.device
    told: Told

    @property
    def name(self) -> str:
        return f"{self.data.info.name}-features"

    @property
    def origin(self) -> str:
        return "a frozen backbone"

    @property
    def labels(self) -> int:
        return len(self.data.train.classes)

    def facts(self) -> object:
        prepared = [] if self.preparation is None else self.preparation.facts()
        # Of the view counts the normalisation alone, and that only where the backbone has none of its own.
        normalised = "its own" if self._normalises() else repr(self.view)
        return [_VERSION, self.backbone.fingerprint, prepared, normalised, self.checksum]

    def read(self) -> Decoded:
        shape = tuple(self.data.train.raw.shape[1:])
        model, features = self.backbone.load(shape)
        model.to(self.device)
        total, done = len(self.data.train) + len(self.data.test), 0
        self.told(done, total)
        found = []
        for part, split in zip(PARTS, (self.data.train, self.data.test), strict=True):
            rows = []
            for raw in split.raw.split(BATCH):
                rows.append(self._passed(features, raw.to(self.device)))
                done += len(raw)
                self.told(done, total)
            found.append(_finite(np.concatenate(rows), f"features {self.backbone.name}: {part}"))
        return Decoded(found[0], self.data.train.labels.numpy(), found[1], self.data.test.labels.numpy())

    def complete(self, counts: tuple[int, int]) -> bool:
        return self.data.info.complete

    def _normalises(self) -> bool:
        return self.preparation is not None and bool(self.preparation.mean)

    def _passed(self, features: Features, raw: Tensor) -> NDArray[np.float32]:
        with torch.no_grad():
            inputs = scaled(raw, torch.float32) if self._normalises() else self.view.plain(raw)
            found = features(inputs if self.preparation is None else self.preparation(inputs))
        if found.dim() != 2:
            shape = list(found.shape)
            raise UsageError(f"features {self.backbone.name}: gives {shape} for {len(raw)} samples; allowed: [N, F]")
        return found.float().cpu().numpy()


def _like(source: Source, train: Tensor, test: Tensor, backbone: str, weights: str, checksum: str) -> Source:
    """A source with features in the place of its samples."""
    facts = FeaturesInfo(backbone, weights, train.shape[1])
    origin = f"{facts.size} features of {backbone}; {source.info.origin}"
    info = replace(source.info, origin=origin, checksum=checksum, features=facts)
    train_split = Split(train, source.train.labels, source.train.classes)
    return replace(source, info=info, train=train_split, test=Split(test, source.test.labels, source.test.classes))


def _checksum(source: Source) -> str:
    """Of the data; a scenario of the user's own may have taken none."""
    if source.info.checksum:
        return source.info.checksum
    train, test = source.train, source.test
    return cache.checksum(
        Decoded(train.raw.numpy(), train.labels.numpy(), test.raw.numpy(), test.labels.numpy(), source.info.classes)
    )


def _check_rows(path: Path, part: str, rows: Tensor, labels: Tensor, split: Split, data: str) -> None:
    if rows.dim() != 2 or not rows.is_floating_point() or not rows.numel():
        raise UsageError(
            f"features: {path} has '{part}' of shape {list(rows.shape)}, {rows.dtype}; allowed: float [N, F]"
        )
    if len(rows) != len(split):
        raise UsageError(
            f"features: {path} has {len(rows)} rows in '{part}', {data} has {len(split)} samples; allowed: one for each"
        )
    if not torch.equal(labels.long(), split.labels):
        raise UsageError(
            f"features: '{part}_labels' in {path} are not the labels of {data}; allowed: rows in the order of the data"
        )


def _floats(rows: Tensor, what: str) -> Tensor:
    return torch.from_numpy(_finite(rows.float().numpy(), what))


def _finite(rows: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    if not np.isfinite(rows).all():
        raise UsageError(f"{what}: not all features are finite numbers; leave out samples or weights that are broken")
    return rows


def _missing(path: Path) -> UsageError:
    there = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, there, 1)
    hint = f"; did you mean '{path.parent / near[0]}'?" if near else "; allowed: a file, hf:NAME, timm:NAME"
    return UsageError(f"features: there is no file {path}{hint}")
