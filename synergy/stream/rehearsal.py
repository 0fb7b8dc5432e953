"""The first batch is rehearsed on a copy of the network: what cannot work is told before anything changes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from synergy.device import usual_layouts
from synergy.errors import SHORTAGES, UsageError
from synergy.nets.named import giving_logits, has_logits
from synergy.ops.growth import classifier, widen
from synergy.ops.modes import evaluating
from synergy.ops.vectors import gains_by_channels_last
from synergy.randomness import TorchRandomness
from synergy.stream.explained import check_normalised, needs_more_samples
from synergy.stream.labels import Labels
from synergy.stream.recipe import Recipe
from synergy.stream.template import is_computed
from synergy.stream.view import try_view

OF_NETWORKS = (RuntimeError, TypeError, ValueError, LookupError, AssertionError, AttributeError)
"""What a network raises when it cannot take its inputs."""


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal has shown.

    Attributes:
        output: shape of the network's output for one sample.
        draws: whether the network draws random numbers in training, as dropout does.
        recomputes: whether its backward pass draws them again (see `TorchRandomness`).
    """

    output: list[int]
    draws: bool
    recomputes: bool


def rehearse(recipe: Recipe, raw: Tensor, labels: Labels | None) -> Rehearsal:
    """Try on one copy of the network all that later steps will do with it.

    The copy sees the batch and a single sample, in evaluation mode and in training mode, and its head grows if new
    classes may come. A lazy layer of the template takes its shape now.

    Args:
        recipe: has the network, the view and the method.
        raw: the first batch as it is stored, `[B, ...]`; left as it is.
        labels: None where targets are numbers.

    Raises:
        UsageError: the network, the view or the samples do not go together; the network answers otherwise in training
            or with one sample, cannot be trained, or cannot grow.
    """
    inputs = try_view(recipe.view, raw, recipe.options.seed)
    if inputs.is_floating_point() and not inputs.isfinite().all():
        raise UsageError("transform: it made NaN or infinity of the first batch; allowed: finite numbers")
    trial, output = fill(recipe, inputs, labels)
    _check_statistics(trial)
    _evaluated(recipe, trial, inputs[:1])
    watch = TorchRandomness(recipe.options.seed, "learner/rehearsal", recipe.template.device)
    with watch.noticing() as noticed:
        _train(recipe, trial, _training_batch(recipe, inputs), output)
        if recipe.kind.only_batch_size != 1 and len(inputs) > 1:
            _train_with_one(recipe, trial, inputs[:1], output)
    if labels is not None and not labels.fixed:
        _check_growth(recipe, trial, inputs, output[0])
    return Rehearsal(output, noticed.drawn, noticed.recomputed)


def rehearse_layouts(recipe: Recipe, raw: Tensor, labels: Labels | None) -> tuple[Rehearsal, str]:
    """As `rehearse`, in the memory layout that was asked for, else in the best one that the network can take.

    Returns:
        What was shown, and the layout, which the template has from now on.
    """
    template, asked = recipe.template, recipe.options.memory_format
    if asked == "channels_last":
        template.lay_out()
        return rehearse(recipe, raw, labels), asked
    best = usual_layouts(template.device)[0] if asked is None and not template.is_lazy() else "contiguous"
    if best == "channels_last" and gains_by_channels_last(template.net):
        own = template.net
        with suppress(UsageError):
            template.lay_out()
            return rehearse(recipe, raw, labels), best
        template.net = own
    return rehearse(recipe, raw, labels), "contiguous"


def fill(recipe: Recipe, inputs: Tensor, labels: Labels | None) -> tuple[nn.Module, list[int]]:
    """Let lazy layers of the template take their shapes, and look at its output.

    Args:
        recipe: has the network.
        inputs: what the network sees, `[B, ...]`.
        labels: None where targets are numbers.

    Returns:
        A copy of the network, and the shape of its output for one sample.

    Raises:
        UsageError: the network cannot take the inputs, or gives no logits, or not as many as there are classes.
    """
    template = recipe.template
    net = template.build("rehearsal")
    with TorchRandomness(recipe.options.seed, "learner/lazy", template.device).drawing():
        shape = list(_evaluated(recipe, net, inputs).shape[1:])
    if template.is_lazy():
        template.net = deepcopy(net)
    if labels is None:
        return net, shape
    if len(shape) != 1:
        raise UsageError(
            f"network: its output has shape {[len(inputs), *shape]}; allowed: logits [B, classes] (loss='mse' for "
            "numbers)"
        )
    if not labels.fixed:
        template.find_head(shape[0])
    elif shape[0] != len(labels):
        raise UsageError(f"classes: given {len(labels)} for a network of {shape[0]} outputs; allowed: {shape[0]}")
    return net, shape


def _evaluated(recipe: Recipe, net: nn.Module, inputs: Tensor) -> Tensor:
    """The outputs in evaluation mode, `[B, ...]`."""
    before = inputs.clone()
    with evaluating(net), torch.no_grad():
        outputs = _outputs(recipe, net, inputs, "")
    _check_unwritten(inputs, before)
    return outputs


def _training_batch(recipe: Recipe, inputs: Tensor) -> Tensor:
    if recipe.kind.trains_to_answer:
        return torch.cat([inputs, inputs])  # it learns from memory, whatever the size of this batch
    return inputs[:1] if recipe.kind.only_batch_size == 1 else inputs


