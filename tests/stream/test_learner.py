"""The learner: the same steps as its method, new classes at any time, and mistakes that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from synergy import Learner, TrainingError, UsageError
from synergy.data.view import ImageView
from synergy.methods import METHODS, method_class
from synergy.methods.base import Setting
from synergy.methods.er import ER
from synergy.methods.steps import ReplayStep
from synergy.methods.synergy import SynergyConfig
from synergy.types import Batch, Step

FREE = [name for name in METHODS if not method_class(name).needs_boundaries]
TRAINED = sorted(set(FREE) - {"gdumb", "ncm", "slda", "ranpac"})
"""Those whose steps take gradients."""
FEATURES = 6


def net(outputs: int = 3, inputs: int = FEATURES) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


def method_of(learner: Learner) -> Any:
    worker = learner._progress.worker
    return worker and worker.method


def few(name: str) -> dict[str, Any]:
    """Options with which a method does all it does within a few steps."""
    options = {
        "buffer_size": 12,
        "minibatch_size": 4,
        "fitting_epochs": 2,
        "fisher_update_freq": 0.5,
        "ema_update_freq": 0.5,
    }
    return {key: value for key, value in options.items() if key in method_class(name).Config.names()}


def batches(n: int, labels: int = 3, size: int = 5, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, FEATURES, generator=rng), torch.randint(0, labels, (size,), generator=rng)) for _ in range(n)
    ]


def same_scores(one: Learner, other: Learner) -> bool:
    x = torch.randn(7, FEATURES, generator=torch.Generator().manual_seed(9))
    return all(torch.equal(one.scores(x, name), other.scores(x, name)) for name in one.predictors)


@pytest.mark.parametrize("name", FREE)
def test_the_same_steps_as_the_method_itself(name: str) -> None:
    """Bit by bit, against the method driven by hand. Labels come in the order of the outputs here."""
    learner = Learner(net(), name, classes=[0, 1, 2], **few(name))
    kind = method_class(name)
    setting = Setting(lambda _: net(), learner._progress.recipe.view, 3)
    method = kind(kind.Config(**few(name)), setting)
    for x, y in batches(6):
        losses = learner.observe(x, y)
        parts = [(x, y)] if kind.only_batch_size is None else list(zip(x.split(1), y.split(1), strict=True))
        for part_x, part_y in parts:
            expected = method.observe(Batch(part_x, part_x, part_y)).losses
        assert losses.keys() == expected.keys()
        assert all(torch.equal(losses[term], expected[term]) for term in losses)
    x = torch.randn(7, FEATURES)
    for predictor, answer in method.predictors().items():
        assert torch.equal(learner.scores(x, predictor), answer(x))


def test_labels_of_any_kind_take_the_outputs_in_turn() -> None:
    learner = Learner(net(2), "er", buffer_size=40, lr=0.3)
    x = torch.eye(FEATURES)
    labels = ["cat", 7, ("a", 1), False, "cat", 2.5]
    for _ in range(60):
        learner.observe(x, labels)
    assert learner.classes == ["cat", 7, ("a", 1), False, 2.5]
    assert learner.predict(x) == labels
    assert learner.predict_proba(x).shape == (6, 5)
    assert torch.allclose(learner.predict_proba(x).sum(1), torch.ones(6))
    assert learner.evaluate(x, labels) == {"working": 100.0}
    assert learner.evaluate(x, ["dog", *labels[1:]]) == {"working": pytest.approx(100 * 5 / 6)}


@pytest.mark.parametrize("name", TRAINED)
def test_known_logits_stay_when_a_class_comes(name: str) -> None:
    """Just before the step that learns from the new class; rows and columns of known classes are the old ones."""
    learner = Learner(net(2), name, **few(name))
    for x, y in batches(4, labels=2):
        learner.observe(x, y)
    x = torch.randn(9, FEATURES)
    before = {predictor: learner.scores(x, predictor) for predictor in learner.predictors}
    assert learner._progress.worker is not None
    learner._progress._outputs(learner._progress.worker, ["new", "newer"], 2)
    for predictor, old in before.items():
        new = learner.scores(x, predictor)
        assert new.shape == (9, 4)
        assert torch.allclose(new[:, :2], old, atol=1e-6)
    for more_x, more_y in batches(4, labels=2):
        learner.observe(more_x, ["newer" if label else "new" for label in more_y.tolist()])
    assert set(learner.predict(x)) <= {0, 1, "new", "newer"}


@given(
    stream=st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6), min_size=1, max_size=8),
    outputs=st.integers(1, 4),
)
@settings(max_examples=30)
def test_every_label_has_one_output_whatever_the_order(stream: list[list[str]], outputs: int) -> None:
    learner = Learner(net(outputs), "er", buffer_size=4, minibatch_size=4)
    seen: list[str] = []
    for labels in stream:
        learner.observe(torch.randn(len(labels), FEATURES), labels)
        seen += [label for label in dict.fromkeys(labels) if label not in seen]
        assert learner.classes == seen
        assert learner.scores(torch.zeros(2, FEATURES)).shape == (2, len(seen))
        summary = learner.memory.summary()
        assert sum(summary["per_class"].values()) == summary["samples"] == len(learner.memory) <= 4
    assert method_of(learner).setting.n_classes == max(outputs, len(seen))


def test_fixed_classes_keep_their_outputs() -> None:
    learner = Learner(net(3), "er", classes=["x", "y", "z"], buffer_size=8, minibatch_size=8)
    learner.observe(torch.zeros(2, FEATURES), ["z", "x"])
    before = learner.scores(torch.ones(1, FEATURES))
    with pytest.raises(UsageError, match=r"labels: given 'w'; allowed: 'x', 'y', 'z' \(the classes are fixed\)"):
        learner.observe(torch.zeros(2, FEATURES), ["y", "w"])
    assert learner.classes == ["x", "y", "z"]
    assert torch.equal(learner.scores(torch.ones(1, FEATURES)), before)
    with pytest.raises(UsageError, match="classes: given 2 for a network of 3 outputs; allowed: 3"):
        Learner(net(3), "er", classes=["x", "y"]).observe(torch.zeros(1, FEATURES), ["x"])


def test_the_network_given_stays_as_it_is() -> None:
    own = net()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    learner = Learner(own, "synergy", buffer_size=40)
    for x, y in batches(5, labels=6):
        learner.observe(x, y)
    assert all(torch.equal(before[name], value) for name, value in own.state_dict().items())
    assert own[2].weight.shape == (3, 8)


@pytest.mark.parametrize("prequential", ["learning", "answering"])
@pytest.mark.parametrize("name", TRAINED)
def test_prequential_accuracy_is_that_of_predicting_first(name: str, prequential: str) -> None:
    """Against predict by hand, before each observe but the first; outputs without a label yet are no answer."""
    kind = method_class(name)
    learner = Learner(net(9), name, prequential=prequential, **few(name))
    hits = samples = 0
    faded = weight = 0.0
    size = kind.only_batch_size or 5
    stream = [batch for labels in range(2, 8) for batch in batches(20 // size, labels, size, seed=labels)]
    for number, (x, y) in enumerate(stream):
        if number:
            judged = kind.outputs_of if prequential == "learning" else next(iter(learner.predictors))
            right = sum(a == b for a, b in zip(learner.predict(x, judged), y.tolist(), strict=True))
            hits, samples = hits + right, samples + len(y)
            faded, weight = faded * 0.999 ** len(y) + right, weight * 0.999 ** len(y) + len(y)
        learner.observe(x, y)
    metrics = learner.metrics()
    assert metrics["predictor"] == judged
    assert metrics["accuracy"] == pytest.approx(100 * hits / samples) and 0 < hits < samples
    assert metrics["recent_accuracy"] == pytest.approx(100 * faded / weight)
    assert metrics["batches"] == len(stream) and metrics["classes"] == 7
    assert metrics["loss"] == pytest.approx(float(learner._progress.last_losses["loss"]))


def test_samples_learned_one_by_one_are_judged_one_by_one() -> None:
    """MER cuts a batch into samples; each is predicted when those before it were learned."""
    whole, single = Learner(net(), "mer", **few("mer")), Learner(net(), "mer", **few("mer"))
    for number, (x, y) in enumerate(batches(6)):
        whole.observe(x, y)
        if number:
            for part_x, part_y in zip(x.split(1), y.split(1), strict=True):
                single.observe(part_x, part_y)
        else:
            single.observe(x, y)
    assert whole.metrics()["accuracy"] == single.metrics()["accuracy"]


@pytest.mark.parametrize("name", FREE)
def test_whose_answers_are_counted_makes_no_difference_to_what_is_learned(name: str) -> None:
    learners = {each: Learner(net(), name, prequential=each, **few(name)) for each in ("learning", "answering", "off")}
    for x, y in batches(6):
        for learner in learners.values():
            learner.observe(x, y)
    assert same_scores(learners["learning"], learners["off"]) and same_scores(learners["answering"], learners["off"])
    off = learners["off"].metrics()
    assert off["accuracy"] is None and off["recent_accuracy"] is None and off["predictor"] is None
    assert (learners["learning"].metrics()["accuracy"] is None) == method_class(name).trains_to_answer


@pytest.mark.parametrize("name", TRAINED)
def test_the_answers_of_the_network_that_learns_take_no_pass_more(name: str) -> None:
    """The rows that all networks of a method are shown in a step, counted by hooks."""
    rows = {}
    for prequential in ("off", "learning", "answering"):
        learner = Learner(net(), name, prequential=prequential, **few(name))
        stream = batches(5)
        learner.observe(*stream[0])
        shown: list[int] = []
        for part in vars(method_of(learner)).values():
            if isinstance(part, nn.Module):
                part.register_forward_pre_hook(lambda _, inputs, shown=shown: shown.append(len(inputs[0])))
        for x, y in stream[1:]:
            learner.observe(x, y)
        rows[prequential] = shown
    assert rows["learning"] == rows["off"]
    assert sum(rows["answering"]) == sum(rows["off"]) + 4 * 5


def test_an_augmented_batch_is_answered_as_predict_would() -> None:
    learner = Learner(net(), "er", prequential="answering", augment=lambda raw, rng: 0 * raw, **few("er"))
    hits = 0
    for number, (x, y) in enumerate(batches(20)):
        hits += sum(a == b for a, b in zip(learner.predict(x), y.tolist(), strict=True)) if number else 0
        learner.observe(x, y)
    assert learner.metrics()["accuracy"] == pytest.approx(100 * hits / (19 * 5)) and 0 < hits < 19 * 5


@pytest.mark.parametrize("prequential", ["learning", "answering"])
def test_tensors_given_may_be_written_to_afterwards(prequential: str) -> None:
    """A stream that reuses its buffers counts, learns and keeps what it was at the time."""
    ours, reused = (Learner(net(1), "er", loss="mse", prequential=prequential, **few("er")) for _ in range(2))
    x_buffer, y_buffer = torch.empty(5, FEATURES), torch.empty(5)
    for x, _ in batches(6):
        ours.observe(x, x.sum(1))
        x_buffer.copy_(x), y_buffer.copy_(x.sum(1))
        reused.observe(x_buffer, y_buffer)
    assert reused.metrics() == ours.metrics() and same_scores(reused, ours)


class Quiet(ER):
    """Keeps the outputs of its step to itself."""

    outputs_of = None  # type: ignore[assignment]  # the type checker takes the value of the base for all there may be

    def compute(self, batch: Batch, now: ReplayStep) -> Step:
        return Step(super().compute(batch, now).losses)


def test_a_method_that_tells_no_outputs_is_asked() -> None:
    learner, asked = Learner(net(), Quiet, **few("er")), Learner(net(), "er", prequential="answering", **few("er"))
    for x, y in batches(5):
        learner.observe(x, y)
        asked.observe(x, y)
    assert learner.metrics() == asked.metrics() and learner.metrics()["accuracy"] is not None


def test_bytes_bound_the_memory() -> None:
    images = torch.randint(0, 256, (10, 3, 4, 4), dtype=torch.uint8)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    for name, each in (("er", 48 + 8), ("der", 48 + 8 + 5 * 4)):
        learner = Learner(wide, name, buffer_bytes=10 * each + each - 1, minibatch_size=4)
        for _ in range(5):
            learner.observe(images, list(range(5)) * 2)
        summary = learner.memory.summary()
        assert (summary["samples"], summary["capacity"], summary["bytes"]) == (10, 10, 10 * each)
    with pytest.raises(UsageError, match="buffer_bytes: given 55; allowed: at least 56"):
        Learner(wide, "er", buffer_bytes=55).observe(images, [0] * 10)


def test_uint8_is_stored_as_it_is_and_scaled_for_the_network() -> None:
    images = torch.randint(0, 256, (6, FEATURES), dtype=torch.uint8)
    seen = []

    def look(raw: Tensor) -> Tensor:
        seen.append(raw)
        return raw.float() / 255

    plain, own = (Learner(net(), "er", transform=transform, buffer_size=40) for transform in (None, look))
    for learner in (plain, own):
        for _ in range(3):
            learner.observe(images, [0, 1, 2] * 2)
        (memory,) = method_of(learner).memories()
        assert memory.all().raw.dtype == torch.uint8
    assert same_scores_on(images, plain, own)
    assert all(raw.dtype == torch.uint8 for raw in seen)


def same_scores_on(x: Tensor, *learners: Learner) -> bool:
    first, *others = [learner.scores(x) for learner in learners]
    return all(torch.equal(first, other) for other in others)


def test_an_augmentation_is_for_training_alone() -> None:
    drawn = []

    def shifted(raw: Tensor, rng: np.random.Generator) -> Tensor:
        drawn.append(len(raw))
        return raw + float(rng.normal())

    learners = [Learner(net(), "er", augment=shifted, buffer_size=40, seed=3) for _ in range(2)]
    for learner in learners:
        for x, y in batches(3):
            learner.observe(x, y)
        drawn.clear()
        learner.predict(torch.zeros(2, FEATURES))
        assert not drawn
    assert same_scores(*learners), "the draws are not the learner's own"
    other = Learner(net(), "er", augment=shifted, buffer_size=40, seed=4)
    for x, y in batches(3):
        other.observe(x, y)
    assert not same_scores(learners[0], other)


def test_an_augment_object_crops_in_training_and_not_in_prediction() -> None:
    images = torch.randint(0, 256, (8, 3, 6, 6), dtype=torch.uint8)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(108, 2))
    learner = Learner(wide, "er", transform=ImageView(padding=2, flip=True), buffer_size=40)
    learner.observe(images, [0, 1] * 4)
    assert torch.equal(learner.scores(images), learner.scores(images))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_input_forms_make_no_difference(kind: torch.dtype) -> None:
    """Tensors, arrays, read-only arrays, reversed views, lists; labels as tensor, array, list or numpy scalars."""
    x = torch.randn(4, FEATURES, dtype=torch.float64)
    locked = x.numpy().copy()
    locked.flags.writeable = False
    forms = [x, x.numpy(), locked, x.numpy()[::-1][::-1], x.tolist(), np.asfortranarray(x.numpy())]
    labels = [
        torch.tensor([0, 1, 2, 0]),
        np.array([0, 1, 2, 0]),
        [0, 1, 2, 0],
        list(np.array([0, 1, 2, 0])),
        (0, 1, 2, 0),
    ]
    learners = []
    for form, given_labels in zip(forms, [*labels, labels[0]], strict=True):
        learner = Learner(net().to(kind), "er", buffer_size=40)
        for _ in range(3):
            learner.observe(form, given_labels)
        assert learner.classes == [0, 1, 2] and all(type(label) is int for label in learner.classes)
        learners.append(learner)
    assert all(torch.equal(learners[0].scores(x), other.scores(x)) for other in learners[1:])


def test_sequences_of_whole_numbers() -> None:
    tokens = torch.randint(0, 20, (6, 7))
    recurrent = nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(28, 2))
    learner = Learner(recurrent, "er", buffer_size=40)
    for _ in range(60):
        learner.observe(tokens, ["x", "y"] * 3)
    assert learner.evaluate(tokens, ["x", "y"] * 3)["working"] == 100


def test_one_sample_at_a_time() -> None:
    learner = Learner(net(1), "synergy", buffer_size=40, lr=0.1)
    for _ in range(40):
        for label in range(3):
            learner.observe(torch.eye(3, FEATURES)[label : label + 1], [label])
    assert learner.predict(torch.eye(3, FEATURES)) == [0, 1, 2]


# Optimiser, schedule, clipping, weights


def test_an_optimiser_of_ones_own() -> None:
    """Against torch by hand: Adam with a schedule on the loss of each batch."""
    learner = Learner(
        net(),
        "sgd",
        classes=[0, 1, 2],
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.1),
    )
    own = net()
    adam = torch.optim.Adam(own.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(adam, 2, gamma=0.1)
    for x, y in batches(6):
        learner.observe(x, y)
        adam.zero_grad()
        nn.functional.cross_entropy(own(x), y).backward()
        adam.step()
        schedule.step()
    x = torch.randn(5, FEATURES)
    assert torch.allclose(learner.scores(x), own(x), atol=1e-6)


def test_clipping_bounds_every_step() -> None:
    learner = Learner(net(), "sgd", classes=[0, 1, 2], lr=1.0, clip_norm=0.01)
    method = None
    for x, y in batches(4):
        before = None if method is None else method.weights.values.clone()
        learner.observe(100 * x, y)
        method = method_of(learner)
        if before is not None:
            step = (method.weights.values - before).norm()
            assert 0 < step <= 0.01 + 1e-6


def test_class_weights_count() -> None:
    """A weight of zero for one class: it is never learned. Known labels and those that come later alike."""
    x = torch.eye(FEATURES)
    learner = Learner(net(1), "er", class_weights={"a": 0, "late": 0, "b": 2}, buffer_size=40)
    for labels in [["a", "b", "c"] * 2] * 80 + [["a", "b", "late"] * 2] * 80:
        learner.observe(x, labels)
    assert learner.classes == ["a", "b", "c", "late"]
    predicted = learner.predict(x)
    assert "a" not in predicted and "late" not in predicted and predicted[1] == "b"


def test_frozen_parameters_stay() -> None:
    own = net()
    frozen: Any = own[0].weight
    frozen.requires_grad_(False)
    before, last = frozen.clone(), own[2].get_parameter("weight")
    for name in ("synergy", "er", "der"):
        learner = Learner(own, name, buffer_size=40, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
        for x, y in batches(8):
            learner.observe(x, y)
        trained = method_of(learner).net
        assert torch.equal(trained[0].weight, before)
        assert not torch.equal(trained[2].weight, last)
    x, y = batches(1)[0]
    learner = Learner(own, "er", optimizer=lambda p: torch.optim.AdamW(p, weight_decay=0.5))
    learner.observe(x, y)
    assert torch.equal(method_of(learner).net[0].weight, before), "weight decay would shrink it"


def test_a_frozen_batch_norm_keeps_its_mode() -> None:
    own = nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    own[1].eval()
    learner = Learner(own, "er", buffer_size=40)
    for x, y in batches(3, labels=2):
        learner.observe(x, y)
        learner.predict(x)
    trained: Any = method_of(learner).net
    assert trained.training and not trained[1].training
    assert torch.equal(trained[1].running_mean, torch.zeros(4))


@pytest.mark.parametrize(("name", "network"), [("synergy", "semantic"), ("clser", "stable"), ("esmer", "averaged")])
def test_an_average_that_holds_early_weights_is_remarked(name: str, network: str) -> None:
    published, following = (Learner(net(2), name, ema_warmup=c, buffer_size=40) for c in (1, 30))
    assert published.metrics()["remarks"] == []
    for x, y in batches(40, labels=2):
        for learner in (published, following):
            learner.observe(x, y)
    (remark,) = published.metrics()["remarks"]
    assert f"'{network}'" in remark and "ema_warmup" in remark
    assert following.metrics()["remarks"] == []


# Regression


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("name", [name for name in FREE if method_class(name).any_objective])
def test_regression(name: str, squeezed: bool) -> None:
    """A linear function of the inputs is learned by every predictor."""
    weights = torch.tensor([1.0, -1.0, 0.5, 0, 0, 0])
    rng = torch.Generator().manual_seed(0)
    short: dict[str, Any] = {"ema_alpha": 0.95, "ema_update_freq": 1.0} if name == "synergy" else {}
    numbers = nn.Sequential(net(1), nn.Flatten(0)) if squeezed else net(1)
    learner = Learner(numbers, name, loss="mse", lr=0.03, **short)
    for _ in range(150 if name == "mer" else 400):
        x = torch.randn(8, FEATURES, generator=rng)
        learner.observe(x, x @ weights)
    x = torch.randn(200, FEATURES, generator=rng)
    errors = learner.evaluate(x, x @ weights)
    variance = float((x @ weights).var())
    assert max(errors.values()) < 0.2 * variance, errors
    assert learner.predict(x).shape == ((200,) if squeezed else (200, 1))
    metrics = learner.metrics()
    assert metrics["recent_error"] < metrics["error"] and "accuracy" not in metrics
    assert "per_class" not in metrics["memory"]


def test_the_fisher_of_a_regression_is_that_of_a_gaussian() -> None:
    """One linear layer: the gradient of -(y - w.x)^2 / 2 is (y - w.x) x, and its square has the weight p(y | x)."""
    linear = nn.Linear(2, 1).double()
    learner = Learner(linear, "synergy", loss="mse", fisher_update_freq=1.0, ema_update_freq=0.0, buffer_size=40)
    x = torch.randn(10, 2).double()
    y = torch.randn(10).double()
    learner.observe(x, y)
    error = (y - linear(x)[:, 0]).detach()
    likelihood = torch.exp(-0.5 * error**2)
    of_weight = (likelihood[:, None] * (error[:, None] * x) ** 2).mean(0)
    of_bias = (likelihood * error**2).mean()
    expected = torch.cat([of_weight, of_bias[None]])
    fisher = method_of(learner).fisher.values
    assert torch.allclose(fisher, expected, atol=1e-12)


def test_targets_must_have_the_shape_of_the_outputs() -> None:
    learner = Learner(net(2), "er", loss="mse")
    with pytest.raises(UsageError, match=r"targets: given shape \[5\]; allowed: \[5, 2\]"):
        learner.observe(torch.zeros(5, FEATURES), torch.zeros(5))
    with pytest.raises(UsageError, match="there are no classes"):
        learner.predict_proba(torch.zeros(1, FEATURES))
    with pytest.raises(UsageError, match="loss: given mse for er_ace; allowed with mse: sgd, er"):
        Learner(net(), "er_ace", loss="mse")


# Forgetting


def test_forget_takes_out_what_the_predicate_names() -> None:
    learner = Learner(net(), "er", buffer_size=40)
    for x, y in batches(8, labels=3):
        learner.observe(x, ["red" if label == 0 else "blue" for label in y.tolist()])
    counts = learner.memory.summary()["per_class"]
    assert learner.forget(lambda sample, label: label == "red") == counts["red"] > 0
    assert learner.memory.summary()["per_class"] == {**counts, "red": 0}
    positive = sum(bool(raw[0] > 0) for raw in method_of(learner).memories()[0].all().raw)
    assert learner.forget(lambda sample, label: bool(sample[0] > 0)) == positive > 0
    assert learner.forget(lambda sample, label: bool(sample[0] > 0)) == 0
    learner.forget(lambda sample, label: True)
    assert len(learner.memory) == 0
    for x, _ in batches(3):
        learner.observe(x, ["green"] * len(x))
    assert learner.memory.summary()["per_class"]["green"] > 0


def test_learning_goes_on_when_everything_was_forgotten() -> None:
    """A reservoir that has seen much takes in nothing for a while, but the coin for its Fisher information falls."""
    learner = Learner(net(), "synergy", buffer_size=10, minibatch_size=10, fisher_update_freq=1.0)
    stream = batches(80)
    for x, y in stream[:60]:
        learner.observe(x, y)
    learner.forget(lambda sample, label: True)
    empty = 0
    for x, y in stream[60:]:
        learner.observe(x, y)
        empty += not len(learner.memory)
    assert empty


def test_forget_before_the_first_batch() -> None:
    assert Learner(net(), "er").forget(lambda sample, label: True) == 0
    assert Learner(net(), "sgd").memory.summary() == {"samples": 0, "capacity": 0, "bytes": 0, "per_class": {}}


def test_memory_on_the_host_makes_no_difference() -> None:
    learners = [Learner(net(), "synergy", buffer_size=40, memory_on=where) for where in ("device", "host")]
    for learner in learners:
        for x, y in batches(6):
            learner.observe(x, y)
    assert same_scores(*learners)
    assert [method_of(learner).memory.store.on_host for learner in learners] == [False, True]


# Mistakes


def raises(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_mistakes_in_the_making() -> None:
    raises("unknown option of synergy 'bufer_size'; did you mean 'buffer_size'", lambda: Learner(net(), bufer_size=3))
    raises("unknown method 'sinergy'; did you mean 'synergy'", lambda: Learner(net(), "sinergy"))
    raises("method: given ewc_on, which needs task boundaries", lambda: Learner(net(), "ewc_on"))
    raises("lr: given -1.0; allowed: at least 0", lambda: Learner(net(), lr=-1))
    raises("lr: given beside an optimizer", lambda: Learner(net(), optimizer=torch.optim.Adam, lr=0.1))
    raises("lr: given together with config", lambda: Learner(net(), config=SynergyConfig(), lr=0.1))
    raises(
        "config: given a SynergyConfig; allowed for er: a ReplayConfig",
        lambda: Learner(net(), ER, config=SynergyConfig()),
    )
    raises("network: given parameters of none", lambda: Learner(nn.Flatten()))
    raises("classes: given 'a' twice", lambda: Learner(net(), classes=["a", "b", "a"]))
    raises("classes: given none", lambda: Learner(net(), classes=[]))
    raises("buffer_bytes: given together with buffer_size", lambda: Learner(net(), buffer_bytes=99, buffer_size=9))
    raises("buffer_bytes: given for sgd", lambda: Learner(net(), "sgd", buffer_bytes=99))
    raises("class_weights: given nan for 0", lambda: Learner(net(), class_weights={0: float("nan")}))
    raises("class_weights: given for clser", lambda: Learner(net(), "clser", class_weights={0: 1}))
    raises("classes: given with loss=mse", lambda: Learner(net(), loss="mse", classes=[1]))
    raises("device: given cuda", lambda: Learner(net(), device="cuda")) if not torch.cuda.is_available() else None


BAD_BATCHES = {
    "an empty batch": (torch.zeros(0, FEATURES), [], r"samples: given a tensor of shape \[0, 6\]"),
    "fewer labels": (torch.zeros(2, FEATURES), [1], "labels: given 1 for 2 samples; allowed: one a sample"),
    "one text": (torch.zeros(2, FEATURES), "ab", "labels: given the single text 'ab'"),
    "no list": (torch.zeros(1, FEATURES), 3, "labels: given 3; allowed: a list"),
    "a single tensor": (torch.zeros(1, FEATURES), torch.tensor(3), "labels: given the single value 3"),
    "one-hot labels": (
        torch.zeros(1, FEATURES),
        torch.zeros(1, 3),
        r"labels: given shape \[1, 3\]; allowed: \[B\]",
    ),
    "a label that is NaN": (
        torch.zeros(1, FEATURES),
        [float("nan")],
        "labels: given nan, which stands for a missing label",
    ),
    "NaN": (torch.tensor([[0.0] * 6, [0.0] * 5 + [float("nan")]]), [0, 1], "samples: number 1 of the batch holds NaN"),
    "infinity": (torch.full((1, FEATURES), float("inf")), [0], "samples: number 0 of the batch holds NaN or infinity"),
    "texts": ([["a"] * 6], [0], "samples: given"),
    "ragged lists": ([[1.0], [1.0, 2.0]], [0, 1], "samples: given"),
    "complex numbers": (torch.zeros(1, FEATURES, dtype=torch.complex64), [0], "samples: given torch.complex64"),
    "another shape": (
        torch.zeros(1, FEATURES + 1),
        [0],
        r"samples: given shape \[1, 7\]; allowed: \[B, 6\]",
    ),
    "a sample alone": (torch.zeros(FEATURES), [0] * 6, r"add a dimension \(x\[None\]\)"),
    "another type": (
        torch.zeros(1, FEATURES, dtype=torch.uint8),
        [0],
        "samples: given uint8; allowed: float32",
    ),
}


@pytest.mark.parametrize("what", BAD_BATCHES)
def test_a_bad_batch_is_refused_and_changes_nothing(what: str) -> None:
    x, y, message = BAD_BATCHES[what]
    learner, undisturbed = (Learner(net(), "synergy", buffer_size=40) for _ in range(2))
    good = batches(3)
    for each in (learner, undisturbed):
        each.observe(*good[0])
    raises(message, lambda: learner.observe(x, y))
    assert learner.classes == undisturbed.classes and learner.metrics() == undisturbed.metrics()
    for each in (learner, undisturbed):
        each.observe(*good[1])
    assert same_scores(learner, undisturbed)


def test_mistakes_of_the_first_batch() -> None:
    raises(r"network: it cannot take samples of shape \[1, 4\]", lambda: Learner(net()).observe(torch.zeros(1, 4), [0]))
    image = torch.zeros(1, 3, 5, 5)
    raises(r"network: its output has shape", lambda: Learner(nn.Conv2d(3, 3, 3)).observe(image, [0]))
    raises(
        r"network: .*no nn.Linear", lambda: Learner(nn.Sequential(nn.Conv2d(3, 3, 5), nn.Flatten())).observe(image, [0])
    )
    odd = nn.Sequential(
        nn.Linear(FEATURES, 4), nn.Linear(4, 6), nn.Unflatten(1, (3, 2)), nn.Flatten(2), nn.AvgPool1d(2), nn.Flatten()
    )
    raises(
        "head: the linear layer '1' does not give the 3 logits",
        lambda: Learner(odd).observe(torch.zeros(1, FEATURES), [0]),
    )
    Learner(odd, classes=[0, 1, 2]).observe(torch.zeros(1, FEATURES), [0])
    two_heads = nn.ModuleDict()
    raises("network: given parameters of none", lambda: Learner(two_heads))
    raises("predict: nothing was learned yet", lambda: Learner(net()).predict(torch.zeros(1, FEATURES)))
    learner = Learner(net())
    learner.observe(torch.zeros(1, FEATURES), [0])
    raises(
        "unknown predictor 'semantc'; did you mean 'semantic'",
        lambda: learner.predict(torch.zeros(1, FEATURES), "semantc"),
    )


class TwoHeads(nn.Module):
    """Its classifier is not the linear layer that was registered last."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Linear(16, 2)
        self.body = nn.Linear(FEATURES, 16)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.logits(torch.relu(self.body(inputs)))
        return scores


