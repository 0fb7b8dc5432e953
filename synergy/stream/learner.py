"""A learner for real streams: observe, predict, save."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from synergy.data.view import ImageView
from synergy.device import find_device
from synergy.engine.optimizers import OptimizerFactory, SchedulerFactory
from synergy.errors import UsageError
from synergy.methods.base import Method, MethodConfig
from synergy.state import State
from synergy.stream import saving
from synergy.stream.labels import as_labels
from synergy.stream.memory_contents import MemoryContents
from synergy.stream.options import StreamOptions, check_given, choose_method, known_method
from synergy.stream.progress import Progress
from synergy.stream.recipe import make_labels, make_recipe
from synergy.stream.template import kind_of
from synergy.stream.view import Randomise, Transform
from synergy.types import Losses


class Learner:
    """Learns from a stream, a batch at a time, with a network and data of the user's own.

    The first batch fixes what a sample is like. The network is copied and the copy is trained. All of this runs on the
    calling thread; two threads must not use one learner at once. A batch that fails, for whatever reason, changes
    nothing, and Ctrl-C waits for the end of a step.

    Args:
        net: maps a batch of samples `[B, ...]` to logits `[B, K]`, or to a mapping with `logits`, as a model of
            transformers does; with `loss="mse"`, to numbers `[B, ...]`. Its frozen parameters stay as they are.
        method: a name (`synergy list` shows them), `module:Class`, `file.py:Class`, or a class; one that needs no task
            boundaries.
        config: the method's options as an object, instead of by name.
        classes: all labels there will ever be, in the order of the outputs. Without it new labels may come at any time:
            they take the network's outputs in turn, and when all are taken its last linear layer grows.
        class_weights: how much a sample of a label counts in the loss; 1 for the others.
        transform: what the network sees of stored samples: a batched callable or an `ImageView`. By default uint8 is
            scaled to [0, 1] and other numbers stay as they are.
        augment: makes a random variant of stored samples `(raw, generator) -> raw`, in training.
        optimizer: makes an optimiser of a list of parameters; by default plain SGD with the option `lr`. The parameters
            come as one vector, so that it must treat all elements alike.
        scheduler: makes a learning rate schedule of an optimiser; it takes a step after every batch.
        device: "auto", "cpu", "cuda" or "mps"; by default where the network is.
        **options: of the method (such as `buffer_size`, `lr`) and of the learner: see `stream.options.StreamOptions`.

    Raises:
        UsageError: an option is unknown or not allowed, the method cannot learn from a stream, or nothing in the
            network can be trained.

    Examples:
        >>> import torch
        >>> from synergy import Learner
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> learner = Learner(torch.nn.Linear(2, 1), method="er", buffer_size=10, minibatch_size=10, lr=0.5)
        >>> for _ in range(20):
        ...     losses = learner.observe(x, ["left", "right"])
        >>> learner.predict(x)
        ['left', 'right']
        >>> learner.metrics()["recent_accuracy"] > 90
        True
    """

    def __init__(
        self,
        net: nn.Module,
        method: str | type[Method[Any]] = "synergy",
        *,
        config: MethodConfig | None = None,
        classes: Iterable[Hashable] | None = None,
        class_weights: Mapping[Any, float] | None = None,
        transform: Transform | ImageView | None = None,
        augment: Randomise | None = None,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
        device: str | None = None,
        **options: Any,
    ) -> None:
        callables = {"transform": transform, "augment": augment, "optimizer": optimizer, "scheduler": scheduler}
        with torch.inference_mode(False):
            recipe = make_recipe(net, method, config, options, class_weights, device, callables)
        self._progress = Progress(recipe, make_labels(classes, recipe))

    @property
    def options(self) -> StreamOptions:
        """The learner's own options."""
        return self._progress.recipe.options

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._progress.recipe.template.device

    @property
    def classes(self) -> list[Hashable]:
        """The labels known so far, in the order of the columns of `predict_proba`."""
        return self._progress.classes

    def observe(self, x: Any, y: Any) -> Losses:
        """Learn from one batch.

        Args:
            x: samples `[B, ...]`, B at least 1: a tensor, an array, lists or a data frame; uint8 is stored as it is.
                Or a mapping of names to these, such as `input_ids` and `attention_mask`: the network gets them by name,
                and a memory holds them packed into one tensor.
            y: a label for each: a tensor, an array or a list of anything hashable; with `loss="mse"` numbers `[B, ...]`
                in the shape of the network's outputs.

        Returns:
            The named terms of the loss, detached scalars on the device.

        Raises:
            UsageError: the batch is not one, holds NaN, infinity, another shape than before, a label outside `classes`,
                or what the network cannot take. Nothing has changed then.
            TrainingError: the loss is not finite any more; or memory ran out, and nothing has changed.
        """
        progress = self._progress
        with torch.inference_mode(False), torch.enable_grad():
            losses = progress.change(lambda: progress.learn(x, y))
        if progress.batches % progress.look_steps == 0:
            progress.check_loss()
        return losses

    def predict(self, x: Any, predictor: str | None = None) -> Any:
        """The most likely label of each sample, as a list; with `loss="mse"` the outputs `[B, ...]`.

        Args:
            x: samples `[B, ...]`.
            predictor: one of `predictors`, by default the method's recommended one.

        Raises:
            UsageError: nothing was learned yet, the samples have another shape, or there is no such predictor.
            TrainingError: the answers to the first samples after a batch are not finite.
        """
        scores = self.scores(x, predictor)
        if self._progress.labels is None:
            return scores
        known = self._progress.labels.known
        return [known[output] for output in scores.argmax(1).tolist()]

    def predict_proba(self, x: Any, predictor: str | None = None) -> Tensor:
        """Probabilities `[B, len(classes)]` of the classes known so far.

        Raises:
            UsageError, TrainingError: as `predict`, or the learner predicts numbers, not classes.
        """
        if self._progress.labels is None:
            raise UsageError("predict_proba: there are no classes with loss=mse; use predict")
        return self.scores(x, predictor).softmax(1)

    def scores(self, x: Any, predictor: str | None = None) -> Tensor:
        """Logits `[B, len(classes)]` of the classes known so far; with `loss="mse"` the outputs `[B, ...]`.

        Raises:
            UsageError, TrainingError: as `predict`.
        """
        self._progress.require_trained("predict")
        return self._progress.scores(self._progress.intake(x), predictor)

    @property
    def predictors(self) -> dict[str, Callable[[Any], Tensor]]:
        """The networks that can answer, by name, the recommended one first; each maps samples to `scores`."""
        names = [] if self._progress.worker is None else list(self._progress.worker.predictors())
        return {name: lambda x, name=name: self.scores(x, name) for name in names}  # type: ignore[misc]

    def evaluate(self, x: Any, y: Any) -> dict[str, float]:
        """How well every predictor does: accuracy in percent; with `loss="mse"` the mean squared error.

        An unknown label counts as a mistake.

        Raises:
            UsageError, TrainingError: as `predict`, or there are not as many targets as samples.
        """
        progress = self._progress
        progress.require_trained("evaluate")
        raw = progress.intake(x)
        if progress.labels is None:
            numbers = progress.numbers(y, len(raw))
            return {
                name: float((progress.scores(raw, name) - numbers).square().mean()) for name in progress.predictors()
            }
        outputs = progress.labels.find(as_labels(y, len(raw))).to(self.device)
        hits = {name: progress.scores(raw, name).argmax(1) == outputs for name in progress.predictors()}
        return {name: 100 * float(each.double().mean()) for name, each in hits.items()}

    @property
    def memory(self) -> MemoryContents:
        """What is in memory: its length, and `memory.summary()`."""
        return MemoryContents(self._progress)

    def forget(self, predicate: Callable[[Tensor, Any], bool]) -> int:
        """Take samples out of memory for good; what the networks learned from them stays.

        Args:
            predicate: of a sample as it is stored (a tensor on the host) and its label: whether it must go.

        Returns:
            How many were taken out.
        """
        return self.memory.forget(predicate)

    def metrics(self) -> dict[str, Any]:
        """What a dashboard shows: plain numbers and names, None for what is not known yet.

        `accuracy` (percent) is over all samples, each predicted before it was learned, from the second batch on;
        `recent_accuracy` the same with older samples fading (a thousand samples back one weighs a third). Both are of
        the network `predictor`: with `prequential="learning"` the one that learns, with its outputs in training mode as
        its step computes them; with "answering" the one that `predict` asks. With `loss="mse"` they are `error` and
        `recent_error`, mean squared errors. `memory` is `memory.summary()`. `remarks` are lines about the
        answers, such as that an averaged network still holds early weights.
        """
        progress = self._progress
        name, scale = ("error", 1) if progress.labels is None else ("accuracy", 100)
        mean, recent = progress.prequential.mean(), progress.prequential.recent()
        losses = progress.last_losses
        return {
            "batches": progress.batches,
            name: None if mean is None else scale * mean,
            f"recent_{name}": None if recent is None else scale * recent,
            "predictor": progress.judged(),
            "loss": float(losses["loss"]) if losses else None,
            "classes": len(self.classes),
            "memory": self.memory.summary(),
            "remarks": [] if progress.worker is None else progress.worker.method.remarks(),
        }

    def save(self, path: str | Path) -> None:
        """Write everything to the folder `path`, durably and all at once; a learner saved there before is replaced.

        Raises:
            UsageError: nothing was learned yet, a label is of a kind that a file cannot hold, or the folder that `path`
                is to be in does not exist.
            TrainingError: the loss is not finite any more, or the learner is unusable. What was there stays.
            OSError: the folder cannot be written, or the disk is full. What was there stays.
        """
        self._progress.require_trained("save")
        self._progress.check_loss()
        saving.write(self._progress, path)

    @classmethod
    def load(
        cls,
        path: str | Path,
        net: nn.Module,
        method: str | type[Method[Any]] | None = None,
        *,
        transform: Transform | ImageView | None = None,
        augment: Randomise | None = None,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
        device: str | None = None,
    ) -> Learner:
        """A learner that goes on exactly where `save` was called. Nothing in the folder is ever run.

        Args:
            path: the folder.
            net: a network like the one the learner was made with, compiled or not. Its weights do not matter, but for
                frozen ones: no file holds these.
            method: its class, or its name as in the constructor, if it is not one of the library's.
            transform: as the learner was made with.
            augment: likewise.
            optimizer: likewise.
            scheduler: likewise.
            device: as in the constructor.

        Raises:
            UsageError: there is no learner, it is damaged in any way, or it does not fit what is given.
        """
        callables = {"transform": transform, "augment": augment, "optimizer": optimizer, "scheduler": scheduler}
        state = saving.read(path, kind_of(net)[1] if device is None else find_device(device))
        with saving.fitting(path), torch.inference_mode(False):
            check_given(state["given"], callables)
            kind = known_method(state["method"]["name"]) if method is None else method
            config = choose_method(kind)[1].Config(**state["method"]["config"])
            given: dict[str, Any] = callables | saving.arguments(state)
            learner = cls(net, kind, config=config, device=device, **given)
            saving.restore_progress(learner._progress, state, saving.labels_of(state))
        return learner

    def __getstate__(self) -> State:
        """For `copy.deepcopy` and other processes, callables included; `save` is for files."""
        return saving.pickled(self._progress)

    def __setstate__(self, state: State) -> None:
        Learner.__init__(self, **saving.arguments_of_pickled(state))
        saving.unpickle(self._progress, state)
