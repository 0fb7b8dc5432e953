"""Replay and an anchor for the Trainer of transformers. The only file of the faces that imports transformers."""

from __future__ import annotations

from collections.abc import MutableMapping
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.errors import UsageError
from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.steps import average_weight, coin
from synergy.methods.synergy import SynergyConfig
from synergy.nets.named import Packing, giving_logits, taking
from synergy.ops.averaging import warm_decay
from synergy.ops.fisher import fisher_diagonal
from synergy.ops.modes import evaluating
from synergy.ops.vectors import trained, twin
from synergy.randomness import generator

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise UsageError(
        "synergy.stream.faces.trainer needs transformers; install it with: pip install 'synergy-cl[adapters]'"
    ) from error


class ReplayCallback(TrainerCallback):
    """Mixes replay into the batches of a Trainer, and holds the model near its own average where weights matter.

    Give one object to the Trainers of all tasks. In training mode the model sees each batch joined with a draw from a
    reservoir of earlier samples; its loss is that of both, plus two terms as in `methods.synergy`: `reg_weight` times
    the squared difference to the averaged model's logits on the draw, and `penalty_weight` times the Fisher-weighted
    squared distance to the averaged model. With `reg_weight=0` and `penalty_weight=0` it is plain replay. The rates
    `fisher_update_freq` and `ema_update_freq` are per optimiser step. `lr` has no effect: the Trainer has its own.

    The model classifies: its inputs hold `labels`, and its outputs `loss` and `logits` `[B, n_classes]`. Texts are
    padded to one length. Only parameters that ask for a gradient are averaged and anchored.

    Args:
        config: options of SYNERGy.
        seed: of the draws.

    Attributes:
        semantic: the averaged model; None before the first training.
        memory: the reservoir.

    Examples:
        >>> callback = ReplayCallback(SynergyConfig(buffer_size=50))
        >>> len(callback.memory), callback.semantic
        (0, None)
    """

    def __init__(self, config: SynergyConfig | None = None, seed: int = 0) -> None:
        self.config = SynergyConfig() if config is None else config
        rngs = (generator(seed, f"trainer/{name}") for name in ("reservoir", "replay", "coins"))
        reservoir_rng, replay_rng, self._coins = rngs
        self.memory = Reservoir(self.config.buffer_size, reservoir_rng, replay_rng)
        self.semantic: nn.Module | None = None
        self.fisher: list[Tensor] | None = None
        self.steps = 0
        self._packing: Packing | None = None
        self._joined: Samples | None = None
        """The stream batch of the pass that is under way."""
        self._n = 0
        self._replayed: Tensor | None = None
        self._hooks: list[Any] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Join the model: from now on its passes in training mode hold replay."""
        if not trained(model):
            raise UsageError("model: nothing in it asks for a gradient; allowed: a model or an adapter to train")
        if self.semantic is None:
            self.semantic = giving_logits(twin(model))
        self._hooks = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after),
        ]

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the model as it was found."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """After an optimiser step: the average and the importance of weights follow."""
        self.steps += 1
        config, t = self.config, self.steps
        weight = average_weight(self._coins, config.ema_update_freq, t, config.ema_alpha, config.ema_warmup)
        assert self.semantic is not None, "training has begun"
        if weight is not None:
            with torch.no_grad():
                for phi, theta in zip(trained(self.semantic), trained(model), strict=True):
                    phi.lerp_(theta, float(weight))
        if coin(self._coins, config.fisher_update_freq) and len(self.memory) and config.penalty_weight:
            self._update_fisher(self.semantic)

    def _update_fisher(self, semantic: nn.Module) -> None:
        assert self._packing is not None, "memory holds samples"
        stored = self.memory.all()
        new = fisher_diagonal(taking(giving_logits(deepcopy(semantic)), self._packing), stored.raw, stored.labels)
        decay = warm_decay(self.steps, self.config.fisher_alpha)
        old = self.fisher
        self.fisher = new if old is None else [decay * a + (1 - decay) * b for a, b in zip(old, new, strict=True)]

    def _before(self, model: nn.Module, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """Join a draw from memory to the inputs."""
        if not (model.training and torch.is_grad_enabled()):
            return None
        labels = named.get("labels")
        if not isinstance(labels, Tensor) or labels.dim() != 1:
            raise UsageError(
                "inputs: given without 'labels' [B]; allowed: those of a classifier, without label smoothing"
            )
        inputs = {name: value for name, value in named.items() if isinstance(value, Tensor) and name != "labels"}
        inputs = {name: value for name, value in inputs.items() if value.dim() and len(value) == len(labels)}
        packing = self._packing = self._packing or Packing.of(inputs)
        raw = packing.pack(inputs)
        self._joined, self._n, self._replayed = Samples(raw, labels), len(labels), None
        if not len(self.memory):
            return None
        drawn = self.memory.draw(self.config.minibatch_size)
        self._replayed = drawn.raw
        replay = packing.unpack(drawn.raw)
        mixed = {name: torch.cat([value, replay[name].to(value.dtype)]) for name, value in inputs.items()}
        return arguments, {**named, **mixed, "labels": torch.cat([labels, drawn.labels])}

    def _after(self, model: nn.Module, arguments: Any, outputs: Any) -> Any:
        """Add the terms of the loss, and offer the stream batch to memory."""
        joined, self._joined = self._joined, None
        if joined is None:
            return outputs
        if not isinstance(outputs, MutableMapping) or not isinstance(outputs.get("loss"), Tensor):
            raise UsageError("model: its outputs hold no 'loss'; allowed: a classifier of transformers, given 'labels'")
        assert self.semantic is not None and self._packing is not None, "training has begun"
        loss = outputs["loss"]
        if self._replayed is not None and self.config.reg_weight:
            with torch.no_grad(), evaluating(self.semantic):
                target = self.semantic(**self._packing.unpack(self._replayed))
            loss = loss + self.config.reg_weight * F.mse_loss(outputs["logits"][self._n :], target)
        if self.fisher is not None and self.config.penalty_weight:
            anchors = zip(trained(model), trained(self.semantic), self.fisher, strict=True)
            drift = [(weight * (theta - phi.detach()).square()).sum() for theta, phi, weight in anchors]
            loss = loss + self.config.penalty_weight * torch.stack(drift).sum()
        outputs["loss"] = loss
        outputs["logits"] = outputs["logits"][: self._n]
        self.memory.offer(joined)
        return outputs
