"""`timm:NAME`: an image model of the library timm. The only file that imports it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.nets.backbone import Backbone
from synergy.nets.base import NETWORK_ERRORS, NetConfig, Network
from synergy.nets.image_size import ImageSize
from synergy.nets.mlp import linear
from synergy.options import option

EVERYTHING, HEAD = "all", "head"


@dataclass(frozen=True)
class TimmConfig(NetConfig):
    """Options of a model of timm."""

    weights: str = option("random", "random, or a file of safetensors with the weights below the head")
    train: str = option(EVERYTHING, "what is trained: all weights, or the head alone", choices=(EVERYTHING, HEAD))
    resize: bool = option(False, "scale images to the size that the model needs; one channel is repeated")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights != "random":  # so that the run can be resumed from another folder
            object.__setattr__(self, "weights", str(Path(self.weights).resolve()))


class Timm(Backbone, Network[TimmConfig]):
    """A model of timm below a linear head: the head sees the pooled features.

    Examples:
        >>> from synergy.nets import NET_CLASSES
        >>> NET_CLASSES.load("timm:vit_tiny_patch16_224").source
        'vit_tiny_patch16_224'
    """

    Config = TimmConfig
    source: ClassVar[str]
    """The name of the model in timm."""

    @classmethod
    def build(cls, config: TimmConfig, shape: tuple[int, ...], n_classes: int, generator: torch.Generator) -> Self:
        model = headless(cls.source)
        needed = model.pretrained_cfg.get("input_size", (None, None, None))
        size = ImageSize(*needed) if model.pretrained_cfg.get("fixed_input_size") else ImageSize(needed[0], None, None)
        size.check(f"timm:{cls.source}", shape, resized=config.resize)
        if config.weights != "random":
            load(model, config.weights)
        return cls(model, size, config, n_classes, generator)

    def __init__(
        self, model: nn.Module, size: ImageSize, config: TimmConfig, n_classes: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.model = model.requires_grad_(config.train == EVERYTHING)
        self.size = size
        self.resize = config.resize
        self.classifier = linear(int(vars(model)["num_features"]), n_classes, generator)

    def features(self, inputs: Tensor) -> Tensor:
        """Images `[B, C, H, W]` -> pooled features `[B, width]`."""
        found: Tensor = self.model(self.size.fitted(inputs) if self.resize else inputs)
        return found


@cache
def timm_model(name: str, place: str | None) -> type[Timm]:
    """The class of the network `timm:NAME`. Equal names give the same class; `place` is not used."""
    return type("Timm", (Timm,), {"source": name, "__doc__": Timm.__doc__})


def headless(name: str) -> Any:
    """The model called `name` with random weights and without its head, on the CPU.

    Raises:
        UsageError: timm is missing or has no such model.
    """
    timm = library()
    if not timm.is_model(name):
        raise UsageError(f"net timm:{name}: timm has no such model; timm.list_models() names all")
    try:
        return timm.create_model(name, pretrained=False, num_classes=0)
    except NETWORK_ERRORS as error:
        raise UsageError(f"net timm:{name}: cannot be made: {error}") from error


def load(model: nn.Module, file: str) -> None:
    """Load weights into a model without its head, from safetensors alone: timm's own downloads may be pickles.

    Raises:
        UsageError: the file cannot be read, or is of another model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"weights: cannot read {file} as safetensors ({error}); allowed: random, or such a file"
        ) from error
    own = model.state_dict()
    missing = sorted(name for name, value in own.items() if name not in found or found[name].shape != value.shape)
    if missing:
        raise UsageError(f"weights: {file} lacks '{missing[0]}' in the model's shape; give the weights of this model")
    model.load_state_dict({name: found[name] for name in own})


def library() -> Any:
    """The library timm. Raises UsageError that names the extra if it is missing or cannot be loaded."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision for another torch
        raise UsageError(
            f"timm: needs timm and a torchvision that fits torch ({error}); install: pip install 'synergy-cl[timm]'"
        ) from error
    return timm
