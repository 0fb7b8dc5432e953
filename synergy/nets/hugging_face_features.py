"""`hf:NAME` as a frozen backbone: what the head of a classifier of transformers would see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from synergy.errors import UsageError
from synergy.nets.frozen_backbone import Features, FrozenBackbone, Preparation, fingerprint
from synergy.nets.hugging_face import below_the_head, take_head
from synergy.nets.image_size import ImageSize
from synergy.nets.transformers_models import (
    PRETRAINED,
    configuration,
    downloaded,
    explained,
    image_size,
    library,
    make_model,
)

SETTINGS = "preprocessor_config.json"
"""The file in which a model says how its images are prepared."""


class HuggingFaceBackbone(FrozenBackbone):
    """A folder with `config.json` and weights in safetensors, as `save_pretrained` and the hub have it.

    Images are scaled whole to the model's size, without a crop, and normalised as `preprocessor_config.json` says.

    Args:
        name: for messages.
        folder: of the model.

    Examples:
        >>> from safetensors.torch import save_file
        >>> Path("vit").mkdir(exist_ok=True)
        >>> save_file({}, "vit/model.safetensors")
        >>> found = HuggingFaceBackbone("vit", Path("vit"))
        >>> found.name, found.fingerprint[:6]
        ('hf:vit', 'sha256')
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = f"hf:{name}"
        self.folder = folder
        weights = list(folder.glob("*.safetensors"))
        if not weights:
            raise UsageError(f"features hf:{name}: no weights in safetensors; convert them (save_pretrained does)")
        settings = [folder / each for each in ("config.json", SETTINGS) if (folder / each).is_file()]
        self.fingerprint = fingerprint([*settings, *weights])

    def preparation(self, shape: tuple[int, ...]) -> Preparation | None:
        if len(shape) < 3:
            return None
        given = self._settings()
        own = image_size(configuration(self.name.removeprefix("hf:"), str(self.folder), PRETRAINED, ()))
        height, width = own.height, own.width
        if height is None:
            height, width = _size(given)
        channels = own.channels
        normalised = given.get("do_normalize", bool(given))
        keys = ("image_mean", "image_std")
        mean, std = (tuple(map(float, given.get(key) or ())) if normalised else () for key in keys)
        if channels is not None and len(mean) not in (0, 1, channels):
            raise UsageError(f"features {self.name}: {SETTINGS} has {len(mean)} means for {channels} channels; mend it")
        size = ImageSize(channels, height, width)
        size.check(self.name, shape, resized=True, what="features")
        return Preparation(size, mean, std)

    def load(self, shape: tuple[int, ...]) -> tuple[nn.Module, Features]:
        name = self.name.removeprefix("hf:")
        with explained(f"features {self.name}"):
            model, size = make_model(
                name, str(self.folder), shape, weights=PRETRAINED, values=(), resized=True, whole=True
            )
            take_head(model)
        return model.eval().requires_grad_(False), partial(below_the_head, model, size is not None)

    def _settings(self) -> Mapping[str, Any]:
        """How the model's images are prepared; empty where it does not say."""
        path = self.folder / SETTINGS
        if not path.is_file():
            return {}
        try:
            found = json.loads(path.read_bytes())
        except ValueError as error:
            raise UsageError(f"features {self.name}: {path} is not JSON ({error}); mend it") from error
        return found if isinstance(found, dict) else {}


def backbone(name: str) -> HuggingFaceBackbone:
    """The backbone in a folder, or of the hub; what the hub has is downloaded once.

    Raises:
        UsageError: there is none of this name.
    """
    folder = Path(name)
    if folder.is_dir():
        return HuggingFaceBackbone(folder.resolve().name, folder)
    if name in library().CONFIG_MAPPING:
        raise UsageError(
            f"features hf:{name}: a type of model has no weights; allowed: a folder, or a model of the hub (OWNER/NAME)"
        )
    return HuggingFaceBackbone(name, downloaded(name))


def _size(settings: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Height and width of images in the settings of a model; None where they are open."""
    for key in ("crop_size", "size"):
        size = settings.get(key)
        if isinstance(size, int):
            return size, size
        if isinstance(size, dict):
            edge = size.get("shortest_edge")
            height, width = size.get("height", edge), size.get("width", edge)
            if isinstance(height, int) and isinstance(width, int):
                return height, width
    return None, None
