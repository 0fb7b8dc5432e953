"""Image and text classifiers of the library transformers: their configuration, their weights, what they need.

The only file that imports the library for networks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synergy.errors import UsageError
from synergy.nets.base import NETWORK_ERRORS
from synergy.nets.image_size import ImageSize

TEXT_COLUMNS = ("input_ids", "attention_mask", "token_type_ids")
"""The rows of a text sample `(K, L)`, in this order; a sample `(L,)` is the first alone."""
PRETRAINED, RANDOM = "pretrained", "random"


def make_model(
    name: str,
    place: str | None,
    shape: tuple[int, ...],
    *,
    weights: str,
    values: tuple[str, ...],
    resized: bool,
    whole: bool = False,
) -> tuple[nn.Module, ImageSize | None]:
    """A classifier of transformers on the CPU, and the size of images it needs; None for texts.

    Args:
        name: a folder, a name of the hub or a type of model, as of `hf:NAME`.
        place: where the folder is; None if it is none.
        shape: of a sample.
        weights: `PRETRAINED` or `RANDOM`.
        values: of its configuration, in the place of its own, as "NAME=VALUE".
        resized: whether images will be scaled to the model's size.
        whole: whether the weights below the head must all be there; else those that are not are drawn.

    Raises:
        UsageError: the library is missing, there is no such model, it has no weights in safetensors, or the samples do
            not fit it.
    """
    transformers = library()
    is_text = len(shape) < 3
    settings = configuration(name, place, weights, values)
    kind = transformers.AutoModelForSequenceClassification if is_text else transformers.AutoModelForImageClassification
    if type(settings) not in kind._model_mapping:
        what = "texts" if is_text else "images"
        raise UsageError(
            f"net hf:{name}: a model of type {settings.model_type} does not classify {what}; name one that does"
        )
    size = None if is_text else image_size(settings)
    if size is not None:
        size.check(f"hf:{name}", shape, resized=resized)
    else:
        check_text(name, settings, shape)
    with quiet():
        if weights == RANDOM:
            # Attention as plain operations: the Fisher pass vectorises them over samples.
            return kind.from_config(settings, attn_implementation="eager"), size
        return _pretrained(kind, name, place, settings, whole=whole), size


def configuration(name: str, place: str | None, weights: str, given: tuple[str, ...]) -> Any:
    """The configuration of a model, with the values that were given.

    Raises:
        UsageError: there is no such model, or no such value.
    """
    transformers = library()
    types = transformers.CONFIG_MAPPING
    if place is None and name in types:
        if weights != RANDOM:
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
    own = found.to_dict()
    for key, value in given_values(given).items():
        if key not in own:
            near = get_close_matches(key, list(own), 1)
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


def head_of(model: nn.Module) -> str:
    """The name of a classifier's last linear layer."""
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return names[-1]


def downloaded(name: str) -> Path:
    """The folder of a model of the hub: its settings, and its weights in safetensors alone.

    Raises:
        UsageError: the hub did not give it.
    """
    library()
    from huggingface_hub import snapshot_download

    path = Path(name)
    there = sorted(each.name for each in path.parent.iterdir() if each.is_dir()) if path.parent.is_dir() else []
    near = get_close_matches(path.name, there, 1)
    hint = f"; did you mean 'hf:{path.parent / near[0]}'?" if near else ""
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):
        raise UsageError(f"features hf:{name}: there is no such folder{hint}")
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"features hf:{name}: no such folder, and the hub did not give it{hint} ({first_line(error)})"
        ) from error


def _pretrained(kind: Any, name: str, place: str | None, settings: Any, *, whole: bool) -> nn.Module:
    try:
        found = kind.from_pretrained(
            place or name,
            config=settings,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except OSError as error:
        raise UsageError(
            f"net hf:{name}: no weights in safetensors ({first_line(error)}); convert them, or give --weights {RANDOM}"
        ) from error
    model: nn.Module = found[0]
    head = head_of(model)
    missing = sorted(key for key in found[1]["missing_keys"] if key.rpartition(".")[0] != head)
    if whole and missing:
        raise UsageError(
            f"features hf:{name}: its weights lack '{missing[0]}'; allowed: a model with all that is below its head"
        )
    return model.train()
