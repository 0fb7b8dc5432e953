"""The Fisher information and per-sample gradients of any network, also where torch cannot vectorise or batch it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.prune import l1_unstructured
from torch.utils.checkpoint import checkpoint

from synergy.ops import fisher, single_gradients
from synergy.ops.fisher import categorical, fisher_diagonal
from synergy.ops.objectives import gaussian
from synergy.ops.per_sample import gradient_products, greatest_cosines, per_sample_gradients
from synergy.ops.single_gradients import LogLikelihood

CLASSES, FEATURES = 3, 4
DOUBLE = torch.float64

pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated"),
]


def rows_one_by_one(
    net: nn.Module, inputs: Tensor, targets: Tensor, log_likelihood: LogLikelihood = categorical
) -> tuple[list[list[Tensor]], list[float]]:
    """The gradient of each sample's log-likelihood by each parameter, and its value. The network stays as it is."""
    before, parameters = copy.deepcopy(net.state_dict()), list(net.parameters())
    rows, values = [], []
    net.eval()
    for x, y in zip(inputs.split(1), targets.split(1), strict=True):
        value = log_likelihood(net(x), y).sum()
        torch.autograd.backward(value)
        rows.append([torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in parameters])
        values.append(float(value.detach()))
        net.zero_grad()
        net.load_state_dict(before)
    return rows, values


def oracle(
    net: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    log_likelihood: LogLikelihood = categorical,
    weighted: bool = True,
) -> list[Tensor]:
    rows, values = rows_one_by_one(net, inputs, targets, log_likelihood)
    weights = torch.tensor(values, dtype=DOUBLE).exp() if weighted else torch.ones(len(values), dtype=DOUBLE)
    columns = zip(*rows, strict=True)
    return [torch.stack([w * grad**2 for w, grad in zip(weights, column, strict=True)]).mean(0) for column in columns]


class Recurrent(nn.Module):
    """Linear layers around a recurrent one; samples first, or positions first as is torch's default."""

    def __init__(self, cell: nn.RNNBase) -> None:
        super().__init__()
        self.embed, self.cell = nn.Linear(FEATURES, cell.input_size), cell
        self.head = nn.Linear(cell.hidden_size * (2 if cell.bidirectional else 1), CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        if self.cell.batch_first:
            logits: Tensor = self.head(self.cell(torch.tanh(self.embed(inputs)))[0][:, -1])
        else:
            logits = self.head(self.cell(torch.tanh(self.embed(inputs.transpose(0, 1))))[0]).mean(0)
        return logits


class OneCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(FEATURES, 5), nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.zeros(len(inputs), 5, dtype=inputs.dtype)
        logits: Tensor = self.head(self.cell(inputs.mean(1), hidden))
        return logits


class Scaled(nn.Module):
    """A parameter without a rule between two layers with one. `changed` is a part that torch may not vectorise."""

    def __init__(self, changed: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.changed = changed
        self.first, self.head = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)
        self.scale, self.temperature = nn.Parameter(torch.ones(5)), nn.Parameter(torch.tensor(1.0))
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.changed(self, torch.tanh(self.first(inputs.mean(1))) * self.scale)
        logits: Tensor = self.head(hidden) * self.temperature
        return logits


def plain(net: nn.Module, hidden: Tensor) -> Tensor:
    return hidden


def branching(net: nn.Module, hidden: Tensor) -> Tensor:
    """A branch on the whole batch: the other samples decide how one is computed."""
    return hidden.square() if hidden.max() > 0.4 else hidden


def by_item(net: nn.Module, hidden: Tensor) -> Tensor:
    return hidden * (1 + hidden[0, 0].item())


def through_numpy(net: nn.Module, hidden: Tensor) -> Tensor:
    return hidden + torch.from_numpy(hidden.detach().numpy() ** 2)


def through_checkpoint(net: nn.Module, hidden: Tensor) -> Tensor:
    return torch.as_tensor(checkpoint(torch.tanh, hidden, use_reentrant=False))


def through_old_checkpoint(net: nn.Module, hidden: Tensor) -> Tensor:
    return torch.as_tensor(checkpoint(torch.tanh, hidden, use_reentrant=True))


def counting(net: nn.Module, hidden: Tensor) -> Tensor:
    """Counts its passes in a buffer; the outputs depend on the count."""
    calls = net.get_buffer("calls")
    calls += hidden.detach().square().mean()
    return hidden * (1 + calls)


def silent(net: nn.Module, hidden: Tensor) -> Tensor:
    """The outputs of some samples depend on no parameter."""
    return hidden if hidden[0, 0].item() > 0 else hidden.detach() * 0


class Words(nn.Module):
    """An embedding that shortens its vectors in its forward pass, in place."""

    def __init__(self, **options: bool | float) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(9, 5, **options), nn.Linear(5, CLASSES)  # type: ignore[arg-type]

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.words((inputs.abs() * 4).long().clamp(max=8)).mean((1, 2)))
        return logits


