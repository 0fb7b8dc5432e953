"""Networks as people have them: what cannot work is told at the first batch, in one line, with the fix."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from synergy import Learner
from synergy.methods import method_class
from tests.stream.test_learner import FEATURES, FREE, batches, few, method_of, net, raises, same_scores
from tests.stream.test_rehearsal import X, Y, embedding, normed


class Around(nn.Module):
    """A linear layer whose outputs are dressed up."""

    def __init__(self, dress: Callable[[Tensor, bool], Any]) -> None:
        super().__init__()
        self.fc, self.dress = nn.Linear(FEATURES, 2), dress

    def forward(self, inputs: Tensor) -> Any:
        return self.dress(self.fc(inputs), self.training)


class ModelOutput(OrderedDict[str, Tensor]):
    """As in the transformers library."""


class Pooled(nn.Module):
    """Drops every dimension of size one, the batch's as well."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.pool, self.head = nn.Conv1d(1, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.head(self.pool(self.body(inputs[:, None])).squeeze())
        return scores


def no_statistics() -> nn.Module:
    return nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "other outputs in training": (
        lambda: Around(lambda out, training: (out, out) if training else out),
        r"network: in training mode its output is a tuple; allowed: a tensor .*\(a module around it .* net\(x\)\[0\]",
    ),
    "another shape in training": (
        lambda: Around(lambda out, training: torch.cat([out, out], 1) if training else out),
        r"network: in training mode its output for 8 samples has shape \[8, 4\]; allowed: \[8, 2\], as in evaluation",
    ),
    "a mapping": (
        lambda: Around(lambda out, training: {"scores": out}),
        r"network: its output is a dict; .* whose forward returns net\(x\)\['scores'\]",
    ),
    "a model output": (
        lambda: Around(lambda out, training: ModelOutput(hidden=out)),
        r"network: its output is a ModelOutput; .* whose forward returns net\(x\)\['hidden'\]",
    ),
    "nothing": (lambda: Around(lambda out, training: None), "network: its output is a NoneType; allowed: a tensor"),
    "a batch of one that loses its dimension": (
        Pooled,
        r"network: its output for 1 sample has shape \[2\]; allowed: .* \(squeeze\(\) drops the dimension",
    ),
    "the same in training only": (
        lambda: Around(lambda out, training: out.squeeze(0) if training else out),
        r"network: in training mode its output for 1 sample has shape \[2\]; allowed",
    ),
    "BatchNorm without running statistics": (
        no_statistics,
        r"network: the BatchNorm1d '1' has no running statistics, .*; allowed: track_running_stats=True, or GroupNorm",
    ),
    "an output cut off from the parameters": (
        lambda: Around(lambda out, training: out.detach()),
        r"network: its output does not depend on a parameter that takes a gradient; allowed: .*detach\(\)",
    ),
    "a gradient that cannot be computed": (
        lambda: Around(lambda out, training: out.sigmoid().mul_(2).sigmoid_().mul_(out) if training else out),
        r"network: it cannot be trained \(one of the variables needed for gradient computation",
    ),
    "a head that is computed": (
        lambda: nn.Sequential(net(4), weight_norm(nn.Linear(4, 2))),
        r"head: .*'1' cannot get more outputs .*, since its weights are computed .*\(a parametrisation\); name",
    ),
}


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_work_is_told_at_the_first_batch(what: str, name: str) -> None:
    make, message = REFUSED[what]
    if method_class(name).only_batch_size == 1:
        message = message.replace("for 8 samples", "for 1 sample").replace(r"\[8, ", r"\[1, ")
    elif method_class(name).trains_to_answer:
        message = message.replace("for 8 samples", "for 16 samples").replace(r"\[8, ", r"\[16, ")
    learner = Learner(make(), name, **few(name))
    for _ in range(2):
        raises(message, lambda: learner.observe(X, Y))
    assert learner.classes == [] and method_of(learner) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: net().requires_grad_(False), r"network: given one with all parameters frozen; .*requires_grad_\(\)"),
        (lambda: nn.Linear(6, 2, dtype=torch.complex64), "network: given parameters of torch.complex64; allowed: real"),
        (lambda: nn.Linear(6, 2, device="meta"), "network: given parameters on meta, which have no values; allowed"),
        (
            lambda: nn.Sequential(nn.Linear(6, 4), nn.LazyBatchNorm1d(), nn.Linear(4, 2)),
            r"network: the LazyBatchNorm1d '1' cannot be copied before it has its size; .*\(net\(x\)\)",
        ),
    ],
    ids=["all frozen", "complex", "meta", "lazy statistics"],
)
def test_networks_that_are_told_when_the_learner_is_made(make: Callable[[], nn.Module], message: str) -> None:
    raises(message, lambda: Learner(make(), "er"))


def test_a_lazy_layer_with_statistics_does_once_it_has_its_size() -> None:
    own = nn.Sequential(nn.Linear(6, 4), nn.LazyBatchNorm1d(), nn.Linear(4, 2))
    own(X)
    learner = Learner(own, "synergy", **few("synergy"))
    for x, y in batches(5, labels=3):
        learner.observe(x, y)
    assert len(learner.predict(X[:1])) == 1


def test_whole_numbers_for_a_network_of_floats_are_told() -> None:
    raises(
        r"cannot take samples .*torch.int64 .*, or floats \(x.astype\('float32'\)\), or a transform",
        lambda: Learner(net(), "er").observe(X.long(), Y),
    )


