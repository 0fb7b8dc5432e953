"""`timm:NAME` as a frozen backbone: the pooled features of a model of timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from synergy.errors import UsageError
from synergy.nets.frozen_backbone import Features, FrozenBackbone, Preparation, fingerprint
from synergy.nets.image_size import ImageSize
from synergy.nets.timm_models import headless, library, load

WEIGHTS = "model.safetensors"
"""The file of a model on the hub. Its other files may be pickles."""


class TimmBackbone(FrozenBackbone):
    """A model of timm with weights in safetensors. Images are prepared as timm's settings of these weights say.

    Args:
        name: of the model in timm, with the tag of its weights or without.
        weights: the file.

    Examples:
        >>> from safetensors.torch import save_file
        >>> save_file({}, "model.safetensors")
        >>> found = TimmBackbone("resnet18", Path("model.safetensors"))
        >>> found.name, found.fingerprint[:6]
        ('timm:resnet18', 'sha256')
    """

    def __init__(self, name: str, weights: Path) -> None:
        self.name = f"timm:{name}"
        self.weights = weights
        self.fingerprint = fingerprint([weights])

    def preparation(self, shape: tuple[int, ...]) -> Preparation:
        settings = _settings(self.name.removeprefix("timm:"))
        size = ImageSize(*settings.input_size)
        size.check(self.name, shape, resized=True, what="features")
        return Preparation(size, tuple(settings.mean), tuple(settings.std))

    def load(self, shape: tuple[int, ...]) -> tuple[nn.Module, Features]:
        model = headless(self.name.removeprefix("timm:"))
        load(model, str(self.weights))
        model = model.eval().requires_grad_(False)
        return model, model


def backbone(name: str) -> TimmBackbone:
    """The backbone of `timm:NAME`, whose weights come from the hub, or of `timm:NAME@FILE`.

    Raises:
        UsageError: timm is missing, has no such model, or there are no weights in safetensors.
    """
    name, _, file = name.partition("@")
    settings = _settings(name)
    if file:
        return TimmBackbone(name, Path(file))
    if not settings.hf_hub_id:
        raise UsageError(f"features timm:{name}: the hub has no weights of it; give a file: timm:{name}@FILE")
    from huggingface_hub import hf_hub_download

    try:
        return TimmBackbone(name, Path(hf_hub_download(settings.hf_hub_id, WEIGHTS)))
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"features timm:{name}: the hub did not give {settings.hf_hub_id}/{WEIGHTS} ({reason}); "
            f"give a file: timm:{name}@FILE"
        ) from error


def _settings(name: str) -> Any:
    """Timm's settings of a model: size of images, mean, std, place on the hub."""
    timm = library()
    if not timm.is_model(name):
        raise UsageError(f"features timm:{name}: timm has no such model; timm.list_models() names all")
    return timm.get_pretrained_cfg(name)
