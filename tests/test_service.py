"""The example service: a real process, a real client, real signals; and its journal."""

from __future__ import annotations

import http.client
import json
import operator
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from examples import service as module
from examples.service import MAX_BYTES, MAX_CLASSES, Service, journalled, line
from synergy import TrainingError, UsageError
from synergy.disk import files
from synergy.disk.locks import locked

SCRIPT = Path(module.__file__)
JSON = {"Content-Type": "application/json"}
PATIENCE = 60.0
"""Seconds that anything may take on a busy machine."""


@dataclass
class Process:
    """A running service."""

    popen: subprocess.Popen[bytes]
    port: int

    def call(self, verb: str, path: str, content: Any = None, headers: dict[str, str] = JSON) -> tuple[int, Any]:
        """Status and answer; `content` is sent as JSON unless it is bytes."""
        body = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        connection = self.connection()
        try:
            connection.request(verb, path, body, headers)
            return answer(connection)
        finally:
            connection.close()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def learn(self, batch: Any) -> int:
        status, content = self.call("POST", "/learn", batch)
        assert status == 200, content
        return int(content["batches"])

    def predict(self, x: Any) -> Any:
        status, content = self.call("POST", "/predict", {"x": x})
        assert status == 200, content
        return content

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait; the exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(PATIENCE)


def answer(connection: http.client.HTTPConnection) -> tuple[int, Any]:
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@contextmanager
def serving(state: Path, *options: str) -> Iterator[Process]:
    """The service on a port of its own; killed at the end if it still runs."""
    command = [sys.executable, str(SCRIPT), "--state", str(state), "--port", "0", "--features", "4", *options]
    out, err = state.with_suffix(".out"), state.with_suffix(".err")
    with out.open("wb") as stdout, err.open("wb") as stderr:
        popen = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + PATIENCE
        while not out.read_bytes().endswith(b"\n"):
            assert popen.poll() is None, err.read_text()
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.02)
        yield Process(popen, int(out.read_text().rpartition(":")[2]))
        assert b"Traceback" not in err.read_bytes(), err.read_text()
    finally:
        popen.kill()
        popen.wait(PATIENCE)


def batch(number: int, size: int = 8) -> dict[str, Any]:
    """Samples that the signs of two features tell apart, with labels of every kind; one comes with batch 5 only."""
    rng = random.Random(number)
    x = [[rng.uniform(-2, 2) for _ in range(4)] for _ in range(size)]
    names = ["a", 7, 2.5, "new" if number >= 5 else "a"]
    return {"x": x, "y": [names[(row[0] > 0) + 2 * (row[1] > 0)] for row in x]}


def body(number: int) -> bytes:
    return json.dumps(batch(number)).encode()


PROBE = batch(-1)["x"]


def never_interrupted(folder: Path, batches: int) -> Service:
    """In this process, without a stop."""
    folder.mkdir()
    service = Service(folder, 4, 1000)
    for number in range(batches):
        service.learn(body(number))
    return service


def assert_same(process: Process, service: Service) -> None:
    """All predictions are equal to the last bit: a float32 survives JSON."""
    assert process.predict(PROBE) == service.predict(json.dumps({"x": PROBE}).encode())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(tmp_path_factory.mktemp("service") / "state") as process:
        yield process


# Learning and predicting


def test_it_learns_and_predicts(running: Process) -> None:
    before = running.call("GET", "/health")[1]["batches"]
    for number in range(200, 280):
        count = running.learn(batch(number, 32))
    assert count == before + 80
    assert running.call("GET", "/health") == (200, {"status": "ok", "batches": count})
    test = batch(1000, 100)
    predicted = running.predict(test["x"])
    assert sum(map(operator.eq, predicted["y"], test["y"])) >= 70  # of a hundred, with four classes
    assert all(0.25 <= probability <= 1 for probability in predicted["probability"])
    status, metrics = running.call("GET", "/metrics")
    assert status == 200 and metrics["batches"] == count and 25 < metrics["accuracy"] <= 100
    assert {label for label, _ in metrics["memory"]["per_class"]} == {"a", 7, 2.5, "new"}


def test_learning_and_predicting_at_once(running: Process) -> None:
    before = running.learn(batch(0))

    def client(number: int) -> list[int]:
        if number % 2:
            return [len(running.predict(PROBE)["y"]) for _ in range(10)]
        return [running.learn(batch(300 + 10 * number + turn)) for turn in range(10)]

    with ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(client, range(6)))
    assert [answers[number] for number in (1, 3, 5)] == [[8] * 10] * 3
    counts = sorted(count for number in (0, 2, 4) for count in answers[number])
    assert counts == list(range(before + 1, before + 31))


