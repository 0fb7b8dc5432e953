"""The checks of a network pass for those of the library, and each finds the network that breaks its clause."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synergy import testing
from synergy.nets import NET_CLASSES, NETS, net_class
from synergy.nets.base import NetConfig, build
from synergy.nets.mlp import linear

SIZE, N_CLASSES = 6, 3


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETS)
def test_every_network_of_the_library_passes(name: str) -> None:
    kind, shape = net_class(name), (3, 8, 8)
    config = NET_CLASSES.config_of(name, kind)()
    assert isinstance(config, NetConfig)
    testing.check_net(lambda generator: build(kind, config, shape, N_CLASSES, generator), random(3, *shape), N_CLASSES)


def test_a_network_that_torch_initialises_passes() -> None:
    class Plain(nn.Sequential):
        def __init__(self, shape: tuple[int, ...], n_classes: int) -> None:
            super().__init__(nn.Linear(shape[0], 8), nn.ReLU(), nn.Linear(8, n_classes))

    def made(generator: torch.Generator) -> nn.Module:
        return build(Plain, NetConfig(), (SIZE,), N_CLASSES, generator)

    testing.check_net(made, random(4, SIZE), N_CLASSES)


class Sound(nn.Module):
    """With BatchNorm and dropout. Each network below breaks one clause of the contract, and is otherwise this one."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = linear(SIZE, 8, generator)
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.5)
        self.head = linear(8, N_CLASSES, generator)

    def forward(self, inputs: Tensor) -> Any:
        return self.head(self.dropout(self.norm(self.hidden(inputs)).relu()))


class Unseeded(Sound):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(torch.Generator().manual_seed(torch.Generator().seed()))


class Constant(Sound):
    """The same weights, whatever the generator."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(torch.Generator().manual_seed(0))


class Mixed(Sound):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(generator)
        self.extra = nn.Parameter(torch.zeros(1, dtype=torch.float64))


class Elsewhere(Sound):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(generator)
        self.register_buffer("table", torch.zeros(1, device="meta"))

    def to(self, *args: Any, **options: Any) -> Any:
        return self


class Narrow(Sound):
    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs)[:, :2]


class Paired(Sound):
    """Gives its features as well in training."""

    def forward(self, inputs: Tensor) -> Any:
        outputs = super().forward(inputs)
        return (outputs, inputs) if self.training else outputs


class Deciding(Sound):
    """Gives classes, not scores."""

    def forward(self, inputs: Tensor) -> Any:
        return nn.functional.one_hot(super().forward(inputs).argmax(1), N_CLASSES)


class Exploding(Sound):
    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs) / 0


class Frozen(Sound):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(generator)
        self.requires_grad_(False)


class Rooted(Sound):
    """The root of zero has an infinite slope."""

    def forward(self, inputs: Tensor) -> Any:
        outputs = super().forward(inputs)
        return outputs + (outputs - outputs.detach()).abs().sqrt()


class Counting(Sound):
    """Adds the number of the call."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(generator)
        self.calls = itertools.count()

    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs) + next(self.calls)


class Ratchet(Sound):
    """Answers otherwise once it was in training mode."""

    shift = 0

    def train(self, mode: bool = True) -> Ratchet:
        self.shift += mode
        super().train(mode)
        return self

    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs) + self.shift


class Crowded(Sound):
    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs) - inputs.mean()


class Squeezing(Sound):
    """Drops the dimension of a batch of one."""

    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs).squeeze()


class Restless(Sound):
    """Counts in a buffer how many samples it answered."""

    answered: Tensor

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(generator)
        self.register_buffer("answered", torch.zeros(1))

    def forward(self, inputs: Tensor) -> Any:
        self.answered += len(inputs)
        return super().forward(inputs)


class Overwriting(Sound):
    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs.mul_(0.5))


class Linked(Sound):
    """Copies of it share their weights."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Linked:
        return self


class Unsaved(Sound):
    """Has a scale that its state does not hold."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(generator)
        self.scale = random(1) + torch.rand(1, generator=generator)

    def forward(self, inputs: Tensor) -> Any:
        return super().forward(inputs) * self.scale


class GlobalRandomness(Sound):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(generator)
        nn.Linear(2, 2)


def test_a_sound_network_passes() -> None:
    testing.check_net(Sound, random(4, SIZE), N_CLASSES)


@pytest.mark.parametrize(
    ("build", "name", "complaint"),
    [
        (Unseeded, "same weights", "other weights"),
        (Constant, "same weights", "the same weights"),
        (Mixed, "one kind", r"\['torch.float32', 'torch.float64'\]"),
        (Elsewhere, "one kind", r"\['cpu', 'meta'\]"),
        (Narrow, "outputs", r"evaluation mode .* \(4, 2\), expected \(4, 3\)"),
        (Paired, "outputs", "training mode .* tuple"),
        (Deciding, "outputs", "int64"),
        (Exploding, "outputs", "inf or NaN"),
        (Frozen, "gradients", "no trainable parameter"),
        (Rooted, "gradients", "'hidden.weight'"),
        (Counting, "repeats", "second time"),
        (Ratchet, "repeats", "training mode and back"),
        (Crowded, "alone", "differ by"),
        (Squeezing, "alone", r"\(3,\), expected \(1, 3\)"),
        (Restless, "unchanged", "buffers changed"),
        (Overwriting, "unchanged", "wrote to its inputs"),
        (Linked, "copies", "changed the network"),
        (Unsaved, "restored", "otherwise"),
        (GlobalRandomness, "global randomness", "global"),
    ],
)
def test_a_broken_network_is_found_out(
    build: Callable[[torch.Generator], nn.Module], name: str, complaint: str
) -> None:
    check = {check.name: check for check in testing.net_checks(build, random(4, SIZE), N_CLASSES)}[name]
    with pytest.raises(AssertionError, match=f"^{name}: .*{complaint}"):
        check()


def test_dropout_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    testing.check_net(Sound, random(4, SIZE), N_CLASSES)
    assert torch.equal(before, torch.get_rng_state())


def test_checks_have_names_of_their_own_and_a_sentence_each() -> None:
    checks = testing.net_checks(Sound, random(4, SIZE), N_CLASSES)
    assert len({check.name for check in checks}) == len(checks) == 10
    assert all(check.reason.endswith(".") and "\n" not in check.reason for check in checks)