def test_the_head_can_be_named() -> None:
    x = torch.eye(FEATURES)
    raises(
        r"head: the linear layer 'body' does not give the 2 logits", lambda: Learner(TwoHeads()).observe(x, range(6))
    )
    learner = Learner(TwoHeads(), "er", head="logits", buffer_size=40, lr=0.3)
    for _ in range(300):
        learner.observe(x, range(6))
    assert learner.predict(x) == list(range(6))


def test_a_batch_norm_needs_two_samples() -> None:
    own = nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    raises(
        "samples: given a batch of 1, by which a BatchNorm",
        lambda: Learner(own, "er").observe(torch.zeros(1, FEATURES), [0]),
    )
    learner = Learner(own, "er", buffer_size=40)
    learner.observe(torch.randn(2, FEATURES), [0, 1])
    learner.observe(torch.randn(1, FEATURES), [1])


@pytest.mark.parametrize(("method", "predictor"), [("er", None), ("synergy", "working"), ("gdumb", None)])
def test_a_network_that_went_astray_does_not_answer(method: str, predictor: str | None) -> None:
    learner = Learner(net(), method, buffer_size=40, lr=1e38)
    ((x, y),) = batches(1)
    learner.observe(x, y)
    with pytest.raises(
        TrainingError, match=r"the answers are NaN or infinite after batch 1; lower lr or|diverged; lower lr"
    ):
        learner.predict(x, predictor)


