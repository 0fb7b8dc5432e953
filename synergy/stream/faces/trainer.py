"""Replay and an anchor for the Trainer of transformers. The only file of the faces that imports transformers."""

from __future__ import annotations

from collections.abc import MutableMapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.disk.checkpoint import read, write
from synergy.errors import UsageError
from synergy.memory.reservoir import Reservoir
from synergy.memory.store import Samples
from synergy.methods.steps import average_weight, coin
from synergy.methods.synergy import SynergyConfig
from synergy.nets.named import Packing, giving_logits, taking
from synergy.ops.averaging import warm_decay
from synergy.ops.fisher import fisher_diagonal
from synergy.ops.frozen import Frozen, Thawed
from synergy.ops.modes import evaluating
from synergy.ops.vectors import trained, twin
from synergy.randomness import generator
from synergy.state import State, collect, restore

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise UsageError(
        "synergy.stream.faces.trainer needs transformers; install it with: pip install 'synergy-cl[adapters]'"
    ) from error


FOLDER = "replay"
"""In a checkpoint of the Trainer: what the callback holds."""


class ReplayCallback(TrainerCallback):
    """Mixes replay into the batches of a Trainer, and holds the model near its own average where weights matter.

    Give one object to the Trainers of all tasks. In training mode the model sees each batch joined with a draw from a
    reservoir of earlier samples; its loss is that of both, plus two terms as in `methods.synergy`: `reg_weight` times
    the squared difference to the averaged model's logits on the draw, and `penalty_weight` times the Fisher-weighted
    squared distance to the averaged model. With `reg_weight=0` and `penalty_weight=0` it is plain replay. The rates
    `fisher_update_freq` and `ema_update_freq` are per optimiser step. `lr` has no effect: the Trainer has its own.

    The model classifies: its inputs hold `labels`, and its outputs `loss` and `logits` `[B, n_classes]`. Texts are
    padded to one length. Only parameters that ask for a gradient are averaged and anchored.

    Every checkpoint of a Trainer gets a folder `replay`: the averaged model without frozen parameters, the memory, the
    generators. `Trainer.train(resume_from_checkpoint=...)` with a callback of the same options goes on from it and ends
    with the same bits. A checkpoint that is not in the Trainer's own folder is named before: `callback.restore(...)`.

    Args:
        config: options of SYNERgy.
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
        self._saved: State | None = None
        """Of a checkpoint to go on from, until training begins."""

    def restore(self, checkpoint: str | Path) -> None:
        """Go on from a checkpoint of a Trainer, when training begins.

        Raises:
            UsageError: it holds no replay, or it is damaged.
        """
        self._saved = read(Path(checkpoint) / FOLDER)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Join the model: from now on its passes in training mode hold replay."""
        if not trained(model):
            raise UsageError("model: nothing in it asks for a gradient; allowed: a model or an adapter to train")
        if self._saved is None and state is not None and state.global_step:  # the Trainer resumes
            self.restore(_checkpoint(args, state))
        if self.semantic is None or self._saved is not None:
            self.semantic = giving_logits(twin(model))
        if self._saved is not None:
            self._load(self._saved)
            self._saved = None
        self._hooks = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after),
        ]

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the model as it was found."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write what the callback holds into the checkpoint that the Trainer has just written."""
        if state.is_world_process_zero:
            parts = self._parts()
            fisher = [] if self.fisher is None else [each.flatten() for each in self.fisher]
            write(
                collect(parts | {"fisher": torch.cat(fisher) if fisher else torch.empty(0)}),
                _checkpoint(args, state) / FOLDER,
            )

    def _parts(self) -> dict[str, Any]:
        assert self.semantic is not None, "training has begun"
        semantic = Thawed(self.semantic, Frozen.of(self.semantic))
        return {"semantic": semantic, "memory": self.memory, "coins": self._coins, "steps": self.steps}

    def _load(self, saved: State) -> None:
        """Take over a state. Raises UsageError if it belongs to another model or to other options."""
        assert self.semantic is not None, "made just before"
        parameters = trained(self.semantic)
        parts = self._parts() | {"fisher": torch.empty(0, dtype=parameters[0].dtype)}
        try:
            restore(parts, saved)
            vector = parts["fisher"].to(parameters[0].device)
            sizes = [each.numel() for each in parameters]
            if len(vector) not in (0, sum(sizes)):
                raise ValueError(f"the importance of {len(vector)} weights, expected {sum(sizes)}")
        except (ValueError, TypeError, LookupError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise UsageError(f"checkpoint: replay does not fit: {reason}; use the same model and options") from error
        pieces = zip(vector.split(sizes), parameters, strict=True) if len(vector) else ()
        self.fisher = [piece.view_as(parameter) for piece, parameter in pieces] or None
        self.steps = parts["steps"]

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


def _checkpoint(args: Any, state: Any) -> Path:
    """Where the Trainer has its checkpoint of the present step."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