# What it refuses

GOOD = [[0, 0.5, -1, 1]]
REFUSED: dict[str, tuple[int, Any]] = {
    "no JSON": (400, b"{"),
    "no text": (400, b"\xff\xfe"),
    "nothing": (400, b""),
    "NaN": (400, b'{"x": [[0, 0, 0, NaN]], "y": [1]}'),
    "infinity": (400, b'{"x": [[0, 0, 0, -Infinity]], "y": [1]}'),
    "a float beyond all": (400, b'{"x": [[0, 0, 0, 1e999]], "y": [1]}'),
    "a whole number beyond all": (422, b'{"x": [[0, 0, 0, 1' + b"0" * 400 + b']], "y": [1]}'),
    "a number of too many digits": (400, b'{"x": [[0, 0, 0, 1' + b"0" * 9000 + b']], "y": [1]}'),
    "nested without end": (400, b"[" * 200_000),
    "nested and closed": (400, b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "y": [1]}'),
    "a list": (422, [GOOD, [1]]),
    "no y": (422, {"x": GOOD}),
    "something else too": (422, {"x": GOOD, "y": [1], "z": 0}),
    "x a number": (422, {"x": 3, "y": [1]}),
    "x empty": (422, {"x": [], "y": []}),
    "x flat": (422, {"x": [1, 2, 3, 4], "y": [1]}),
    "x too deep": (422, {"x": [[[1, 2, 3, 4]]], "y": [1]}),
    "x of another width": (422, {"x": [[1, 2, 3]], "y": [1]}),
    "x ragged": (422, {"x": [[1, 2, 3, 4], [1, 2]], "y": [1, 2]}),
    "x of texts": (422, {"x": [["1", 2, 3, 4]], "y": [1]}),
    "x of truths": (422, {"x": [[True, 2, 3, 4]], "y": [1]}),
    "x too large": (422, {"x": [[1e9, 2, 3, 4]], "y": [1]}),
    "too many samples": (422, {"x": GOOD * 1001, "y": [1] * 1001}),
    "y a text": (422, {"x": GOOD, "y": "a"}),
    "y too long": (422, {"x": GOOD, "y": [1, 2]}),
    "y of nothing": (422, {"x": GOOD, "y": [None]}),
    "y of lists": (422, {"x": GOOD, "y": [[1]]}),
    "y of truths": (422, {"x": GOOD, "y": [True]}),
    "y not finite": (400, b'{"x": [[0, 0, 0, 0]], "y": [1e999]}'),
    "y half a character": (422, b'{"x": [[0, 0, 0, 0]], "y": ["\\ud800"]}'),
    "y a book": (422, {"x": GOOD, "y": ["a" * 101]}),
    "y of two lines": (422, {"x": GOOD, "y": ["a\nb"]}),
    "y a command to a terminal": (422, {"x": GOOD, "y": ["\x1b[2J"]}),
    "y too large": (422, {"x": GOOD, "y": [2**53 + 1]}),
    "x twice": (400, b'{"x": [[0, 0, 0, 0]], "x": [[1, 1, 1, 1]], "y": [1]}'),
    "y twice and the same": (400, b'{"x": [[0, 0, 0, 0]], "y": [1], "y": [1]}'),
    "too many classes": (422, {"x": GOOD * 500, "y": list(range(10_000, 10_500))}),
}


def test_what_is_no_batch_is_refused_in_one_line_and_changes_nothing(running: Process) -> None:
    running.learn({"x": GOOD * 600, "y": list(range(10_600, 11_200))})  # so that 500 more classes are too many
    before = running.predict(PROBE), running.call("GET", "/metrics")
    for name, (status, content) in REFUSED.items():
        given, reply = running.call("POST", "/learn", content)
        assert (name, given) == (name, status), reply
        assert set(reply) == {"detail"} and 5 < len(reply["detail"]) < 300 and "\n" not in reply["detail"], reply
    assert (running.predict(PROBE), running.call("GET", "/metrics")) == before


WORDS = [
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "\u0915\u094d\u200d\u0937",
    "10\u00a0kg",
    "\U0001f469\u200d\U0001f52c",
    "",
    "a" * 100,
]
"""With joiners, a space that does not break, an emoji of two."""


