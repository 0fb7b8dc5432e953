"""Time and memory of a run, over all processes that worked on it."""

from __future__ import annotations

import math
import sys
import time
from datetime import UTC, datetime

import torch

from synergy.runs.records import Measured
from synergy.runs.training import Training
from synergy.state import State, restore

if sys.platform != "win32":
    import resource


class Clock:
    """Measures a run from the making of the clock on, and adds what the run took before it was resumed.

    Args:
        device: where the run computes.

    Examples:
        >>> clock = Clock(torch.device("cpu"))
        >>> sorted(clock.state_dict())
        ['cpu_s', 'peak_memory_mb', 'started_at', 'wall_s']
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began = time.perf_counter(), time.process_time()
        self._earlier: State = {
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_s": 0.0,
            "cpu_s": 0.0,
            "peak_memory_mb": 0.0,
        }
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def state_dict(self) -> State:
        wall, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        earlier = self._earlier
        return {
            "started_at": earlier["started_at"],
            "wall_s": earlier["wall_s"] + wall,
            "cpu_s": earlier["cpu_s"] + cpu,
            "peak_memory_mb": max(earlier["peak_memory_mb"], self._peak_memory() / 1e6),
        }

    def load_state_dict(self, state: State) -> None:
        """Count what `state`, taken by an earlier process, says too. Raises ValueError if it is not such a state."""
        earlier = dict(self._earlier)
        restore(earlier, state)
        if not all(math.isfinite(value) for value in earlier.values() if isinstance(value, float)):
            raise ValueError("a time that is not finite")
        self._earlier = earlier

    def read(self, training: Training) -> Measured:
        """Time and memory so far."""
        return Measured(
            **self.state_dict(),
            train_s=training.train_s,
            evaluate_s=training.evaluate_s,
            steps_per_s=training.steps / training.train_s if training.train_s else 0.0,
        )

    def _peak_memory(self) -> float:
        """In bytes."""
        if self._device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._device))
        if sys.platform == "win32":
            return 0.0
        # Linux answers in KiB, macOS in bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
