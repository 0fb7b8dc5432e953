"""What the README says: its Python runs as printed, and learns."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from synergy import checks

README = Path(__file__).parent.parent / "README.md"


def test_the_ten_lines_run_as_printed_and_learn() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 10
    whole = checks.scenario("rot-digits", batch_size=16, options={"n_tasks": 2, "rotation_angles": (0.0, 30.0)})
    stream = [batch for index in range(2) for epoch in range(4) for batch in whole.task(index).batches(epoch)]
    # The network of the README is initialised by torch itself, from the global generator.
    with torch.random.fork_rng():
        names: dict[str, object] = {"stream": stream}
        exec(compile(code, "README.md", "exec"), names)
    scores = names["scores"]
    assert isinstance(scores, torch.Tensor)
    labels = stream[-1][1]
    assert scores.shape == (len(labels), 10)
    assert float((scores.argmax(1) == labels).double().mean()) > 0.7
