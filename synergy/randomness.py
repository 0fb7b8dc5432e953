"""Named generators: each consumer of randomness owns one, derived from the run's seed and its own name.

What one consumer draws never changes what another gets, so a stream is the same whatever learns from it. All draws are
made on the host, so that no decision waits for a device and a CPU and a GPU see the same stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def generator(seed: int, name: str) -> np.random.Generator:
    """A host generator for the consumer called `name` (such as `"stream/order"`)."""
    return np.random.Generator(np.random.PCG64(_entropy(seed, name)))


def torch_generator(seed: int, name: str) -> torch.Generator:
    """The same for what only torch can draw, such as the initial weights of a network. On the CPU."""
    return torch.Generator().manual_seed(_entropy(seed, name) % 2**63)


class TorchRandomness:
    """torch's global generator as one consumer's own, for what can draw from no other, such as dropout.

    Args:
        seed: of the run.
        name: of the consumer.
        device: whose generator.
    """

    def __init__(self, seed: int, name: str, device: torch.device) -> None:
        self.device = device
        self.state = torch.Generator(device).manual_seed(_entropy(seed, name) % 2**63).get_state()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within, the global generator goes on where this one was; afterwards it is as it was before."""
        theirs = _global_state(self.device)
        _set_global_state(self.device, self.state)
        try:
            yield
        finally:
            self.state = _global_state(self.device)
            _set_global_state(self.device, theirs)

    @contextmanager
    def noticing(self) -> Iterator[list[bool]]:
        """The same; the list holds afterwards whether anything was drawn."""
        drawn: list[bool] = []
        with self.drawing():
            before = _global_state(self.device)
            yield drawn
            drawn.append(not torch.equal(before, _global_state(self.device)))

    def state_dict(self) -> dict[str, Any]:
        return {"device": self.device.type, "state": self.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state was taken; on a device of another type, whose numbers are others, from the seed.

        Raises:
            RuntimeError, TypeError: it is no state of a generator.
        """
        if state["device"] == self.device.type:
            kept = state["state"].cpu()
            torch.Generator(self.device).set_state(kept)  # to see that it is one
            self.state = kept


def _global_state(device: torch.device) -> torch.Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def _set_global_state(device: torch.device, state: torch.Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)


def _entropy(seed: int, name: str) -> int:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:16], "little")
