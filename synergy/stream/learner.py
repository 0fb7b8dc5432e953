"""A learner for real streams: observe, predict, save."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace
from math import isfinite, prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from synergy.data.view import ImageView
from synergy.device import autocast, find_device
from synergy.disk import checkpoint
from synergy.engine.optimizers import OptimizerFactory, SchedulerFactory
from synergy.engine.prequential import Prequential, hits, squared_errors
from synergy.engine.worker import Worker
from synergy.errors import TrainingError, UsageError, unknown
from synergy.memory.reservoir import MOST
from synergy.methods.base import Method, MethodConfig
from synergy.randomness import generator
from synergy.state import State, collect, restore, restore_fresh
from synergy.stream import labels as label_forms
from synergy.stream.explained import explained
from synergy.stream.intake import Intake, as_samples, check_finite, column_names
from synergy.stream.labels import Labels, as_labels
from synergy.stream.options import (
    ANSWERING,
    LEARNING,
    SQUARED,
    StreamOptions,
    check_callables,
    check_given,
    check_weights,
    choose_method,
    known_method,
    split_options,
)
from synergy.stream.recipe import Recipe
from synergy.stream.rehearsal import output_shape, rehearse
from synergy.stream.stored import Stored
from synergy.stream.template import Template, check_range, kind_of
from synergy.stream.view import Randomise, StreamView, Transform
from synergy.types import Batch, Losses, Predictor

LOOK_STEPS = 100
"""How often the loss is looked at on an accelerator, where to look is to wait."""
CHUNK = 1000
"""Samples that are predicted at once."""
LABEL = torch.int64.itemsize
KIND = "learner"
"""What a checkpoint of one calls itself."""


class Learner:
    """Learns from a stream, a batch at a time, with a network and data of the user's own.

        learner = Learner(net, method="synergy", buffer_size=500, lr=0.05)
        for x, y in stream:
            learner.observe(x, y)
        learner.predict(x)

    The first batch fixes the shape and type of a sample. The network is copied and the copy is trained. All of this
    runs on the calling thread; two threads must not use one learner at once.

    Args:
        net: maps a batch of samples `[B, ...]` to logits `[B, K]` (or, with `loss="mse"`, to numbers `[B, ...]`).
        method: a name (`synergy list` shows them) or a class; one that needs no task boundaries.
        config: the method's options as an object, instead of by name.
        classes: all labels there will ever be, in the order of the outputs. Without it new labels may come at any time:
            they take the network's outputs in turn, and when all are taken its last linear layer grows.
        class_weights: how much a sample of a label counts in the loss; 1 for those left out.
        transform: what the network sees of stored samples: a batched callable or an `ImageView`. By default uint8 is
            scaled to [0, 1] and all else is left as it is.
        augment: makes a random variant of stored samples `(raw, generator) -> raw`, in training.
        optimizer: makes an optimiser of a list of parameters; by default plain SGD with the option `lr`. The parameters
            come as one vector, so that it must treat all elements alike.
        scheduler: makes a learning rate schedule of an optimiser; it takes a step after every batch.
        device: "auto", "cpu", "cuda" or "mps"; by default where the network is.
        **options: of the method (such as `buffer_size`, `lr`) and of the learner: see `stream.options.StreamOptions`.

    Raises:
        UsageError: an option is unknown or not allowed, or the method cannot learn from a stream.
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
        name, kind = choose_method(method)
        chosen, self.options = split_options(name, kind, config, options)
        plain = None if isinstance(transform, ImageView) else transform
        check_callables(transform=plain, augment=augment, optimizer=optimizer, scheduler=scheduler)
        if optimizer is not None and "lr" in options:
            raise UsageError("lr: given beside an optimizer; allowed: one of the two")
        with torch.inference_mode(False):
            template = Template(net, None if device is None else find_device(device), self.options.head)
        self.device = template.device
        self._view = StreamView(transform, augment, template.dtype)
        weights = check_weights(class_weights, name, kind)
        self._recipe = Recipe(name, kind, chosen, self.options, template, self._view, weights, optimizer, scheduler)
        self._labels = None if self.options.loss == SQUARED else Labels(classes)
        if self._labels is None and (classes is not None or class_weights is not None):
            raise UsageError("classes: given with loss=mse, which has none; allowed: neither classes nor class_weights")
        if self._labels is not None and self._labels.fixed:
            for label in weights or ():
                if self._labels.find([label]).item() < 0:
                    raise UsageError(f"class_weights: given {label!r}; allowed: labels that are in classes")
        self._worker: Worker | None = None
        """None until the first batch has shown what samples are like."""
        self._intake = Intake(template.dtype, template.device)
        self._target_shape: list[int] = []
        self._autocast = autocast(self.options.precision, self.device)
        self._on_device = self.device.type != "cpu"
        self._look_steps = LOOK_STEPS if self._on_device else 1
        self._rng = generator(self.options.seed, "learner/augment")
        self._whose = _whose(self.options.prequential, kind)
        self._prequential = Prequential(squared_errors if self._labels is None else hits)
        self._known = 0
        """Labels known before the batch in hand."""
        self._observed = 0
        self._unproved = True
        """Whether nobody has seen yet what is answered after the last batch."""
        self._last_losses: Losses = {}

    @property
    def classes(self) -> list[Hashable]:
        """The labels known so far, in the order of the columns of `predict_proba`."""
        return [] if self._labels is None else list(self._labels.known)

    def observe(self, x: Any, y: Any) -> Losses:
        """Learn from one batch.

        Args:
            x: samples `[B, ...]`, B at least 1: a tensor, an array or lists; what is uint8 is stored so.
            y: a label for each: a tensor, an array or a list of anything hashable; with `loss="mse"` numbers `[B, ...]`
                in the shape of the network's outputs.

        Returns:
            The named terms of the loss, detached scalars on the device.

        Raises:
            UsageError: the batch is not one, holds NaN, infinity, another shape than before, a label that is none of
                `classes`, or what the network cannot take. Nothing was learned then, unless by a method that learns
                sample by sample (mer), from the samples before the one that the network could not take.
            TrainingError: the loss is not finite any more, or memory ran out.
        """
        if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            with torch.inference_mode(False), torch.enable_grad():
                return self.observe(x, y)
        if self._observed:
            return self._one_batch(x, y)
        with self._tentatively():
            losses = self._one_batch(x, y)
            self._intake.fix_names(column_names(x))
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
        if self._labels is None:
            return scores
        known = self._labels.known
        return [known[output] for output in scores.argmax(1).tolist()]

    def predict_proba(self, x: Any, predictor: str | None = None) -> Tensor:
        """Probabilities `[B, len(classes)]` of the classes known so far.

        Raises:
            UsageError, TrainingError: as `predict`, or the learner predicts numbers, not classes.
        """
        if self._labels is None:
            raise UsageError("predict_proba: there are no classes with loss=mse; use predict")
        return self.scores(x, predictor).softmax(1)

    def scores(self, x: Any, predictor: str | None = None) -> Tensor:
        """Logits `[B, len(classes)]` of the classes known so far; with `loss="mse"` the outputs `[B, ...]`.

        Raises:
            UsageError, TrainingError: as `predict`.
        """
        worker, raw = self._taught(), self._intake(x)
        scores = self._answered(_chosen(self._predictors(worker), predictor), raw)
        if self._unproved:
            self._prove(scores)
        if scores.dtype != self._view.dtype:  # under autocast
            scores = scores.to(self._view.dtype)
        if self._labels is None or scores.shape[1] == len(self._labels):
            return scores
        return scores[:, : len(self._labels)]

    @property
    def predictors(self) -> dict[str, Callable[[Any], Tensor]]:
        """The networks that can answer, by name, the recommended one first; each maps samples to `scores`."""
        names = [] if self._worker is None else self._predictors(self._worker)
        return {name: lambda x, name=name: self.scores(x, name) for name in names}  # type: ignore[misc]

    def evaluate(self, x: Any, y: Any) -> dict[str, float]:
        """How well every predictor does: accuracy in percent; with `loss="mse"` the mean squared error.

        A label that was never seen counts as a mistake.

        Raises:
            UsageError, TrainingError: as `predict`, or there are not as many targets as samples.
        """
        worker, raw = self._taught(), self._intake(x)
        names = list(_some(self._predictors(worker)))
        if self._labels is None:
            targets = self._targets(y, raw)
            return {name: float((self.scores(raw, name) - targets).square().mean()) for name in names}
        outputs = self._labels.find(as_labels(y, raw.shape[0])).to(self.device)
        hits = {name: self.scores(raw, name).argmax(1) == outputs for name in names}
        return {name: 100 * float(each.double().mean()) for name, each in hits.items()}

    @property
    def memory(self) -> Stored:
        """What is in memory: its length, and `memory.summary()`."""
        method = None if self._worker is None else self._worker.method
        return Stored(method, None if self._labels is None else self._labels.known)

    def forget(self, predicate: Callable[[Tensor, Any], bool]) -> int:
        """Take samples out of memory for good; the networks have learned from them all the same.

        Args:
            predicate: of a sample as it is stored (a tensor on the host) and its label: whether it must go.

        Returns:
            How many were taken out.
        """
        return self.memory.forget(predicate)

    def metrics(self) -> dict[str, Any]:
        """What a dashboard shows: plain numbers and names, None where there is none yet.

        `accuracy` (percent) is over all samples, each predicted before it was learned, from the second batch on;
        `recent_accuracy` the same with older samples fading (a thousand samples back one weighs a third). Both are of
        the network `predictor`: with `prequential="learning"` the one that learns, with its outputs in training mode as
        its step computes them; with "answering" the one that `predict` asks. With `loss="mse"` they are `error` and
        `recent_error`, mean squared errors. `memory` is `memory.summary()`.
        """
        name, scale = ("error", 1) if self._labels is None else ("accuracy", 100)
        mean, recent = self._prequential.mean(), self._prequential.recent()
        return {
            "batches": self._observed,
            name: None if mean is None else scale * mean,
            f"recent_{name}": None if recent is None else scale * recent,
            "predictor": self._judged(),
            "loss": float(self._last_losses["loss"]) if self._last_losses else None,
            "classes": len(self.classes),
            "memory": self.memory.summary(),
        }

    def save(self, path: str | Path) -> None:
        """Write everything to the folder `path`, durably and all at once; a learner saved there before is replaced.

        Raises:
            UsageError: nothing was learned yet, or a label is of a kind that a file cannot hold.
            TrainingError: the loss is not finite any more. What was there before is as it was.
            OSError: the folder cannot be written, or the disk is full. What was there before is as it was.
        """
        if self._worker is None or not self._observed:
            raise UsageError("save: nothing was learned yet; observe a batch first")
        self._look()
        try:
            labels = [label_forms.saved(label) for label in self.classes]
            weights = self._recipe.class_weights
            named = {
                "labels": labels,
                "class_weights": None if weights is None else label_forms.saved_weights(weights),
            }
            checkpoint.write(self._saved(self._worker) | named, _folder(path))
        except TypeError as error:
            raise UsageError(f"save: {error}") from error

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
            net: a network like the one the learner was made with; its weights do not matter.
            method: its class, or its name as in the constructor, if it is not one of the library's.
            transform, augment, optimizer, scheduler: as the learner was made with.
            device: as in the constructor.

        Raises:
            UsageError: there is no learner, it is damaged in any way, or it does not fit what is given.
        """
        given = {"transform": transform, "augment": augment, "optimizer": optimizer, "scheduler": scheduler}
        home = kind_of(net)[1] if device is None else find_device(device)
        state = checkpoint.read(_folder(path), home)
        with _fitting(path), torch.inference_mode(False):
            if state.get("kind") != KIND:
                raise UsageError("holds something else than a learner; name a folder that Learner.save wrote")
            check_given(state["given"], given)
            saved_method = known_method(state["method"]["name"]) if method is None else method
            learner = cls(
                net,
                saved_method,
                config=choose_method(saved_method)[1].Config(**state["method"]["config"]),
                classes=map(label_forms.restored, state["labels"]) if state["fixed"] else None,
                class_weights=label_forms.restored_weights(state["class_weights"]),
                transform=transform,
                augment=augment,
                optimizer=optimizer,
                scheduler=scheduler,
                device=device,
                **state["options"],
            )
            # Has become the method's buffer_size, beside which it cannot be given.
            learner._take_options(replace(learner.options, buffer_bytes=state["buffer_bytes"]))
            learner._restore(state, list(map(label_forms.restored, state["labels"])))
        return learner

    def __getstate__(self) -> State:
        """For `copy.deepcopy` and other processes, callables included; `save` is for files."""
        options = {name: value for name, value in self.options.as_mapping().items() if name != "buffer_bytes"}
        arguments = {
            "net": self._recipe.template.net,
            "method": self._recipe.kind,
            "config": self._recipe.config,
            "classes": self.classes if self._labels is not None and self._labels.fixed else None,
            "class_weights": self._recipe.class_weights,
            "device": self.device.type,
        }
        learned = None if self._worker is None else checkpoint.packed(self._saved(self._worker))
        return {
            "arguments": arguments | self._recipe.callables() | options,
            "options": self.options,
            "labels": self.classes,
            "learned": learned,
        }

    def __setstate__(self, state: State) -> None:
        Learner.__init__(self, **state["arguments"])
        self._take_options(state["options"])
        if state["learned"] is not None:
            self._restore(checkpoint.unpacked(state["learned"], self.device), state["labels"])

    def _take_options(self, options: StreamOptions) -> None:
        self.options = options
        self._recipe = replace(self._recipe, options=options)

    # How it starts

    @contextmanager
    def _tentatively(self) -> Iterator[None]:
        """Within, a batch that is refused leaves all as it was: network, labels and what is known of samples."""
        recipe, net = self._recipe, self._recipe.template.net
        recipe.template.net = deepcopy(net)  # a lazy layer takes its shape from the first batch it sees
        known = 0 if self._labels is None else len(self._labels)
        try:
            yield
        finally:
            if not self._observed:
                self._recipe, recipe.template.net = recipe, net
                self._worker, self._intake = None, Intake(self._view.dtype, self.device)
                if self._labels is not None:
                    self._labels.cut(known)

    def _start(self, raw: Tensor, target: Tensor | None) -> Worker:
        """Make the method, now that the first batch says what a sample is, and its target where that is no label."""
        outputs = self._look_at_network(raw)
        draws = rehearse(self._recipe, raw, self._labels, outputs)
        self._recipe = self._recipe.sized(raw[0].nbytes, LABEL if target is None else target.nbytes, outputs)
        self._worker = self._recipe.worker(outputs, self._labels, draws=draws)
        self._intake.fix(raw)
        return self._worker

    def _look_at_network(self, raw: Tensor) -> int:
        """See that the network takes such samples, and gives what labels or targets need; how many outputs it has."""
        shape = output_shape(self._recipe, raw, self._labels)
        self._target_shape = shape
        return prod(shape)

    # One batch

    def _one_batch(self, x: Any, y: Any) -> Losses:
        raw = self._intake(x)
        if self._labels is None:
            outputs = self._targets(y, raw)
            worker = self._worker or self._start(raw, outputs[0])
        else:
            found = self._labels.outputs(y, raw.shape[0])
            worker = self._worker or self._start(raw, None)
            self._known = len(self._labels.known)
            outputs = self._outputs_of_new(worker, found) if isinstance(found, list) else found
            if self._on_device:
                outputs = outputs.to(self.device)
        try:
            draws = self._view.decide(raw.shape[0], self._rng)
            batch = Batch(raw, self._view(raw, draws), outputs)
            answers = self._answers_before(worker, batch) if self._whose == ANSWERING and self._observed else None
            with explained(raw.shape[0]):
                step = worker.step(batch)
        except UsageError:
            self._unlearn(worker)
            raise
        if answers is None and self._whose == LEARNING:
            answers = step.outputs
        if answers is not None:
            self._count(batch, answers)
        self._observed += 1
        self._unproved = True
        worker.schedule()
        self._last_losses = losses = step.losses
        if self._observed % self._look_steps == 0:
            self._look()
        return losses

    def _look(self) -> None:
        """Raises TrainingError if the loss of the last batch is not finite."""
        losses = self._last_losses
        if losses and not isfinite(losses["loss"].item()):
            raise self._diverged(f"the loss became {float(losses['loss'])} at")

    def _targets(self, y: Any, raw: Tensor) -> Tensor:
        """Numbers in the shape of the network's outputs; `[B]` for `[B, 1]`."""
        targets = as_samples(y, self._view.dtype, self.device, "targets").to(self._view.dtype)
        check_finite(targets, "targets")  # a whole number may be too large for the network's precision
        if self._worker is None:
            self._look_at_network(raw)
        expected = [len(raw), *self._target_shape]
        if targets.dim() == 1 and expected[1:] == [1]:
            targets = targets[:, None]
        if list(targets.shape) != expected:
            raise UsageError(
                f"targets: given shape {list(targets.shape)}; allowed: {expected}, as the network's outputs"
            )
        return targets

    def _answers_before(self, worker: Worker, batch: Batch) -> Tensor:
        """Test, then train: what `predict` would say of a batch that is about to be learned. Raises UsageError too."""
        answer = next(iter(self._predictors(worker).values()))
        inputs = self._view.plain(batch.raw) if self._view.is_random else batch.inputs
        try:
            with self._autocast():
                return answer(inputs)
        except LookupError as error:
            check_range(error)
            raise

    def _count(self, batch: Batch, outputs: Tensor) -> None:
        """Count the outputs `[N, ...]`, first those for `batch`, of a network that has not learned it yet.

        The label of an output from `_known` on was never seen, and counts as a mistake. Nothing counts before anything
        was learned.
        """
        if not self._observed:
            return
        if self._labels is None:
            self._prequential.add(outputs.detach(), batch.labels.clone())  # the user's own tensor, perhaps
        else:
            self._prequential.add(outputs.detach(), batch.labels, self._known)

    def _outputs_of_new(self, worker: Worker, labels: list[Hashable]) -> Tensor:
        """The outputs that stand for labels, `int64 [B]`, after the network was given those it lacked.

        Raises:
            UsageError: in `buffer_bytes` not even one sample will fit with so many outputs. Nothing has changed then.
        """
        assert self._labels is not None
        missing = max(0, len({*self._labels.known, *labels}) - worker.outputs)
        if self._recipe.kind.stored_outputs:
            sample = self._intake.form().nbytes
            self._recipe = self._recipe.sized(sample, LABEL, worker.outputs + missing)
            worker.shrink(self._recipe.config.as_mapping()["buffer_size"], worker.outputs + missing)
        outputs = self._labels.learn(labels)
        self._grow(worker, missing)
        return outputs

    def _unlearn(self, worker: Worker) -> None:
        """Labels that came with a batch that was refused are as unknown as before; the network keeps their outputs."""
        if self._labels is not None and worker.takes_whole_batches:
            self._labels.cut(self._known)
            self._grow(worker, 0)

    def _grow(self, worker: Worker, outputs: int) -> None:
        """Give the network so many more outputs, and let every known label count as it should."""
        head = self._recipe.template.grow(outputs) if outputs else None
        worker.grow(outputs, head, self._recipe.objective(worker.outputs + outputs, self._labels))

    def _judged(self) -> str | None:
        """The predictor whose outputs are counted."""
        if self._worker is None or self._whose == "off":
            return None
        method = self._worker.method
        return method.outputs_of if self._whose == LEARNING else next(iter(method.predictors()))

    def _prove(self, scores: Tensor) -> None:
        """Raises TrainingError if the first answers after a batch are not finite.

        The step may have ruined the network, and no loss will tell before the next one: it would answer with its first
        label, whatever it is asked.
        """
        if not scores.isfinite().all():
            raise self._diverged("the answers are NaN or infinite after")
        self._unproved = False

    def _diverged(self, what: str) -> TrainingError:
        bound = "give clip_norm" if self.options.clip_norm is None else "scale the samples"
        return TrainingError(
            f"{what} batch {self._observed}; lower lr or {bound}, and go on with the learner as it was saved last, "
            "or a fresh one"
        )

    def _taught(self) -> Worker:
        """What can answer, if anything was learned."""
        if self._worker is None or not self._observed:
            raise UsageError("predict: nothing was learned yet; observe a batch first")
        return self._worker

    @staticmethod
    def _predictors(worker: Worker) -> Mapping[str, Predictor]:
        """What can answer. Raises UsageError or TrainingError if a method trains to answer and cannot."""
        with explained(1):
            return worker.predictors()

    def _answered(self, answer: Predictor, raw: Tensor) -> Tensor:
        try:
            if self._autocast is nullcontext and raw.shape[0] <= CHUNK:
                return answer(self._view.plain(raw))
            with self._autocast():
                return torch.cat([answer(self._view.plain(part)) for part in raw.split(CHUNK)])
        except LookupError as error:
            check_range(error)
            raise

    # Saving

    _COUNTERS = ("_rng", "_observed", "_last_losses")
    """Attributes of the learner's own that go on where they were."""

    def _saved(self, worker: Worker) -> State:
        form = self._intake.form()
        sample = {"shape": list(form.shape), "dtype": str(form.dtype).removeprefix("torch.")}
        if form.names is not None:
            sample["columns"] = [label_forms.saved(name) for name in form.names]
        options = self.options.as_mapping()
        return {
            "kind": KIND,
            "method": {"name": self._recipe.name, "config": self._recipe.config.as_mapping()},
            "options": {name: value for name, value in options.items() if name != "buffer_bytes"},
            "buffer_bytes": self.options.buffer_bytes,
            "given": {name: given is not None for name, given in self._recipe.callables().items()},
            "fixed": self._labels is not None and self._labels.fixed,
            "sample": sample,
            "outputs": worker.outputs,
            "initial": dict(self._recipe.template.net.state_dict()),
            **worker.state_dict(),
            "prequential": self._prequential.state_dict(),
            "learner": collect({name: vars(self)[name] for name in self._COUNTERS}),
        }

    def _restore(self, state: State, labels: list[Hashable]) -> None:
        """Take up what `_saved` made; everything that is no option."""
        shape, dtype = state["sample"]["shape"], vars(torch)[state["sample"]["dtype"]]
        example = torch.zeros(2, *shape, dtype=dtype, device=self.device)
        self._intake.fix(example)
        if "columns" in state["sample"]:
            self._intake.fix_names([label_forms.restored(name) for name in state["sample"]["columns"]])
        outputs = self._look_at_network(example)
        if self._labels is not None:
            self._labels.restore(labels)
            missing = state["outputs"] - outputs
            if missing < 0 or (missing and self._labels.fixed):
                raise ValueError(f"it has {state['outputs']} outputs, the network {outputs}")
            if missing:
                self._recipe.template.grow(missing)
        self._recipe.template.net.load_state_dict(state["initial"])
        draws = state["chance"] is not None
        self._worker = self._recipe.worker(state["outputs"], self._labels, draws=draws)
        self._worker.load_state_dict(state)
        self._check_memories(self._worker, example[:1])
        restore_fresh(self._prequential, state["prequential"], "prequential")
        own = {name: vars(self)[name] for name in self._COUNTERS}
        restore(own, state["learner"])
        if not 0 < own["_observed"] < MOST:
            raise ValueError(f"it has observed {own['_observed']} batches")
        vars(self).update(own)

    def _check_memories(self, worker: Worker, raw: Tensor) -> None:
        """Raises ValueError unless memory holds samples like `raw` `[1, ...]`, and there is a label for each."""
        n = worker.outputs
        if self._labels is not None and len(self._labels) > n:
            raise ValueError(f"{len(self._labels)} labels for {n} outputs")
        numbers = raw.new_empty(1, *self._target_shape, dtype=self._view.dtype)
        targets = numbers if self._labels is None else torch.zeros(1, dtype=torch.int64)
        known = None if self._labels is None else len(self._labels)
        worker.check_memories(raw, targets, known, self._target_shape if self._labels is None else (n,))


