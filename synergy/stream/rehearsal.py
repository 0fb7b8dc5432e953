"""A look at the first batch before anything is learned: whether the network, the view and the labels go together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from synergy.data.view import ImageView
from synergy.errors import UsageError
from synergy.randomness import TorchRandomness, generator
from synergy.stream.labels import Labels
from synergy.stream.recipe import Recipe
from synergy.stream.template import check_normalised


def output_shape(recipe: Recipe, raw: Tensor, labels: Labels | None) -> list[int]:
    """The shape of the network's outputs for one sample, after a look whether it goes with samples and labels.

    Args:
        recipe: has the network.
        raw: stored samples `[B, ...]`.
        labels: None where targets are numbers.

    Raises:
        UsageError: the network cannot take the samples, or gives no logits, or not as many as there are classes.
    """
    with TorchRandomness(recipe.options.seed, "learner/lazy", recipe.template.device).drawing():
        # A lazy layer draws its weights now.
        inputs = _viewed(recipe, raw)
        before = inputs.clone()
        answer = recipe.template.answer(inputs, recipe.autocast)
    _check_unwritten(inputs, before)
    shape = list(answer.shape[1:])
    if labels is None:
        return shape
    if len(shape) != 1:
        raise UsageError(f"network: its output has shape {list(answer.shape)}; allowed: logits [B, classes]")
    if not labels.fixed:
        recipe.template.find_head(shape[0])
    elif shape[0] != len(labels):
        raise UsageError(f"classes: given {len(labels)} for a network of {shape[0]} outputs; allowed: {shape[0]}")
    return shape


def rehearse(recipe: Recipe, raw: Tensor, labels: Labels | None, outputs: int) -> bool:
    """Do with copies what a step will do, so that what cannot work is said while nothing has changed yet.

    Args:
        recipe: of the method.
        raw: the first batch, as it is stored `[B, ...]`; left as it is.
        labels: None where targets are numbers.
        outputs: of the network.

    Returns:
        Whether the network draws random numbers in training, as dropout does.

    Raises:
        UsageError: the view or the network writes to what it is given, the view does not make samples of samples, the
            network cannot be trained on such a batch, or its head cannot grow though new classes may come.
    """
    inputs = _viewed(recipe, raw)
    if inputs.is_floating_point() and not inputs.isfinite().all():
        raise UsageError("transform: it made NaN or infinity of the first batch; allowed: finite numbers")
    if labels is not None and not labels.fixed:
        recipe.template.try_growth(inputs, outputs, recipe.autocast)
    if recipe.kind.trains_to_answer:
        inputs = torch.cat([inputs, inputs])  # it learns from memory, whatever the size of this batch
    elif recipe.kind.only_batch_size == 1:
        inputs = inputs[:1]
    before = inputs.clone()
    net = recipe.template.build("rehearsal")
    with TorchRandomness(recipe.options.seed, "learner/rehearsal", recipe.template.device).noticing() as drawn:
        try:
            with torch.no_grad(), recipe.autocast():
                net(inputs)
        except ValueError as error:
            check_normalised(error, len(inputs), one_by_one=recipe.kind.only_batch_size == 1)
            raise
    _check_unwritten(inputs, before)
    return drawn[0]


def _check_unwritten(inputs: Tensor, before: Tensor) -> None:
    if not torch.equal(inputs.nan_to_num(), before.nan_to_num()):
        raise UsageError(
            "network: it writes to its inputs, which are your samples; allowed: one whose first operation is not in "
            "place (x - 1 for x.sub_(1), inplace=False)"
        )


def _viewed(recipe: Recipe, raw: Tensor) -> Tensor:
    """What the network sees of a batch in training, after a look at the transform and the augment."""
    view, given = recipe.view, raw.clone()
    if isinstance(view.transform, ImageView) and raw.is_floating_point():
        raise UsageError(
            f"samples: given {raw.dtype} with an ImageView, which scales 0 to 255 to [0, 1]; allowed: uint8, or "
            "a transform of your own"
        )
    if view.augment is not None:
        augment = view.augment
        made = _tried("augment", lambda: augment(given, generator(recipe.options.seed, "learner/rehearsal")), given)
        if made.shape != raw.shape or made.dtype != raw.dtype:
            raise UsageError(
                f"augment: it made {list(made.shape)} of {made.dtype} from {list(raw.shape)} of {raw.dtype}; allowed: "
                "samples like those it is given"
            )
    inputs = _tried("transform", lambda: view.plain(given), given) if view.transform is not None else view.plain(given)
    if not torch.equal(given, raw):
        name = "augment" if view.augment is not None else "transform"
        raise UsageError(
            f"{name}: it writes to the samples it is given, which are yours; allowed: a callable that makes others "
            "(x - 1 for x.sub_(1))"
        )
    return inputs.clone()


def _tried(name: str, call: Callable[[], object], given: Tensor) -> Tensor:
    """What a callable of the user's makes of samples; UsageError if it cannot take them, or does not make as many."""
    try:
        made = call()
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(
            f"{name}: it cannot take samples of shape {list(given.shape)} and type {given.dtype} ({reason}); "
            "allowed: a callable for batches [B, ...]"
        ) from error
    if not isinstance(made, Tensor) or made.dim() < 1 or len(made) != len(given):
        what = f"a tensor of shape {list(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
        raise UsageError(f"{name}: it made {what} of {len(given)} samples; allowed: a tensor of as many samples")
    return made
