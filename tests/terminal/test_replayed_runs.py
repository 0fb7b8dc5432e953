"""Replayed steps in `synergy run`, as on CUDA: without a word, with Ctrl-C, with `--eager`, and where none can be."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn, rand

from synergy import Learner
from synergy.engine.replay import AHEAD
from synergy.engine.worker import Means
from synergy.runs import records
from synergy.types import Step
from tests.commands import call, run
from tests.engine.recording import Operations

OPTIONS = ("--buffer_size", 40, "--max_tasks", 2, "--checkpoint_every", 10, "--fisher_update_freq", 0.3)


class Watched(Operations):
    """Knows how many of its recordings were played, and sends Ctrl-C in the middle of one of them.

    Args:
        interrupt_at: the play that is interrupted, from 1; 0 for none.
    """

    def __init__(self, interrupt_at: int = 0) -> None:
        super().__init__()
        self.played = 0
        self._interrupt_at = interrupt_at

    def record(self, compute: Callable[[], Step]) -> Callable[[], Step]:
        play = super().record(compute)

        def watched() -> Step:
            self.played += 1
            if self.played == self._interrupt_at:
                signal.raise_signal(signal.SIGINT)
            return play()

        return watched


@pytest.fixture
def recorder_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Watched], Watched]:
    """Lets what is made from now on record its steps, as on CUDA."""

    def use(recorder: Watched) -> Watched:
        monkeypatch.setattr(Means, "recorder", lambda means: None if means.eager else recorder)
        return recorder

    return use


def outcome(folder: Path) -> dict[str, Any]:
    """All that equal runs have in common; one may have been told to be eager."""
    (path,) = folder.glob("*/record.json")
    content = records.read(path).outcome()
    del content["config"]["output"], content["provenance"], content["config"]["training"]["eager"]
    return content


def test_a_run_replays_without_a_word_and_with_the_same_bits(
    tmp_path: Path, recorder_of: Callable[[Watched], Watched]
) -> None:
    assert run(tmp_path / "anew", "seq-digits", "synergy", *OPTIONS).code == 0
    recorder = recorder_of(Watched())
    said = run(tmp_path / "other", "seq-digits", "synergy", *OPTIONS)
    assert recorder.played > 10 and said.code == 0
    assert not re.search(r"warning|replay|eager|anew|graph", said.out.replace(str(tmp_path), "") + said.err)
    played = recorder.played
    assert run(tmp_path / "eager", "seq-digits", "synergy", *OPTIONS, "--eager").code == 0
    assert recorder.played == played, "nothing is replayed"
    assert outcome(tmp_path / "anew") == outcome(tmp_path / "other") == outcome(tmp_path / "eager")


def test_ctrl_c_in_a_replayed_step_leaves_a_checkpoint_that_goes_on_with_the_same_bits(
    tmp_path: Path, recorder_of: Callable[[Watched], Watched]
) -> None:
    assert run(tmp_path / "whole", "seq-digits", "synergy", *OPTIONS).code == 0
    recorder = recorder_of(Watched(interrupt_at=3))
    stopped = run(tmp_path / "stopped", "seq-digits", "synergy", *OPTIONS, "--checkpoint_every", 1000)
    (folder,) = (path.parent for path in (tmp_path / "stopped").glob("*/record.json"))
    assert stopped.code == 130 and "synergy resume" in stopped.err
    steps, played = records.read(folder).steps, recorder.played
    assert 3 <= played < steps == AHEAD, "the steps that were decided are finished"
    resumed = call("resume", folder)
    assert resumed.code == 0 and f"after step {steps}" in resumed.out and recorder.played > played
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")


@pytest.mark.filterwarnings("always")
def test_what_cannot_be_replayed_says_why_once(tmp_path: Path, recorder_of: Callable[[Watched], Watched]) -> None:
    recorder = recorder_of(Watched())
    said = run(tmp_path, "seq-digits", "synergy", *OPTIONS, "--memory_on", "host")
    assert said.code == 0 and recorder.played == 0
    assert said.err.count("every step is computed anew instead of replayed: the memory is on the host (") == 1
    eager = run(tmp_path, "seq-digits", "synergy", *OPTIONS, "--memory_on", "host", "--eager", "--seed", 1)
    assert eager.code == 0 and "computed anew" not in eager.err


def test_a_learner_replays_unless_it_is_eager(recorder_of: Callable[[Watched], Watched]) -> None:
    recorder = recorder_of(Watched())
    for eager in (True, False):
        learner = Learner(nn.Linear(3, 2), "er", buffer_size=8, minibatch_size=4, eager=eager)
        for _ in range(6):
            learner.observe(rand(4, 3), [0, 1, 0, 1])
        assert bool(recorder.played) is not eager