def test_texts_as_people_write_them_are_labels(folder: Path) -> None:
    service = Service(folder, 4, 1)
    x = [[float(column == row) for column in range(4)] for row in range(4)] * 2
    for _ in range(3):
        service.learn(json.dumps({"x": x[: len(WORDS)], "y": WORDS}).encode())
    assert Service(folder, 4, 1).learner.classes == WORDS


def test_a_label_that_is_refused_says_which_are_not() -> None:
    for label in ("a\x00", "\ud83d", -(2**53) - 1):
        with pytest.raises(UsageError, match=r"up to 100 characters, none .* control .* surrogate .* -2\^53 to 2\^53"):
            module.labels([label])
    assert module.labels([2**53, -(2**53), 0.5, "a"])


def test_a_media_type_is_the_same_in_capitals(running: Process) -> None:
    for kind in ("Application/JSON", "application/json; charset=utf-8", "APPLICATION/JSON;charset=UTF-8"):
        assert running.call("POST", "/learn", batch(0), {"Content-Type": kind})[0] == 200
    for kind in ("text/plain", "application/jsonp", ""):
        assert running.call("POST", "/learn", batch(0), {"Content-Type": kind})[0] == 415


def test_bad_samples_to_predict_and_bad_addresses(running: Process) -> None:
    running.learn(batch(0))
    assert running.call("POST", "/predict", {"x": [[1, 2]]})[0] == 422
    assert running.call("POST", "/predict", {"x": GOOD, "y": [1]})[0] == 422
    assert running.call("POST", "/predict", b"[NaN]")[0] == 400
    assert running.call("GET", "/nowhere") == (404, {"detail": "Not Found"})
    assert running.call("GET", "/learn")[0] == 405
    assert running.call("POST", "/learn", batch(0), {})[0] == 415  # what a form in a browser could send


@pytest.mark.parametrize("path", ["/learn", "/predict"])
def test_what_says_to_be_too_large_is_refused_unread(running: Process, path: str) -> None:
    connection = running.connection()
    connection.putrequest("POST", path)
    for name, value in (JSON | {"Content-Length": str(MAX_BYTES + 1)}).items():
        connection.putheader(name, value)
    connection.endheaders()
    assert answer(connection) == (413, {"detail": f"body: allowed: up to {MAX_BYTES} bytes"})
    connection.close()


@pytest.mark.parametrize("path", ["/learn", "/predict"])
def test_what_turns_out_too_large_is_refused(running: Process, path: str) -> None:
    connection = running.connection()
    connection.putrequest("POST", path)
    for name, value in (JSON | {"Transfer-Encoding": "chunked"}).items():
        connection.putheader(name, value)
    connection.endheaders()
    for size in (1000, MAX_BYTES - 1000):
        connection.send(b"%x\r\n" % size + b" " * size + b"\r\n")
    connection.send(b"ff\r\n ")  # the byte too many, and the rest never comes
    assert answer(connection)[0] == 413
    connection.close()
    assert running.call("GET", "/health")[0] == 200


# Ends


@pytest.mark.slow
def test_a_stop_and_a_kill_lose_nothing(tmp_path: Path) -> None:
    state, stopped, killed = tmp_path / "state", 5, 0
    reference = never_interrupted(tmp_path / "reference", stopped)
    with serving(state, "--save_every", "3") as process:
        status, reply = process.call("POST", "/predict", {"x": PROBE})
        assert status == 422 and "nothing was learned yet" in reply["detail"]
        assert [process.learn(batch(number)) for number in range(stopped)] == [1, 2, 3, 4, 5]
        assert_same(process, reference)
        assert process.end(signal.SIGTERM) == 0
    reference.save()
    for path in (tmp_path / "reference" / "learner").iterdir():
        assert path.read_bytes() == (state / "learner" / path.name).read_bytes(), path.name

    with serving(state, "--save_every", "1000") as process, ThreadPoolExecutor(1) as client:
        assert_same(process, reference)
        flood = client.submit(acknowledged, process, stopped)
        while process.call("GET", "/health")[1]["batches"] < stopped + 8:
            time.sleep(0.02)
        assert process.end(signal.SIGKILL) == -signal.SIGKILL
        killed = flood.result(PATIENCE)
    assert killed >= stopped + 7

    with serving(state) as process:
        durable = process.call("GET", "/health")[1]["batches"]
        assert durable in (killed, killed + 1)  # the last one may have been durable before it was acknowledged
        for number in range(stopped, durable):
            reference.learn(body(number))
        assert_same(process, reference)
        assert process.learn(batch(durable)) == durable + 1
        reference.learn(body(durable))
        assert_same(process, reference)


