"""A service that learns from labelled batches and predicts, over HTTP. It never loses a batch that it acknowledged.

    pip install 'synergy-cl[service]'
    python examples/service.py --state runs/service --features 64 --port 8000

    curl -H 'Content-Type: application/json' -d '{"x": [[0, 0.5, ...]], "y": ["cat"]}' localhost:8000/learn
    curl -H 'Content-Type: application/json' -d '{"x": [[0, 0.5, ...]]}' localhost:8000/predict
    curl localhost:8000/metrics     # also /health

The service learns a batch, writes it to the journal, syncs that file to disk, and only then answers. At start it loads
the saved learner and learns the rest of the journal again, batch by batch. The result has the same bits as a learner
that nobody interrupted, after a stop (SIGTERM: it finishes its requests, saves, exits with 0) and after a kill. A
client without an answer sees from `batches` in /health whether its batch counted.

Put your own network into `new_network`. One thread learns and predicts, in the order of the requests. The service has
no passwords: keep it on 127.0.0.1, or put a server with passwords in front.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import reprlib
import signal
import socket
import sys
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import torch

from synergy import Learner, TrainingError, UsageError
from synergy.disk import checkpoint, files, strict_json
from synergy.disk.locks import locked
from synergy.nets.mlp import MLP

try:
    import uvicorn
    from fastapi import FastAPI, HTTPException, Request
    from fastapi.responses import JSONResponse
    from starlette.requests import ClientDisconnect
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:
    sys.exit(f"{error}; install what this example needs with: pip install 'synergy-cl[service]'")

MAX_BYTES = 1 << 20
"""Largest body of a request."""
MAX_SAMPLES = 1000
"""Most samples in a batch."""
MAX_CLASSES = 1000
"""Most labels in all: each takes an output of the network."""
MAX_FEATURES = MAX_BYTES // 2
"""Most numbers in a sample: each takes a digit and a comma."""
LARGEST = 1e3
"""Largest absolute value in a sample."""
LONGEST = 100
"""Most characters in a label."""
SECONDS = 30
"""Time for the body of a request to arrive."""
QUIET_SECONDS = 5
"""Time for a connection to send the head of a request."""
CONNECTIONS = 64
"""Most connections at a time."""


def new_network(features: int) -> torch.nn.Module:
    """From `[B, features]` to logits. The initial weights are the same every time: a journal may start from them."""
    return MLP(features, 2, generator=torch.Generator().manual_seed(0))


class Service:
    """A learner and its journal in one folder, for one thread.

    Args:
        folder: of the saved learner and the journal of the batches since.
        features: numbers in a sample.
        save_every: batches between two saves. A larger number means fewer pauses and a slower start.

    Raises:
        UsageError: the content of the folder is damaged, or belongs to another network.
    """

    def __init__(self, folder: Path, features: int, save_every: int) -> None:
        self.saved, self.journal = folder / "learner", folder / "journal"
        self.features, self.save_every = features, save_every
        self.batches = 0
        self._learner: Learner | None = None
        _ = self.learner

    @property
    def learner(self) -> Learner:
        """The learner after all acknowledged batches."""
        if self._learner is None:
            net = new_network(self.features)
            if checkpoint.is_saved(self.saved):
                learner = Learner.load(self.saved, net)
            else:
                learner = Learner(net, "synergy", buffer_size=500, lr=0.05, clip_norm=10.0)
            self.batches = learner.metrics()["batches"]
            for number, x, y in journalled(self.journal):
                if number > self.batches + 1:
                    raise UsageError(f"journal {self.journal}: batch {self.batches + 1} is missing; use a backup")
                if number == self.batches + 1:  # an earlier batch is in the saved learner already
                    learner.observe(self.samples(x), y)
                    self.batches = number
            self._learner = learner
        return self._learner

    def learn(self, body: bytes) -> dict[str, Any]:
        """Learn a batch, and make it durable."""
        given = content(body, "x", "y")
        x, y = self.samples(given["x"]), labels(given["y"])
        learner = self.learner
        if len({*learner.classes, *y}) > MAX_CLASSES:
            raise UsageError(f"y: given labels beyond the first {MAX_CLASSES}; allowed: no more than these")
        try:
            learner.observe(x, y)
            files.append_line(self.journal, line(self.batches + 1, given["x"], y))
        except (TrainingError, OSError):
            self._learner = None  # It learned a batch that is not on disk. The next request loads what is.
            raise
        self.batches += 1
        if self.batches == 1 or self.batches % self.save_every == 0:
            try:
                self.save()
            except OSError as error:  # The journal has all batches: nothing is lost.
                print(f"not saved: {error}", file=sys.stderr, flush=True)
        return {"batches": self.batches}

    def predict(self, body: bytes) -> dict[str, Any]:
        """The most likely label of each sample, and its probability."""
        probabilities, outputs = self.learner.predict_proba(self.samples(content(body, "x")["x"])).max(1)
        classes = self.learner.classes
        return {"y": [classes[output] for output in outputs.tolist()], "probability": probabilities.tolist()}

    def metrics(self, _: bytes) -> dict[str, Any]:
        """The learner's metrics; classes as pairs, since a JSON object cannot tell 1 from "1"."""
        metrics = self.learner.metrics()
        metrics["memory"]["per_class"] = list(metrics["memory"]["per_class"].items())
        return metrics

    def save(self) -> None:
        """Save the learner, and begin the journal anew."""
        if self.batches:
            self.learner.save(self.saved)
            self.journal.write_bytes(b"")

    def samples(self, given: Any) -> torch.Tensor:
        """A batch `[B, features]`. Raises UsageError for anything else."""
        if not isinstance(given, list) or not 1 <= len(given) <= MAX_SAMPLES:
            raise UsageError(f"x: given {reprlib.repr(given)}; allowed: a list of 1 to {MAX_SAMPLES} samples")
        for number, sample in enumerate(given):
            if not isinstance(sample, list) or len(sample) != self.features:
                size = f"{len(sample)} values" if isinstance(sample, list) else reprlib.repr(sample)
                raise UsageError(f"x: sample {number} has {size}; allowed: a list of {self.features} numbers")
            for value in sample:
                if type(value) not in (int, float) or not abs(value) <= LARGEST:
                    allowed = f"numbers from -{LARGEST:g} to {LARGEST:g} (scale them)"
                    raise UsageError(f"x: sample {number} holds {reprlib.repr(value)}; allowed: {allowed}")
        return torch.tensor(given, dtype=torch.float32)


