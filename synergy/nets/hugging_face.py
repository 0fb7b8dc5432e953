"""`hf:NAME`: an image or text classifier of the library transformers, trained whole, at its head or by adapters."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.nets.backbone import Backbone
from synergy.nets.base import NetConfig, Network
from synergy.nets.image_size import ImageSize
from synergy.nets.mlp import linear
from synergy.nets.transformers_models import (
    PRETRAINED,
    RANDOM,
    TEXT_COLUMNS,
    explained,
    first_line,
    head_of,
    make_model,
)
from synergy.options import option
from synergy.release import release

EVERYTHING, HEAD, LORA = "all", "head", "lora"


@dataclass(frozen=True)
class HuggingFaceConfig(NetConfig):
    """Options of a model of transformers."""

    weights: str = option(
        PRETRAINED,
        "of the model below the head: those of the folder or the hub, or random",
        choices=(PRETRAINED, RANDOM),
    )
    net_values: tuple[str, ...] = option(
        (), "values of the model's configuration instead of its own, such as hidden_size=32 image_size=8"
    )
    train: str = option(
        EVERYTHING,
        "what is trained: all weights, the head alone, or the head and LoRA adapters of every linear layer",
        choices=(EVERYTHING, HEAD, LORA),
    )
    lora_rank: int = option(8, "rank of the LoRA adapters", low=1)
    resize: bool = option(False, "scale images to the size that the model needs; one channel is repeated")


class HuggingFace(Backbone, Network[HuggingFaceConfig]):
    """A classifier of transformers below a linear head of its own: the head sees what the model's own head would see.

    Images are `[B, C, H, W]`. Texts are whole numbers: `input_ids` `[B, L]`, or `[B, K, L]` with the `attention_mask`
    in row 1 and `token_type_ids` in row 2. Weights are read from safetensors alone.

    Examples:
        >>> from synergy.nets import NET_CLASSES
        >>> kind = NET_CLASSES.load("hf:vit")
        >>> kind.source, sorted(kind.Config.names())
        ('vit', ['lora_rank', 'net_values', 'resize', 'train', 'weights'])
    """

    Config = HuggingFaceConfig
    source: ClassVar[str]
    """The name as it was given."""
    place: ClassVar[str | None]
    """Where the folder of that name is; None for a name of the hub or a type of model."""

    @classmethod
    def build(
        cls, config: HuggingFaceConfig, shape: tuple[int, ...], n_classes: int, generator: torch.Generator
    ) -> Self:
        with explained(f"net hf:{cls.source}"):
            model = make_model(
                cls.source,
                cls.place,
                shape,
                weights=config.weights,
                values=config.net_values,
                resized=config.resize,
            )
            return cls(*model, config, n_classes, generator)

    @classmethod
    def versions(cls, config: NetConfig) -> dict[str, str]:
        found = {name: release(name) for name in ("transformers", "peft")}
        if cls.place is not None:
            files = [Path(cls.place) / name for name in ("config.json", "model.safetensors")]
            hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]
            found[f"hf:{cls.source}"] = f"sha256 {hashlib.sha256(''.join(hashes).encode()).hexdigest()[:12]}"
        return found

    def __init__(
        self,
        model: nn.Module,
        size: ImageSize | None,
        config: HuggingFaceConfig,
        n_classes: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        width = take_head(model)
        self.size = size
        self.resize = config.resize
        if config.train != EVERYTHING:
            model.requires_grad_(False)
        self.model = adapted(model, config.lora_rank) if config.train == LORA else model
        self.classifier = linear(width, n_classes, generator)

    def features(self, inputs: Tensor) -> Tensor:
        """`[B, ...]` -> what the model's own head would see, `[B, width]`."""
        resized = self.size.fitted(inputs) if self.size is not None and self.resize else inputs
        return below_the_head(self.model, self.size is not None, resized)


@cache
def hugging_face(name: str, place: str | None) -> type[HuggingFace]:
    """The class of the network `hf:NAME`. Equal names give the same class.

    Args:
        name: a folder with a model, a name of the hub (OWNER/NAME), or a type of model (vit, bert, ...).
        place: where the folder was when a configuration was kept; by default it is looked up from here.

    Raises:
        UsageError: the name is empty.
    """
    if not name:
        raise UsageError(
            "net hf:: given no name; allowed: hf:FOLDER, hf:OWNER/NAME of the hub, or a type: hf:vit, hf:bert"
        )
    folder = Path(name) if place is None else Path(place)
    where = str(folder.resolve()) if folder.is_dir() else None
    return type("HuggingFace", (HuggingFace,), {"source": name, "place": where, "__doc__": HuggingFace.__doc__})


def take_head(model: nn.Module) -> int:
    """Put nothing in the place of a classifier's last linear layer; its number of inputs."""
    name = head_of(model)
    head = model.get_submodule(name)
    assert isinstance(head, nn.Linear)
    model.set_submodule(name, nn.Identity())
    return head.in_features


def below_the_head(model: nn.Module, images: bool, inputs: Tensor) -> Tensor:
    """What the head would see, `[B, width]`, of a classifier without it.

    Args:
        images: whether `inputs` are images `[B, C, H, W]`; else texts `[B, L]` or `[B, K, L]`.
    """
    if images:
        of_images: Tensor = model(pixel_values=inputs).logits
        return of_images
    rows = inputs.long() if inputs.dim() == 3 else inputs.long()[:, None]
    of_texts: Tensor = model(**dict(zip(TEXT_COLUMNS, rows.unbind(1), strict=False))).logits
    return of_texts


def adapted(model: nn.Module, rank: int) -> nn.Module:
    """The model, frozen, with LoRA adapters at every linear layer (Hu et al. 2022, "LoRA", eq. 3), by the library peft.

    Raises:
        UsageError: the library is missing, or the model has no linear layer.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UsageError("train lora needs peft; install it with: pip install 'synergy-cl[adapters]'") from error
    if not any(isinstance(module, nn.Linear) for module in model.modules()):
        raise UsageError(
            f"train {LORA}: there is no linear layer below the head to adapt; allowed: {EVERYTHING}, {HEAD}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft about transformers, and about layers that it adapts by itself
        try:
            made: nn.Module = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear"))
        except ValueError as error:
            raise UsageError(f"train {LORA}: peft cannot adapt this model: {first_line(error)}") from error
    return made