def acknowledged(process: Process, start: int) -> int:
    """Send one batch after the other until the service is gone; how many it has acknowledged in all."""
    for number in range(start, start + 10_000):
        try:
            process.learn(batch(number))
        except (OSError, http.client.HTTPException):
            return number
    raise AssertionError("the service was never killed")


# The journal, in this process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir()
    return path


def state_of(service: Service, where: Path) -> dict[str, bytes]:
    service.learner.save(where)
    return {path.name: path.read_bytes() for path in where.iterdir()}


def test_the_journal_gives_back_every_bit(folder: Path, tmp_path: Path) -> None:
    one = Service(folder, 4, 1000)
    for number in range(40):
        one.learn(body(number))
    assert len(list(journalled(one.journal))) == 39  # the first batch was saved, the others are only there
    other = Service(folder, 4, 1000)
    assert state_of(one, tmp_path / "one") == state_of(other, tmp_path / "other")


def test_what_was_saved_is_not_learned_again(folder: Path, tmp_path: Path) -> None:
    one = Service(folder, 4, 1000)
    for number in range(4):
        one.learn(body(number))
    journal = one.journal.read_bytes()
    one.save()
    one.journal.write_bytes(journal)  # as if it had been killed before the journal was emptied
    other = Service(folder, 4, 1000)
    assert other.batches == 4
    assert state_of(one, tmp_path / "one") == state_of(other, tmp_path / "other")


@pytest.mark.parametrize("left", [1, 30, 70, 200, -1])
def test_a_torn_last_line_is_cut_off(folder: Path, left: int) -> None:
    service = Service(folder, 4, 1000)
    for number in range(4):
        service.learn(body(number))
    whole = service.journal.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    service.journal.write_bytes(whole[: len(whole) - len(last)] + last[:left])
    expected = 4 if left == -1 else 3  # all but the end of the line is all of the batch
    again = Service(folder, 4, 1000)
    assert again.batches == expected
    assert again.learn(body(9)) == {"batches": expected + 1}
    assert Service(folder, 4, 1000).batches == expected + 1


def test_a_damaged_journal_is_refused(folder: Path) -> None:
    service = Service(folder, 4, 1000)
    for number in range(4):
        service.learn(body(number))
    lines = service.journal.read_bytes().splitlines(keepends=True)
    service.journal.write_bytes(lines[0] + lines[1].replace(b"0.", b"1.", 1) + lines[2])
    with pytest.raises(UsageError, match=f"damaged at byte {len(lines[0])}"):
        Service(folder, 4, 1000)
    service.journal.write_bytes(lines[0] + lines[2])
    with pytest.raises(UsageError, match="batch 3 is missing"):
        Service(folder, 4, 1000)


@pytest.mark.parametrize("damage", [(b"0.", b"1."), (b" ", b"\0"), (b"[", b"")])
def test_a_whole_last_line_that_is_damaged_was_acknowledged_and_is_not_cut_off(
    folder: Path, damage: tuple[bytes, bytes]
) -> None:
    service = Service(folder, 4, 1000)
    for number in range(4):
        service.learn(body(number))
    lines = service.journal.read_bytes().splitlines(keepends=True)
    damaged = b"".join(lines[:-1]) + lines[-1].replace(*damage, 1)
    service.journal.write_bytes(damaged)
    with pytest.raises(UsageError, match=f"damaged at byte {len(b''.join(lines[:-1]))}; use a backup"):
        Service(folder, 4, 1000)
    assert service.journal.read_bytes() == damaged


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), TrainingError("the loss became nan")])
def test_a_batch_that_does_not_become_durable_is_as_if_it_never_came(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    one, other = Service(folder, 4, 1000), never_interrupted(tmp_path / "other", 4)
    for number in range(4):
        one.learn(body(number))

    def fail(*_: object) -> None:
        raise failure

    with monkeypatch.context() as broken:
        broken.setattr(files, "append_line", fail)
        with pytest.raises(type(failure)):
            one.learn(body(8))
    assert one.learner.metrics()["batches"] == 4
    assert state_of(one, tmp_path / "a") == state_of(other, tmp_path / "b")
    assert one.learn(body(4)) == other.learn(body(4)) == {"batches": 5}


def test_a_save_that_fails_loses_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service(folder, 4, 2)

    def fail() -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(service, "save", fail)
    for number in range(4):
        service.learn(body(number))
    assert capsys.readouterr().err.count("not saved: No space left on device") == 3
    assert Service(folder, 4, 2).batches == 4


def test_an_entry_of_the_journal_is_one_line() -> None:
    entry = line(1, [[0.1, -0.0, 1e-45]], ["\n", "\u2028", 3])
    assert entry.isascii() and "\n" not in entry


def test_another_network_is_refused(folder: Path) -> None:
    Service(folder, 4, 1000).learn(body(0))
    with pytest.raises(UsageError, match="cannot take samples of shape"):
        Service(folder, 5, 1000)


def test_one_service_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "serve", lambda _: pytest.fail("it would have begun"))
    (folder / "lock").touch()
    with locked(folder / "lock"):
        assert ended(monkeypatch, "--state", str(folder), "--port", "0") == 2
    assert "another service uses it" in capsys.readouterr().err


