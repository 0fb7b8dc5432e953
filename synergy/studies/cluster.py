"""Runs on a Ray cluster: each is a task with resources and retries, on any machine that sees the study's folder.

A task whose machine dies is begun again elsewhere by Ray, and goes on from the run's last checkpoint. What runs say
travels through one actor beside the study; when the study dies, Ray ends its tasks.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from synergy.device import keep_freed_memory
from synergy.errors import UsageError
from synergy.runs.config import CONFIG_NAME
from synergy.studies.pool import TRIES, News, Pool, Warned
from synergy.studies.work import Ended, go_on

try:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of its next release
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # a busy machine starts slowly
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise UsageError("--ray and --address need Ray: pip install 'synergy-cl[cluster]'") from error

ANSWER_SECONDS = 6.0
"""How long an address may take to be reached, and then to answer."""
_FRAME, _SETTINGS = 9, 4
"""Bytes in the head of a frame of HTTP/2, and the kind of the first one of a connection. gRPC speaks HTTP/2."""
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])
LOOK_SECONDS = 0.5
"""How often a run looks whether it shall stop."""
STORE_BYTES = 100_000_000
"""Of shared memory for Ray's objects: what a run says is small."""


class Mailbox:
    """Keeps what runs say until the study takes it, and which of them shall stop.

    Examples:
        >>> box = Mailbox()
        >>> box.put("S/a", Warned("slow"))
        >>> box.take(), box.take()
        ([('S/a', Warned(text='slow'))], [])
    """

    def __init__(self) -> None:
        self._news: deque[tuple[str, News]] = deque()
        self._begun: set[str] = set()
        self._ending: set[str] = set()
        self._stopped = False

    def begin(self, folder: str) -> None:
        """A run is begun, perhaps again."""
        if folder in self._begun:
            self.put(folder, Warned("its machine or process ended; it goes on elsewhere"))
        self._begun.add(folder)

    def put(self, folder: str, news: News) -> None:
        """A run says something."""
        self._news.append((folder, news))

    def take(self) -> list[tuple[str, News]]:
        """All that was said since the last time."""
        found = [*self._news]
        self._news.clear()
        return found

    def end(self, folder: str | None) -> None:
        """Let one run stop, or all."""
        self._stopped = self._stopped or folder is None
        self._ending |= set() if folder is None else {folder}

    def is_ending(self, folder: str) -> bool:
        """Whether a run shall stop."""
        return self._stopped or folder in self._ending


class _RayPool:
    """Each run a task; a mailbox on this node takes their news and tells them to end."""

    def __init__(self, jobs: int | None, per_gpu: int, gpus: bool) -> None:
        self._jobs = math.inf if jobs is None else jobs
        self._per_gpu = per_gpu
        self._gpus = gpus and ray.cluster_resources().get("GPU", 0) > 0
        self._working: dict[Any, Path] = {}
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox: Any = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        resources = {"num_cpus": 0, "num_gpus": 1 / per_gpu} if self._gpus else {"num_cpus": 1}
        self._task = ray.remote(_work).options(max_retries=TRIES - 1, **resources)

    @property
    def places(self) -> int:
        there = ray.cluster_resources()
        most = there.get("GPU", 0) * self._per_gpu if self._gpus else there.get("CPU", 0)
        return int(min(self._jobs, most))

    @property
    def free(self) -> int:
        return self.places - len(self._working)

    def start(self, folder: Path) -> None:
        self._working[self._task.remote(str(folder.resolve()), self._mailbox)] = folder

    def news(self, seconds: float) -> list[tuple[Path, News]]:
        ready, _ = ray.wait(list(self._working), num_returns=1, timeout=seconds)
        of = {str(folder.resolve()): folder for folder in self._working.values()}
        said: list[tuple[str, News]] = ray.get(self._mailbox.take.remote())
        found = [(of[name], news) for name, news in said if name in of]
        return found + [(self._working.pop(task), _outcome(task)) for task in ready]

    def end(self, folder: Path) -> None:
        ray.get(self._mailbox.end.remote(str(folder.resolve())))

    def stop(self) -> None:
        ray.get(self._mailbox.end.remote(None))

    def close(self) -> None:
        for task in self._working:
            ray.cancel(task, force=True)
        self._working.clear()


def tasks(jobs: int | None, per_gpu: int, gpus: bool) -> Pool:
    """Runs as tasks of the cluster. Within the block that `joined` gives.

    Args:
        jobs: how many runs at once; by default as many as the cluster has processors, or GPUs times `per_gpu`.
        per_gpu: runs that share a GPU.
        gpus: whether runs use GPUs, if the cluster has some.
    """
    return _RayPool(jobs, per_gpu, gpus)


@contextmanager
def joined(address: str | None) -> Iterator[None]:
    """Within, this process is part of a Ray cluster: the one at `address`, else a local one of its own.

    Raises:
        UsageError: nothing answers at the address, or it is no address.
    """
    if address is not None:
        _check_answers(address)
    own: dict[str, Any] = (
        {} if address is not None else {"object_store_memory": STORE_BYTES, "include_dashboard": False}
    )
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _silent(address or "a local cluster", " ".join(str(error).split())) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raises UsageError unless a gRPC server answers in time: Ray itself would wait for a minute."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--address: given {address!r}; allowed: HOST:PORT of the head node of a Ray cluster")
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.sendall(_HELLO)
            answer = connection.recv(_FRAME)
    except OSError as error:
        raise _silent(address, error.strerror or str(error)) from error
    if len(answer) < _FRAME or answer[3] != _SETTINGS:
        raise _silent(address, "another kind of server is there")


def _silent(address: str, why: str) -> UsageError:
    start = "start one with: ray start --head"
    return UsageError(f"--address: no Ray cluster answers at {address}: {why}; {start}, or let --ray start one here")


def _outcome(task: Any) -> Ended:
    try:
        ended: Ended = ray.get(task)
        return ended
    except ray.exceptions.RayError as error:
        return Ended("failed", f"its machine or process ended {TRIES} times: {str(error).splitlines()[0]}")


def _work(name: str, mailbox: Any) -> Ended:
    """The life of a task: one run."""
    folder = Path(name)
    if not (folder / CONFIG_NAME).is_file():
        machine = ray.util.get_node_ip_address()
        return Ended("failed", f"machine {machine} does not see {folder}; name an output_dir that all machines share")
    ray.get(mailbox.begin.remote(name))
    torch.set_num_threads(1)
    keep_freed_memory()
    stopping, over = threading.Event(), threading.Event()
    threading.Thread(target=_listen, args=(name, mailbox, stopping, over), daemon=True).start()
    last: Any = None

    def tell(news: News) -> None:
        nonlocal last
        last = mailbox.put.remote(name, news)

    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: tell(Warned(str(message)))
        try:
            return go_on(folder, tell, stopping.is_set)
        finally:
            over.set()
            if last is not None:
                ray.get(last)


def _listen(name: str, mailbox: Any, stopping: threading.Event, over: threading.Event) -> None:
    """Ask again and again whether the run shall stop; it also stops when the study is gone."""
    while not over.wait(LOOK_SECONDS):
        try:
            if ray.get(mailbox.is_ending.remote(name)):
                stopping.set()
        except ray.exceptions.RayError:
            stopping.set()
