"""`hf:NAME`: an image or text classifier of the library transformers. The only file that imports it for networks."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
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
from synergy.release import release

TEXT_COLUMNS = ("input_ids", "attention_mask", "token_type_ids")
"""The rows of a text sample `(K, L)`, in this order; a sample `(L,)` is the first alone."""
PRETRAINED, RANDOM = "pretrained", "random"
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
            return cls(*make_model(cls.source, cls.place, config, shape), config, n_classes, generator)

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
        if self.size is not None:
            images = self.size.fitted(inputs) if self.resize else inputs
            images_out: Tensor = self.model(pixel_values=images).logits
            return images_out
        rows = inputs.long() if inputs.dim() == 3 else inputs.long()[:, None]
        texts_out: Tensor = self.model(**dict(zip(TEXT_COLUMNS, rows.unbind(1), strict=False))).logits
        return texts_out


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


def make_model(
    name: str, place: str | None, config: HuggingFaceConfig, shape: tuple[int, ...]
) -> tuple[nn.Module, ImageSize | None]:
    """A classifier of transformers on the CPU, and the size of images it needs; None for texts.

    Raises:
        UsageError: the library is missing, there is no such model, it has no weights in safetensors, or the samples do
            not fit it.
    """
    transformers = library()
    is_text = len(shape) < 3
    settings = configuration(name, place, config)
    kind = transformers.AutoModelForSequenceClassification if is_text else transformers.AutoModelForImageClassification
    if type(settings) not in kind._model_mapping:
        what = "texts" if is_text else "images"
        raise UsageError(
            f"net hf:{name}: a model of type {settings.model_type} does not classify {what}; name one that does"
        )
    size = None if is_text else image_size(settings)
    if size is not None:
        size.check(f"hf:{name}", shape, resized=config.resize)
    else:
        check_text(name, settings, shape)
    with quiet():
        if config.weights == RANDOM:
            # Attention as plain operations: the Fisher pass vectorises them over samples.
            return kind.from_config(settings, attn_implementation="eager"), size
        return _pretrained(kind, name, place, settings), size


def configuration(name: str, place: str | None, config: HuggingFaceConfig) -> Any:
    """The configuration of a model, with the values that were given.

    Raises:
        UsageError: there is no such model, or no such value.
    """
    transformers = library()
    types = transformers.CONFIG_MAPPING
    if place is None and name in types:
        if config.weights != RANDOM:
            raise UsageError(
                f"net hf:{name}: a type of model has no weights; give --weights {RANDOM}, or name a folder"
            )
        found = transformers.AutoConfig.for_model(name)
    else:
        try:
            found = transformers.AutoConfig.from_pretrained(place or name)
        except (OSError, ValueError, KeyError) as error:
            near = get_close_matches(name, list(types), 1)
            hint = f"; did you mean 'hf:{near[0]}'?" if near else ""
            raise UsageError(
                f"net hf:{name}: no folder with a config.json, no type of model, and the hub did not give it"
                f"{hint} ({first_line(error)})"
            ) from error
    values = found.to_dict()
    for key, value in given_values(config.net_values).items():
        if key not in values:
            near = get_close_matches(key, list(values), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"net_values: given {key}, which a model of type {found.model_type} does not have{hint}")
        setattr(found, key, value)
    return found


def given_values(given: tuple[str, ...]) -> dict[str, Any]:
    """`("hidden_size=32",)` -> `{"hidden_size": 32}`; values as in JSON, others are text.

    Examples:
        >>> given_values(("hidden_size=32", "hidden_act=relu"))
        {'hidden_size': 32, 'hidden_act': 'relu'}
    """
    found: dict[str, Any] = {}
    for each in given:
        key, sign, text = each.partition("=")
        if not sign:
            raise UsageError(f"net_values: given '{each}'; allowed: NAME=VALUE, such as hidden_size=32")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def image_size(settings: Any) -> ImageSize:
    """The size of images in a model's configuration; open where it names none."""
    values: Mapping[str, Any] = settings.to_dict()
    size = values.get("image_size")
    height, width = (size, size) if size is None or isinstance(size, int) else (int(size[0]), int(size[1]))
    return ImageSize(values.get("num_channels"), height, width)


def check_text(name: str, settings: Any, shape: tuple[int, ...]) -> None:
    """Raises UsageError unless texts of `shape`, `(L,)` or `(K, L)`, fit a model's configuration."""
    if len(shape) == 2 and shape[0] > len(TEXT_COLUMNS):
        raise UsageError(
            f"net hf:{name}: given texts of {shape[0]} rows; allowed: {', '.join(TEXT_COLUMNS)}, in this order"
        )
    longest = settings.to_dict().get("max_position_embeddings")
    if longest is not None and shape[-1] > longest:
        raise UsageError(f"net hf:{name}: takes texts of at most {longest} tokens, given {shape[-1]}; cut them")


def take_head(model: nn.Module) -> int:
    """Put nothing in the place of a classifier's last linear layer; its number of inputs."""
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    name, head = layers[-1]
    model.set_submodule(name, nn.Identity())
    return head.in_features


def adapted(model: nn.Module, rank: int) -> nn.Module:
    """The model, frozen, with LoRA adapters at every linear layer (Hu et al. 2022, "LoRA", eq. 3), by the library peft.

    Raises:
        UsageError: the library is missing, or the model has no linear layer.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UsageError("train lora needs peft; install it with: pip install 'synergy-cl[adapters]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft about transformers, and about layers that it adapts by itself
        try:
            made: nn.Module = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear"))
        except ValueError as error:
            raise UsageError(f"train lora: {first_line(error)}; allowed: a model with linear layers") from error
    return made


def library() -> Any:
    """The library transformers. Raises UsageError that names the extra if it is missing."""
    try:
        import transformers
    except ImportError as error:
        raise UsageError("hf: needs transformers; install it with: pip install 'synergy-cl[transformers]'") from error
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Within, transformers neither remarks a new head nor shows a bar."""
    logging = library().utils.logging
    before, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bar:
            logging.enable_progress_bar()


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Within, an error of a model's code is a UsageError that begins with `what`."""
    try:
        yield
    except UsageError:
        raise
    except (*NETWORK_ERRORS, OSError, ImportError, ArithmeticError) as error:
        raise UsageError(f"{what}: cannot be made with these values: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first line of an error's text, in one piece."""
    return " ".join(next(iter(str(error).splitlines()), type(error).__name__).split())


def _pretrained(kind: Any, name: str, place: str | None, settings: Any) -> nn.Module:
    try:
        model: nn.Module = kind.from_pretrained(
            place or name, config=settings, use_safetensors=True, dtype=torch.float32, attn_implementation="eager"
        )
    except OSError as error:
        raise UsageError(
            f"net hf:{name}: no weights in safetensors ({first_line(error)}); convert them, or give --weights {RANDOM}"
        ) from error
    return model.train()