def ended(monkeypatch: pytest.MonkeyPatch, *options: str) -> str | int | None:
    """The exit code of a service that ends at once."""
    monkeypatch.setattr(sys, "argv", ["service.py", *options])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        module.main()
    return caught.value.code


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--save_every", "0", "from 1 on"),
        ("--save_every", "-1", "from 1 on"),
        ("--save_every", "1.5", "from 1 on"),
        ("--features", "0", "from 1 to 524288"),
        ("--features", "-4", "from 1 to 524288"),
        ("--features", "1000000000000", "from 1 to 524288"),
        ("--port", "-1", "from 0 to 65535"),
        ("--port", "65536", "from 0 to 65535"),
    ],
)
def test_numbers_are_in_their_range(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    allowed: str,
) -> None:
    monkeypatch.setattr(module, "serve", lambda _: pytest.fail("it would have begun"))
    assert ended(monkeypatch, "--state", str(folder), option, value) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"argument {option}: given '{value}'; allowed: whole numbers {allowed}")


def test_a_file_is_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        assert ended(monkeypatch, "--state", str(path)) == 2
        said = capsys.readouterr().err
        assert said == f"state: given {path}, which is a file or inside one; allowed: a folder\n"


def test_a_port_in_use_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert ended(monkeypatch, "--state", str(folder), "--port", str(port)) == 2
        said = capsys.readouterr().err
    assert str(said).startswith(f"port: given {port} of 127.0.0.1 (Address already in use); allowed: one that is free")
    assert not (folder / "journal").exists()


def test_labels_are_limited(folder: Path) -> None:
    service = Service(folder, 4, 1000)
    service.learn(json.dumps({"x": [[0] * 4] * MAX_CLASSES, "y": list(range(MAX_CLASSES))}).encode())
    with pytest.raises(UsageError, match=f"beyond the first {MAX_CLASSES}"):
        service.learn(json.dumps({"x": [[0] * 4], "y": ["one more"]}).encode())
    assert service.batches == 1


# Connections


@pytest.mark.slow
def test_silent_connections_are_closed_and_shut_nobody_out(running: Process) -> None:
    """As many as may be open at a time; some of them say a little now and then, but never a whole request."""
    idle = [socket.create_connection(("127.0.0.1", running.port), PATIENCE) for _ in range(module.CONNECTIONS)]
    began = time.monotonic()
    try:
        assert answered(running) == 503, "they fill it for now"
        while answered(running) != 200:
            assert time.monotonic() - began < PATIENCE, "they shut it for all"
            for each in idle[:5]:
                with suppress(OSError):
                    each.send(b"G" if each is idle[0] else b"GET /health HTTP/1.1\r\nX: y")
            time.sleep(0.2)
        assert time.monotonic() - began >= module.QUIET_SECONDS - 1, "closed before its time"
        for each in idle[5:]:
            assert each.recv(100) == b""
    finally:
        for each in idle:
            each.close()


def answered(process: Process) -> int:
    connection = process.connection()
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


@pytest.mark.slow
def test_a_connection_may_be_used_again_and_again(running: Process) -> None:
    """Longer than a silent one may be open."""
    connection = running.connection()
    connection.connect()
    used = connection.sock
    began = time.monotonic()
    while time.monotonic() - began < module.QUIET_SECONDS + 1:
        connection.request("GET", "/health")
        assert answer(connection)[0] == 200 and connection.sock is used
        time.sleep(0.5)
    connection.close()