def _folder(path: str | Path) -> Path:
    if not isinstance(path, str | Path) or "\0" in str(path):
        raise UsageError(f"path: given {path!r}; allowed: the name of a folder")
    return Path(path)


def _whose(prequential: str, kind: type[Method[Any]]) -> str:
    """Whose outputs are counted before a batch is learned, where a method has such; else the next best."""
    if prequential == LEARNING and kind.outputs_of is None:
        prequential = ANSWERING
    return "off" if prequential == ANSWERING and kind.trains_to_answer else prequential


def _some(predictors: Mapping[str, Predictor]) -> Mapping[str, Predictor]:
    if not predictors:
        raise UsageError("predict: there is nothing to answer from, since the memory is empty; observe a batch first")
    return predictors


def _chosen(predictors: Mapping[str, Predictor], name: str | None) -> Predictor:
    if name is None:
        return next(iter(_some(predictors).values()))
    if not isinstance(name, str) or name not in _some(predictors):
        raise unknown("predictor", str(name), predictors)
    return predictors[name]


@contextmanager
def _fitting(path: str | Path) -> Iterator[None]:
    """Within, a state that is not what a learner saves, or not of such a network, is a UsageError."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"learner {path}: {error}") from error
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"learner {path}: does not fit ({reason}); give the network and options it was made with"
        ) from error