class Tied(nn.Module):
    """Two layers share a weight, one of them under a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(FEATURES, 5, batch_first=True)
        self.one, self.other, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, CLASSES)
        self.other.weight = self.one.weight

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.other(torch.tanh(self.one(self.cell(inputs)[0][:, -1]))))
        return logits


class Positions(nn.Module):
    """Layers whose first dimension holds positions, or positions and samples together."""

    def __init__(self, flat: bool) -> None:
        super().__init__()
        self.flat = flat
        self.first = nn.Linear(FEATURES, 5, bias=False)
        self.images = nn.Conv2d(1, 2, (1, 2), bias=False)
        self.head = nn.Linear(8, CLASSES, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        n, length, _ = inputs.shape
        if self.flat:
            hidden = self.first(inputs.flatten(0, 1)).unflatten(0, (n, length)).transpose(0, 1)
        else:
            hidden = self.first(inputs.transpose(0, 1))
        each = self.images(torch.tanh(hidden).reshape(length * n, 1, 1, 5)).reshape(length, n, 8)
        logits: Tensor = self.head(torch.tanh(each).mean(0))
        return logits


class Backbone(nn.Module):
    """A part under `no_grad`, and layers called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.fixed, self.norm, self.head = nn.Linear(FEATURES, 5), nn.LayerNorm(5), nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = torch.tanh(self.fixed(input=inputs.mean(1)))
        logits: Tensor = self.head(input=self.norm(hidden))
        return logits


def reparametrised() -> nn.Module:
    """Pruning keeps the type of a layer and gives it other parameters."""
    first, head = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)
    l1_unstructured(first, "weight", amount=0.3)
    return nn.Sequential(Mean(), first, nn.Tanh(), head)


class Mean(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean(1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "gru": lambda: Recurrent(nn.GRU(3, 4, batch_first=True)),
    "gru, positions first": lambda: Recurrent(nn.GRU(3, 4)),
    "gru, two layers, both ways": lambda: Recurrent(nn.GRU(3, 4, 2, batch_first=True, bidirectional=True)),
    "rnn": lambda: Recurrent(nn.RNN(3, 4, batch_first=True)),
    "rnn, two layers, both ways": lambda: Recurrent(nn.RNN(3, 4, 2, bidirectional=True)),
    "lstm": lambda: Recurrent(nn.LSTM(3, 4, batch_first=True)),
    "gru cell": OneCell,
    "parameter of no dimension": lambda: Scaled(plain),
    "branch": lambda: Scaled(branching),
    "item": lambda: Scaled(by_item),
    "numpy": lambda: Scaled(through_numpy),
    "checkpoint": lambda: Scaled(through_checkpoint),
    "old checkpoint": lambda: Scaled(through_old_checkpoint),
    "counter": lambda: Scaled(counting),
    "outputs without parameters": lambda: Scaled(silent),
    "short embeddings": lambda: Words(max_norm=0.5),
    "sparse embeddings": lambda: Words(sparse=True),
    "tied weights": Tied,
    "positions first": lambda: Positions(flat=False),
    "positions and samples in one": lambda: Positions(flat=True),
    "fixed backbone": Backbone,
    "pruned": reparametrised,
    "scripted": lambda: torch.jit.script(nn.Sequential(Mean(), nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES))),
    "scripted in part": lambda: nn.Sequential(Mean(), torch.jit.script(nn.Linear(FEATURES, 5)), nn.Linear(5, CLASSES)),
}