def test_a_loss_that_is_not_finite_ends_it() -> None:
    learner = Learner(net(), "er", buffer_size=40, lr=1e30)
    with pytest.raises(TrainingError, match=r"the loss became .* at batch .*; lower lr or give clip_norm, and go on"):
        for x, y in batches(20):
            learner.observe(1e3 * x, y)


@pytest.mark.parametrize("look_steps", [1, 100], ids=["host", "accelerator"])
def test_a_learner_that_went_astray_does_not_replace_one_that_was_saved(tmp_path: Path, look_steps: int) -> None:
    """Also where the loss is looked at now and then only."""
    learner = Learner(net(), "er", buffer_size=40, lr=1e30)
    learner._progress.look_steps = look_steps
    first, *others = batches(20)
    learner.observe(*first)
    learner.save(tmp_path / "learner")
    seen = 0
    with suppress(TrainingError):
        for x, y in others:
            learner.observe(1e3 * x, y)
            seen += 1
    assert (seen == len(others)) is (look_steps == 100)
    with pytest.raises(TrainingError, match=r"the loss became .* at batch .*; lower lr"):
        learner.save(tmp_path / "learner")
    assert Learner.load(tmp_path / "learner", net()).metrics()["batches"] == 1


def test_float_labels_follow_pythons_equality() -> None:
    learner = Learner(net(), "er", buffer_size=40)
    learner.observe(torch.zeros(3, FEATURES), [1, 1.0, True])
    assert learner.classes == [1]