def labels(given: Any) -> list[str | int | float]:
    """The labels of a batch. Raises UsageError for anything but a list of labels."""
    if not isinstance(given, list):
        raise UsageError(f"y: given {reprlib.repr(given)}; allowed: a list, one label a sample")
    for label in given:
        if not is_text(label) and not (type(label) in (int, float) and abs(label) <= 2**53):
            raise UsageError(
                f"y: given {reprlib.repr(label)}; allowed: texts of up to {LONGEST} characters, none of them a control "
                "character or half of a surrogate pair, or numbers from -2^53 to 2^53"
            )
    return given


def is_text(label: Any) -> bool:
    """Whether a label is text without control characters; joiners and all spaces are allowed."""
    return type(label) is str and len(label) <= LONGEST and not {"Cc", "Cs"} & set(map(unicodedata.category, label))


def content(body: bytes, *names: str) -> dict[str, Any]:
    """The content of a request: a JSON object with exactly these entries."""
    try:
        found = strict_json.parse(body)
    except UsageError as error:
        raise HTTPException(400, f"body: {error}") from error
    if not isinstance(found, dict) or found.keys() != set(names):
        raise UsageError(f"body: given {reprlib.repr(found)}; allowed: an object of just {' and '.join(names)}")
    return found


def line(number: int, x: Any, y: Any) -> str:
    """A line of the journal: a checksum, then the batch as JSON, which keeps every number exactly."""
    text = json.dumps([number, x, y])
    return f"{hashlib.sha256(text.encode()).hexdigest()} {text}"


def journalled(path: Path) -> Iterator[tuple[int, Any, Any]]:
    """The batches of a journal. A last line that a crash tore is cut off: it was never acknowledged.

    Raises:
        UsageError: a complete line is damaged.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        end = 0
        for entry in file:
            checksum, _, text = entry.rstrip(b"\n").partition(b" ")
            if hashlib.sha256(text).hexdigest().encode() != checksum:
                if entry.endswith(b"\n"):
                    raise UsageError(f"journal {path}: damaged at byte {end}; use a backup")
                os.truncate(path, end)
                return
            end += len(entry)
            number, x, y = json.loads(text)
            yield number, x, y


async def received(request: Request) -> bytes:
    """The body of a request. A body that is too large is refused at once."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # This also keeps web pages in a browser from posting here.
        raise HTTPException(415, "Content-Type: allowed: application/json")
    too_large = HTTPException(413, f"body: allowed: up to {MAX_BYTES} bytes", {"Connection": "close"})
    if int(request.headers.get("content-length", "0")) > MAX_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise too_large
    except (TimeoutError, ClientDisconnect) as error:
        raise HTTPException(408, f"body: did not arrive within {SECONDS} s", {"Connection": "close"}) from error
    return bytes(body)