def made(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    net, generator = build().double(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=DOUBLE) * 0.7)
    return net


def samples(n: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, length, FEATURES, generator=generator, dtype=DOUBLE)
    return inputs, torch.randint(0, CLASSES, (n,), generator=generator)


shapes = given(n=st.integers(1, 7), length=st.integers(1, 7), seed=st.integers(0, 10**6))


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=8)
@shapes
def test_fisher(name: str, n: int, length: int, seed: int) -> None:
    net = made(NETWORKS[name], seed)
    data = samples(n, length, seed)
    for weighted in (True, False):
        ours = fisher_diagonal(net, *data, weighted=weighted)
        for a, b in zip(ours, oracle(net, *data, weighted=weighted), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=4)
@shapes
def test_gradients(name: str, n: int, length: int, seed: int) -> None:
    net = made(NETWORKS[name], seed)
    data = samples(n, length, seed)
    ours = torch.cat(list(per_sample_gradients(net, *data)))
    rows, _ = rows_one_by_one(net, *data)
    expected = torch.stack([-torch.cat([grad.reshape(-1) for grad in row]) for row in rows])
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("length", [3, 5, 6])
@pytest.mark.parametrize("flat", [False, True])
def test_as_many_positions_as_samples_or_fewer_or_more(length: int, flat: bool) -> None:
    """Layers without bias, whose shapes fit their rules."""
    net = made(lambda: Positions(flat))
    data = samples(5, length, seed=1)
    for a, b in zip(fisher_diagonal(net, *data), oracle(net, *data), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_a_batch_that_branches_as_its_samples_do_not() -> None:
    """The batch takes one branch as a whole; some samples alone take the other."""
    net, (inputs, labels) = made(lambda: Scaled(branching), 3), samples(7, 3, seed=3)
    branches = []
    counted = copy.deepcopy(net)
    assert isinstance(counted, Scaled)
    counted.changed = lambda net, hidden: branches.append(bool(hidden.max() > 0.4)) or hidden  # type: ignore[func-returns-value]
    for x in inputs.split(1):
        counted(x)
    assert 0 < sum(branches) < len(branches)
    for a, b in zip(fisher_diagonal(net, inputs, labels), oracle(net, inputs, labels), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_a_layer_used_twice_in_some_chunks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = torch.cat([self.first(part) for part in inputs.mean(1).split(2)])
            logits: Tensor = self.head(torch.tanh(hidden))
            return logits

    monkeypatch.setattr(fisher, "_chunk_size", lambda job, layers: 3)
    net, data = made(Parts), samples(4, 2, seed=1)
    for a, b in zip(fisher_diagonal(net, *data), oracle(net, *data), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("cell", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_other_precisions(cell: Callable[..., nn.RNNBase], dtype: torch.dtype) -> None:
    net, (inputs, labels) = made(lambda: Recurrent(cell(3, 4, batch_first=True))), samples(6, 5, seed=2)
    expected = oracle(net, inputs, labels)
    tolerance = 2e-2 if dtype is torch.bfloat16 else 1e-5
    for a, b in zip(fisher_diagonal(net.to(dtype), inputs.to(dtype), labels), expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=10 * tolerance, atol=tolerance * float(b.max()) + 1e-12)


def forward_passes(net: nn.Module, act: Callable[[], object]) -> int:
    passes = 0

    def count(*of_pass: object) -> None:
        nonlocal passes
        passes += 1

    hook = net.register_forward_hook(count)
    act()
    hook.remove()
    return passes


def test_what_can_be_vectorised_still_is() -> None:
    vectorised, single = made(lambda: Scaled(plain)), made(lambda: Scaled(by_item))
    few, many = samples(2, 3, seed=1), samples(40, 3, seed=1)
    for act in (fisher_diagonal, lambda *given: list(per_sample_gradients(*given))):
        passes = [forward_passes(vectorised, lambda act=act, data=data: act(vectorised, *data)) for data in (few, many)]  # type: ignore[misc]
        assert passes[0] == passes[1] <= 3
        assert forward_passes(single, lambda act=act: act(single, *many)) > 40  # type: ignore[misc]


def test_layers_with_rules_are_left_out_of_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(net: nn.Module, parameters: dict[str, nn.Parameter], *rest: object) -> single_gradients.Singles:
        asked.append(set(parameters))
        return one_by_one(net, parameters, *rest)  # type: ignore[arg-type]

    one_by_one = single_gradients._one_by_one
    monkeypatch.setattr(single_gradients, "_one_by_one", noted)
    net = made(lambda: Recurrent(nn.GRU(3, 4, batch_first=True)))
    fisher_diagonal(net, *samples(5, 4, seed=1))
    assert asked == [{name for name, _ in net.named_parameters() if name.startswith("cell")}]


SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("CUDA error: out of memory"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=str)
def test_running_out_of_memory_is_not_hidden(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*given: object, **options: object) -> None:
        raise error

    net, data = made(lambda: Scaled(plain)), samples(5, 3, seed=1)
    monkeypatch.setattr(single_gradients, "vmap", no_room)
    with pytest.raises(type(error)) as raised:
        fisher_diagonal(net, *data)
    assert raised.value is error
    with pytest.raises(type(error)) as raised:
        list(per_sample_gradients(net, *data))
    assert raised.value is error


def test_running_out_of_memory_with_the_batch_is_not_hidden() -> None:
    def large(net: nn.Module, hidden: Tensor) -> Tensor:
        if len(hidden) > 1:
            raise SHORTAGES[0]
        return hidden

    with pytest.raises(torch.OutOfMemoryError):
        fisher_diagonal(made(lambda: Scaled(large)), *samples(5, 3, seed=1))


def everything(net: nn.Module) -> dict[str, object]:
    """All values of a network that a user can see, and the identities of its objects."""
    seen: dict[str, object] = {}
    for name, parameter in net.named_parameters():
        grad = parameter.grad
        seen[name] = (
            id(parameter),
            parameter.tolist(),
            parameter.requires_grad,
            id(grad),
            None if grad is None else grad.tolist(),
        )
    for name, buffer in net.named_buffers():
        seen[name] = (id(buffer), buffer.tolist())
    for name, module in net.named_modules():
        seen[f"module {name}"] = (module.training, sorted(vars(module)), len(module._forward_hooks))
    return seen


def with_a_past(net: nn.Module) -> nn.Module:
    """A network in mixed modes, partly frozen, with gradients at some parameters."""
    net.train()
    list(net.modules())[-1].eval()
    parameters = list(net.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    return net


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"scripted", "sparse embeddings"}))
def test_the_network_is_left_as_it_was(name: str) -> None:
    net, data = with_a_past(made(NETWORKS[name])), samples(4, 3, seed=1)
    before = everything(net)
    fisher_diagonal(net, *data)
    assert everything(net) == before
    list(per_sample_gradients(net, *data))
    assert everything(net) == before


def test_the_network_is_left_as_it_was_when_it_fails_midway() -> None:
    alone = 0

    def failing(net: nn.Module, hidden: Tensor) -> Tensor:
        nonlocal alone
        alone += len(hidden) == 1 and hidden[0, 0].item() < 2
        if alone == 4:
            raise ArithmeticError("the third sample by itself, after one look at the first")
        return counting(net, hidden)

    for act in (fisher_diagonal, lambda *given: list(per_sample_gradients(*given))):
        net = with_a_past(made(lambda: Scaled(failing)))
        before = everything(net)
        alone = 0
        with pytest.raises(ArithmeticError, match="the third sample"):
            act(net, *samples(6, 3, seed=1))
        assert everything(net) == before


def test_an_error_of_the_network_itself_is_what_is_seen() -> None:
    net = nn.Sequential(nn.Flatten(), nn.LayerNorm(12), nn.Linear(11, CLASSES)).double()
    with pytest.raises(RuntimeError, match="1x12 and 11x3") as raised:
        fisher_diagonal(net, *samples(5, 3, seed=1))
    assert raised.value.__context__ is None


def test_what_a_network_remembers_can_still_be_copied() -> None:
    """The result is a plain tensor: the transform that made it is over."""

    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.LayerNorm(FEATURES), nn.Linear(FEATURES, CLASSES)
            self.last = torch.zeros(0)
            self.register_buffer("mean", torch.zeros(FEATURES))

        def forward(self, inputs: Tensor) -> Tensor:
            self.last = self.norm(inputs.mean(1))
            self.mean = self.last.detach().mean(0)
            logits: Tensor = self.head(self.last)
            return logits

    net = made(Remembering)
    before = everything(net)
    fisher_diagonal(net, *samples(4, 3, seed=1))
    list(per_sample_gradients(net, *samples(4, 3, seed=1)))
    assert everything(net) == before
    again = copy.deepcopy(net)
    assert isinstance(again, Remembering) and len(again.last) == 0


def test_recurrent_layers_do_without_cudnn() -> None:
    """cuDNN has no gradient in evaluation mode, so that a recurrent layer does without it."""
    seen = []

    class Watched(nn.GRU):
        def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            seen.append(torch.backends.cudnn.enabled)
            answer: tuple[Tensor, Tensor] = super().forward(*given)
            return answer

    net = made(lambda: Recurrent(Watched(3, 4, batch_first=True)))
    before = torch.backends.cudnn.enabled
    fisher_diagonal(net, *samples(3, 2, seed=1))
    assert seen and not any(seen)
    assert torch.backends.cudnn.enabled == before and "forward" not in vars(net.get_submodule("cell"))


def test_cosines_of_a_network_that_cannot_be_vectorised() -> None:
    net = made(NETWORKS["gru"])
    one, other = samples(4, 3, seed=1), samples(5, 3, seed=2)
    rows = [
        torch.stack([torch.cat([grad.reshape(-1) for grad in row]) for row in rows_one_by_one(net, *data)[0]])
        for data in (one, other)
    ]
    expected = F.normalize(rows[0]) @ F.normalize(rows[1]).mT
    torch.testing.assert_close(greatest_cosines(net, one, other)[0], expected.amax(1), rtol=1e-9, atol=1e-11)


def test_no_short_way_over_positions_that_look_like_samples() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = torch.tanh(self.first(inputs.flatten(0, 1))).unflatten(0, inputs.shape[:2])
            logits: Tensor = self.head(hidden.mean(1))
            return logits

    assert gradient_products(made(Flat), *samples(4, 3, seed=1)) is None


@settings(max_examples=8)
@given(n=st.integers(1, 7), outputs=st.sampled_from([(), (1,), (4,), (2, 3)]), seed=st.integers(0, 10**6))
@pytest.mark.parametrize("general", [False, True])
def test_a_regression_sums_over_a_samples_outputs(general: bool, n: int, outputs: tuple[int, ...], seed: int) -> None:
    """The Fisher information of a normal distribution with variance 1: log p = -1/2 sum of squares, by hand."""
    wide = torch.Size(outputs).numel()

    class Regression(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(FEATURES, 5), nn.Linear(5, wide)
            self.norm = nn.LayerNorm(5) if general else nn.Identity()

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.norm(torch.tanh(self.first(inputs.mean(1))))
            return torch.as_tensor(self.head(hidden)).reshape(len(inputs), *outputs)

    def by_hand(given: Tensor, targets: Tensor) -> Tensor:
        total = torch.zeros((), dtype=DOUBLE)
        for a, b in zip(given.reshape(-1), targets.reshape(-1), strict=True):
            total = total - (a - b) ** 2 / 2
        return total

    net, (inputs, _) = made(Regression, seed), samples(n, 2, seed)
    targets = torch.randn(n, *outputs, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    for weighted in (True, False):
        ours = fisher_diagonal(net, inputs, targets, weighted=weighted, log_likelihood=gaussian)
        for a, b in zip(ours, oracle(net, inputs, targets, by_hand, weighted), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
