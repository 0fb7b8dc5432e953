"""What a network draws in training comes from one learner's own generator, whatever other threads do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from synergy.randomness import TorchRandomness
from tests.interruptions import Stop, interrupt

CPU = torch.device("cpu")
X = torch.rand(4, 6, 8)
ATTENTION = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)
LSTM = nn.LSTM(8, 8, 2, dropout=0.4)

DRAWS: dict[str, Callable[[], Tensor]] = {
    "dropout": lambda: F.dropout(X),
    "alpha dropout": lambda: F.feature_alpha_dropout(X, training=True),
    "randomised ReLU": lambda: F.rrelu(X - 0.5, training=True),
    "Gumbel softmax": lambda: F.gumbel_softmax(X),
    "attention": lambda: ATTENTION(X, X, X)[0],
    "a recurrent layer": lambda: LSTM(X)[0],
    "noise": lambda: torch.normal(X, 1.0),
    "an operation that takes no generator": lambda: X + torch.randn_like(X),
    "a permutation": lambda: X[:, torch.randperm(6)],
}


@contextmanager
def beside_another_thread() -> Iterator[None]:
    """Within, a thread waits that draws nothing: not even a race could change a number."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def drawn(call: Callable[[], Tensor], randomness: TorchRandomness) -> list[Tensor]:
    results = []
    for _ in range(3):
        with randomness.drawing():
            results.append(call().detach())
    return results


@pytest.mark.parametrize("what", DRAWS)
def test_the_numbers_are_the_same_beside_other_threads(what: str) -> None:
    alone = drawn(DRAWS[what], TorchRandomness(0, "test", CPU))
    again = TorchRandomness(0, "test", CPU)
    again.recomputes = False
    with beside_another_thread():
        together = drawn(DRAWS[what], again)
    assert not torch.equal(alone[0], alone[1])
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_a_thread_that_draws_from_the_global_generator_is_left_alone() -> None:
    """Its numbers are those that it gets by itself, and so are ours."""
    alone = drawn(DRAWS["dropout"], TorchRandomness(0, "test", CPU))
    theirs = torch.Generator().manual_seed(5)
    torch.manual_seed(5)
    other = TorchRandomness(0, "test", CPU)
    other.recomputes = False
    told: list[Tensor] = []
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set():
            told.append(torch.rand(3))

    thread = threading.Thread(target=draw)
    thread.start()
    together = [each for _ in range(20) for each in drawn(DRAWS["dropout"], other)]
    stop.set()
    thread.join()
    assert all(torch.equal(one, each) for one, each in zip(alone, together, strict=False))
    assert told and all(torch.equal(each, torch.rand(3, generator=theirs)) for each in told)


class Recomputing(nn.Module):
    """Forgets what is between its layers, and computes it again when gradients need it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden: Tensor = checkpoint(lambda x: F.dropout(self.inner(x).relu()), inputs, use_reentrant=False)
        scores: Tensor = self.outer(F.dropout(hidden))
        return scores


def gradients(net: Recomputing, randomness: TorchRandomness) -> list[Tensor]:
    found = []
    for _ in range(3):
        net.zero_grad()
        with randomness.drawing():
            net(X).square().sum().backward()
        found += [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]
    return found


def test_what_is_computed_again_draws_the_same_numbers_again() -> None:
    """Otherwise the gradients would be those of another network."""
    net = Recomputing()
    alone = gradients(net, TorchRandomness(0, "test", CPU))
    with beside_another_thread():
        together = gradients(net, TorchRandomness(0, "test", CPU))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_two_threads_take_turns_where_the_global_generator_is_needed() -> None:
    nets = [Recomputing(), Recomputing()]
    alone = [gradients(net, TorchRandomness(0, "test", CPU)) for net in nets]
    together: dict[int, list[Tensor]] = {}
    before = torch.get_rng_state()
    threads = [
        threading.Thread(target=lambda n=n: together.update({n: gradients(nets[n], TorchRandomness(0, "test", CPU))}))
        for n in (0, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(before, torch.get_rng_state())
    for n in (0, 1):
        assert all(torch.equal(one, other) for one, other in zip(alone[n], together[n], strict=True))


def test_it_notices_whether_anything_was_drawn() -> None:
    randomness = TorchRandomness(0, "test", CPU)
    with randomness.noticing() as drew:
        F.dropout(X)
    with randomness.noticing() as drew_not:
        F.relu(X)
    assert drew.drawn and not drew_not.drawn


def drop(randomness: TorchRandomness) -> None:
    with randomness.drawing():
        F.dropout(X)


@pytest.mark.parametrize("case", ["first step", "alone", "beside another thread"])
def test_ctrl_c_at_any_line_gives_the_global_generator_back(case: str) -> None:
    """With its state; other threads can borrow it, and random numbers come from it again."""
    with nullcontext() if case == "alone" else beside_another_thread():
        before = torch.get_rng_state()
        stopped, at = True, 0
        while stopped:
            at += 1
            randomness = TorchRandomness(0, "test", CPU)
            if case != "first step":
                drop(randomness)
                randomness.recomputes = False
            stopped = Stop(at, interrupt).during(drop, randomness)
            assert torch.equal(torch.get_rng_state(), before), f"line {at}"
            torch.rand(1)
            assert not torch.equal(torch.get_rng_state(), before), f"line {at}"
            torch.set_rng_state(before)
            assert borrowed_by_another_thread(), f"line {at}"
        assert at > 10


def borrowed_by_another_thread() -> bool:
    done: list[bool] = []

    def borrow() -> None:
        drop(TorchRandomness(0, "test", CPU))
        done.append(True)

    thread = threading.Thread(target=borrow, daemon=True)
    thread.start()
    thread.join(10)
    return bool(done)