def _train(recipe: Recipe, net: nn.Module, inputs: Tensor, output: list[int]) -> None:
    """A forward and a backward pass in training mode."""
    before = inputs.clone()
    try:
        outputs = _outputs(recipe, net, inputs, "in training mode ")
    except UsageError as error:
        if needs_more_samples(error.__cause__):
            check_normalised(error.__cause__, len(inputs), one_by_one=recipe.kind.only_batch_size == 1)
        raise
    _check_unwritten(inputs, before)
    if list(outputs.shape[1:]) != output:
        raise UsageError(
            f"network: in training mode its output for {_count(inputs)} has shape {list(outputs.shape)}; allowed: "
            f"{[len(inputs), *output]}, as in evaluation mode"
        )
    if not outputs.requires_grad:
        raise UsageError(
            "network: its output does not depend on a parameter that takes a gradient; allowed: one that does (no "
            "detach(), no torch.no_grad() in forward)"
        )
    try:
        outputs.float().sum().backward()
    except OF_NETWORKS as error:
        _let_shortage_pass(error)
        raise UsageError(f"network: it cannot be trained ({_first_line(error)}); give one that can") from error


def _train_with_one(recipe: Recipe, net: nn.Module, inputs: Tensor, output: list[int]) -> None:
    """As `_train`, but a network with BatchNorm needs no single samples: a batch of one is refused when it comes."""
    try:
        _train(recipe, net, inputs, output)
    except UsageError as error:
        if not needs_more_samples(error.__cause__):
            raise


def _outputs(recipe: Recipe, net: nn.Module, inputs: Tensor, when: str) -> Tensor:
    """What the network makes of `inputs` `[B, ...]`: a tensor `[B, ...]`, or a UsageError."""
    try:
        with recipe.autocast():
            outputs = net(inputs)
    except OF_NETWORKS as error:
        _let_shortage_pass(error)
        hint = "" if inputs.is_floating_point() else ", or floats (x.astype('float32'))"
        raise UsageError(
            f"network: {when}it cannot take samples of shape {list(inputs.shape)} and type {inputs.dtype} "
            f"({_first_line(error)}); give others{hint}, or a transform"
        ) from error
    if has_logits(outputs):
        recipe.template.give_logits()
        giving_logits(net)
        outputs = outputs["logits"]
    if not isinstance(outputs, Tensor):
        what = type(outputs).__name__
        raise UsageError(f"network: {when}its output is a {what}; allowed: a tensor [B, ...] ({_unwrapping(outputs)})")
    if outputs.dim() < 1 or len(outputs) != len(inputs):
        hint = " (squeeze() drops the dimension of a batch of one: flatten(1) does not)" if len(inputs) == 1 else ""
        raise UsageError(
            f"network: {when}its output for {_count(inputs)} has shape {list(outputs.shape)}; allowed: a tensor "
            f"[B, ...]{hint}"
        )
    return outputs


def _count(inputs: Tensor) -> str:
    return f"{len(inputs)} sample{'s' * (len(inputs) != 1)}"


def _unwrapping(outputs: object) -> str:
    """How a module around the network gives a tensor."""
    if isinstance(outputs, Mapping):
        key = next(iter(outputs), "logits")
        return f"a module around it whose forward returns net(x)[{key!r}]"
    if isinstance(outputs, tuple | list):
        return "a module around it whose forward returns net(x)[0], or no auxiliary outputs"
    return "a module around it whose forward returns one"


def _check_statistics(net: nn.Module) -> None:
    for name, module in net.named_modules():
        if isinstance(module, BatchNorm) and module.running_mean is None:
            raise UsageError(
                f"network: the {type(module).__name__} '{name}' has no running statistics, so that an answer depends "
                "on the rest of its batch; allowed: track_running_stats=True, or GroupNorm or LayerNorm"
            )


def _check_growth(recipe: Recipe, trial: nn.Module, inputs: Tensor, outputs: int) -> None:
    """Let the head of the copy grow, and the network's `outputs` logits with it."""
    head = recipe.template.head
    assert head is not None, "a network that may grow has a head"
    layer = classifier(trial, head)
    computed = is_computed(layer)
    try:
        widen(layer, 1)
        with evaluating(trial), torch.no_grad(), recipe.autocast():
            width = trial(inputs).shape[1]
    except OF_NETWORKS as error:
        _let_shortage_pass(error)
        width = None
    if width != outputs + 1 or computed:
        why = ", since its weights are computed from others (a parametrisation)" if computed else ""
        raise UsageError(
            f"head: the linear layer '{head}' cannot get more outputs without the rest of the network{why}; name the "
            "layer that gives the logits (head=...), or all classes in advance (classes=[...])"
        )


def _let_shortage_pass(error: Exception) -> None:
    """Raises the error itself if it is about memory: the network may be all right."""
    if isinstance(error, torch.OutOfMemoryError) or any(shortage in str(error) for shortage in SHORTAGES):
        raise error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _check_unwritten(inputs: Tensor, before: Tensor) -> None:
    if not torch.equal(inputs.nan_to_num(), before.nan_to_num()):
        raise UsageError(
            "network: it writes to its inputs, which are your samples; allowed: one whose first operation is not in "
            "place (x - 1 for x.sub_(1), inplace=False)"
        )