class Impatient(H11Protocol):
    """HTTP that closes silent connections in time, so that they do not shut out others."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._deadline is None:
            self._wait()

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(QUIET_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def application(service: Service, worker: ThreadPoolExecutor) -> FastAPI:
    """The service over HTTP. Only `worker`, a single thread, touches the learner."""
    app = FastAPI(title="synergy", docs_url=None, redoc_url=None, openapi_url=None)

    async def work(call: Callable[[bytes], dict[str, Any]], body: bytes) -> JSONResponse:
        return JSONResponse(await asyncio.get_running_loop().run_in_executor(worker, call, body))

    @app.post("/learn")
    async def learn(request: Request) -> JSONResponse:
        return await work(service.learn, await received(request))

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        return await work(service.predict, await received(request))

    @app.get("/metrics")
    async def metrics() -> JSONResponse:
        return await work(service.metrics, b"")

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok", "batches": service.batches})

    def refusing(status: int) -> Callable[[Request, Exception], JSONResponse]:
        return lambda _, error: JSONResponse({"detail": str(error)}, status)

    for kind, status in ((UsageError, 422), (TrainingError, 422), (OSError, 507)):
        app.add_exception_handler(kind, refusing(status))
    return app


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to the port, not listening yet. Raises UsageError if the port cannot be had."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"port: given {port} of {host} ({error.strerror}); allowed: one that is free (--port 0 finds one), of an "
            "address of this machine"
        ) from error
    return listener


def serve(options: argparse.Namespace) -> None:
    """Serve until told to stop, then save."""
    with (
        bound(options.host, options.port) as listener,
        ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as worker,
    ):
        service = worker.submit(Service, options.state, options.features, options.save_every).result()
        config = uvicorn.Config(
            application(service, worker),
            options.host,
            options.port,
            log_level="warning",
            http=Impatient,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=SECONDS,
        )
        listener.listen()  # whoever reads the next line may connect at once
        print(f"http://{options.host}:{listener.getsockname()[1]}", flush=True)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            worker.submit(service.save).result()


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """A type for argparse: whole numbers from `low` to `high`."""

    def number(text: str) -> int:
        allowed = f"whole numbers from {low} {'on' if high is None else f'to {high}'}"
        complaint = argparse.ArgumentTypeError(f"given {reprlib.repr(text)}; allowed: {allowed}")
        try:
            value = int(text)
        except ValueError as error:
            raise complaint from error
        if value < low or (high is not None and value > high):
            raise complaint
        return value

    return number


def make(folder: Path) -> None:
    """Make the folder, durably, if it is missing. Raises UsageError if something else is in its place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"state: given {folder}, which is a file or inside one; allowed: a folder") from error
    files.sync_folder(folder.parent)


def mistaken(message: str) -> NoReturn:
    """End with the exit code of a wrong argument."""
    print(message, file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Serve until told to stop."""
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, formatter_class=shown)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=whole(0, 65535), default=8000, help="0 for any that is free (default: 8000)")
    parser.add_argument("--state", type=Path, required=True, help="folder of what was learned")
    parser.add_argument("--features", type=whole(1, MAX_FEATURES), default=64, help="numbers in a sample (default: 64)")
    parser.add_argument("--save_every", type=whole(1), default=100, help="batches between two saves (default: 100)")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):  # before and after the server runs, which has handlers of its own
        signal.signal(number, lambda *_: sys.exit(0))
    folder: Path = options.state
    try:
        make(folder)
        (folder / "lock").touch()
        with locked(folder / "lock", patience=0):
            serve(options)
    except BlockingIOError:
        mistaken(f"state {folder}: another service uses it; name another folder")
    except UsageError as error:
        mistaken(str(error))
    except (TrainingError, OSError) as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