@pytest.mark.parametrize("n", [1, 2, 999, 1000, 1001, 2001])
def test_no_part_of_a_large_batch_has_a_single_sample(n: int) -> None:
    """The fourth network fails at one sample, and so would a part of one."""
    seen: list[int] = []

    class Counting(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(len(inputs))
            return super().forward(inputs)

    learner = Learner(Counting(FEATURES, 3), "er", **few("er"))
    learner.observe(X, Y)
    seen.clear()
    assert len(learner.predict(torch.rand(n, FEATURES))) == n
    assert max(seen) <= 1000 and sum(seen) == n and (n == 1 or min(seen) > 1)


# Compiled networks, other machines


def compiled(module: nn.Module) -> nn.Module:
    found: Any = torch.compile(module, backend="eager")
    assert isinstance(found, nn.Module)
    return found


def inside_compiled() -> nn.Module:
    return nn.Sequential(compiled(nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU())), nn.Linear(8, 2))


def plain() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU()), nn.Linear(8, 2))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # of dynamo
@pytest.mark.parametrize("name", ["synergy", "der"])
@pytest.mark.parametrize("other", [lambda: compiled(plain()), inside_compiled], ids=["whole", "a part"])
def test_a_compiled_network_and_the_plain_one_load_each_other(
    name: str, other: Callable[[], nn.Module], tmp_path: Path
) -> None:
    for made, loading in ((plain, other), (other, plain)):
        learner = Learner(made(), name, optimizer=lambda p: torch.optim.Adam(p, lr=0.01), **few(name))
        for x, y in batches(5, labels=3):
            learner.observe(x, y)
        learner.save(tmp_path / "learner")
        loaded = Learner.load(tmp_path / "learner", loading(), optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
        for x, y in batches(3, labels=4, seed=1):
            for each in (learner, loaded):
                each.observe(x, y)
        assert same_scores(learner, loaded)


CHANGED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a layer is missing": (
        lambda: nn.Sequential(nn.Linear(FEATURES, 2)),
        "network: it has no '2.weight', which was saved",
    ),
    "a layer is new": (
        lambda: nn.Sequential(*net(2), nn.Sequential(nn.Linear(2, 2))),
        "network: it has '3.0.weight', which was not saved",
    ),
    "a layer is wider": (
        lambda: nn.Sequential(nn.Linear(FEATURES, 9), nn.ReLU(), nn.Linear(9, 2)),
        r"network: '0.weight' is float32 \[9, 6\]; saved was float32 \[8, 6\]",
    ),
    "a buffer is new": (
        lambda: nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, 2)),
        "network: it has '1.running_mean', which was not saved",
    ),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_changed_in_a_network_is_named(what: str, tmp_path: Path) -> None:
    learner = Learner(net(2), "synergy", **few("synergy"))
    for x, y in batches(3, labels=4):
        learner.observe(x, y)
    learner.save(tmp_path / "learner")
    make, message = CHANGED[what]
    raises(message, lambda: Learner.load(tmp_path / "learner", make()))


def test_a_learner_pickled_beside_an_accelerator_opens_without_one() -> None:
    learner = Learner(normed(), "synergy", **few("synergy"))
    for x, y in batches(3, labels=2):
        learner.observe(x, y)
    state = learner.__getstate__()
    assert all(not tensor.is_cuda for tensor in state["arguments"]["net"].state_dict().values())
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    state["arguments"]["device"] = "cuda"
    other = Learner.__new__(Learner)
    with pytest.warns(UserWarning, match="it was on cuda, which this machine does not have; it goes on on the CPU"):
        other.__setstate__(state)
    for x, y in batches(3, labels=2, seed=1):
        for each in (learner, other):
            each.observe(x, y)
    assert same_scores(learner, other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_nothing_of_a_pickle_is_on_the_accelerator() -> None:
    learner = Learner(normed(), "synergy", device="cuda", **few("synergy"))
    learner.observe(X, Y)
    assert b"cuda:" not in pickle.dumps(learner)
    twin = pickle.loads(pickle.dumps(learner))
    assert twin.device == learner.device and same_scores(learner, twin)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    learner = Learner(net(), "er", **few("er"))
    learner.observe(X, Y)
    raises(
        r"path: given .*/a/b/learner, and there is no folder .*/a/b; make it first",
        lambda: learner.save(tmp_path / "a" / "b" / "learner"),
    )
    assert not list(tmp_path.iterdir())


# Networks that draw


class Recomputing(nn.Module):
    """Dropout in a part that the backward pass computes again."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(FEATURES, 16), nn.Dropout(0.5), nn.ReLU()), nn.Linear(16, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden: Tensor = checkpoint(self.body, inputs, use_reentrant=False)
        scores: Tensor = self.head(hidden)
        return scores


@pytest.mark.parametrize("make", [Recomputing, lambda: nn.Sequential(net(16), nn.Dropout(0.5), net(2, 16))])
def test_whether_the_backward_pass_draws_is_known_from_the_first_batch(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    learner = Learner(make(), "er", **few("er"))
    learner.observe(X, Y)
    learner.save(tmp_path / "learner")
    for each in (learner, copy.deepcopy(learner), Learner.load(tmp_path / "learner", make())):
        worker = each._progress.worker
        assert worker is not None and worker._chance is not None
        assert worker._chance.recomputes is (make is Recomputing)


def test_an_embedding_may_end_in_a_single_sample() -> None:
    learner = Learner(embedding(), "synergy", **few("synergy"))
    tokens = torch.randint(0, 20, (4, 3))
    learner.observe(tokens, [0, 1, 0, 1])
    learner.observe(tokens[:1], [1])
    assert len(learner.predict(tokens[:1])) == 1
