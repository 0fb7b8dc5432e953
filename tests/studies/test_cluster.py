"""A study on a real Ray cluster of two node processes, one of which is killed in the middle."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from synergy.runs import records
from tests.commands import call
from tests.terminal.test_study import outcomes

ROOT = Path(__file__).parent.parent.parent
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: pip install 'synergy-cl[cluster]'"
)
STUDY = "--models synergy,er --datasets rot-digits --n_tasks 3 --max_steps_per_task 60 --seeds 0-2 --checkpoint_every 5"
PATIENCE = 300
"""Seconds. On an idle machine each step takes a few."""

TWO_NODES = """
import os, sys
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from ray.cluster_utils import Cluster
each = {"num_cpus": 1, "object_store_memory": 80_000_000}
cluster = Cluster(initialize_head=True, head_node_args=each)
second = cluster.add_node(**each)
print("address", cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(second, allow_graceful=False)
print("removed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


def told(process: subprocess.Popen[str], word: str) -> str:
    """The rest of the first line that begins with `word`."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line.removeprefix(word).strip()
    raise AssertionError(f"it ended without the word {word!r}")


@contextmanager
def two_nodes() -> Iterator[subprocess.Popen[str]]:
    """A cluster of two nodes. A line on its input kills the second."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", TWO_NODES]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.communicate("\n\n", timeout=PATIENCE)


def study(asked: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "synergy.terminal.cli", "study", *asked.split(), *map(str, arguments)]
    environment, pipe = os.environ | {"OMP_NUM_THREADS": "1"}, subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env=environment)


@needs_ray
@pytest.mark.slow
@pytest.mark.torture
def test_a_node_that_dies_loses_nothing_and_nothing_is_completed_twice(tmp_path: Path) -> None:
    on_ray, local = tmp_path / "ray", tmp_path / "local"
    with two_nodes() as cluster:
        assert cluster.stdin is not None
        process = study(STUDY, "--address", told(cluster, "address"), "--output_dir", on_ray)
        deadline = time.monotonic() + PATIENCE
        while len({path.parent for path in on_ray.glob("*/checkpoint/*")}) < 2 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        cluster.stdin.write("\n")
        cluster.stdin.flush()
        told(cluster, "removed")
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, ""), out
    assert "warning: its machine or process ended; it goes on elsewhere" in out
    assert "6 of 6 runs finished" in out
    here = study(STUDY, "--output_dir", local, "--jobs", "2")
    _, err = here.communicate(timeout=PATIENCE)
    assert here.returncode == 0, err
    assert outcomes(on_ray) == outcomes(local)
    listed = [record.run_id for record in records.read_all(on_ray)]
    assert len(listed) == 6 and sorted(listed) == sorted(outcomes(local))


@needs_ray
@pytest.mark.slow
def test_a_cluster_of_ones_own_is_started_and_ended(tmp_path: Path) -> None:
    asked = "--models sgd --datasets rot-digits --n_tasks 2 --max_steps_per_task 3"
    process = study(asked, "--ray", "--jobs", "1", "--output_dir", tmp_path)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out + err
    assert err == "" and out.splitlines()[0].startswith(f"study {tmp_path}: ") and "1 of 1 run finished" in out


@needs_ray
@pytest.mark.slow
def test_an_address_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections and says nothing
        port = silent.getsockname()[1]
        for address, why in (
            (f"127.0.0.1:{port}", "answers at"),
            ("127.0.0.1:1", "answers at"),
            ("nowhere", "HOST:PORT"),
        ):
            options = ("--models", "sgd", "--datasets", "rot-digits", "--output_dir", tmp_path / "S")
            outcome = call("study", *options, "--address", address)
            assert outcome.code == 2 and why in outcome.err and outcome.err.count("\n") == 1
    assert not (tmp_path / "S").exists()


def test_ray_is_one_place_or_the_other(tmp_path: Path) -> None:
    options = ("--models", "sgd", "--datasets", "rot-digits", "--output_dir", tmp_path / "S")
    outcome = call("study", *options, "--ray", "--address", "127.0.0.1:6379")
    assert outcome.code == 2 and "--ray: given beside --address; allowed: one of them" in outcome.err
