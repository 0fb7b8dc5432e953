"""Named generators: each consumer of randomness owns one, derived from the run's seed and its own name.

What one consumer draws never changes what another gets, so a stream is the same whatever learns from it. All draws are
made on the host, so that no decision waits for a device and a CPU and a GPU see the same stream.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def generator(seed: int, name: str) -> np.random.Generator:
    """A host generator for the consumer called `name` (such as `"stream/order"`)."""
    return np.random.Generator(np.random.PCG64(_entropy(seed, name)))


def torch_generator(seed: int, name: str) -> torch.Generator:
    """The same for what only torch can draw, such as the initial weights of a network. On the CPU."""
    return torch.Generator().manual_seed(_entropy(seed, name) % 2**63)


def _entropy(seed: int, name: str) -> int:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:16], "little")
