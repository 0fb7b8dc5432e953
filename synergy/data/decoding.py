"""Many images to one array, by several processes: Pillow holds the interpreter's lock, so that threads would not help.

A process is `python -m synergy.data.decoding`. It takes jobs on its input and answers on its output, until its input
ends: so a user's script needs no protection, and nothing outlives the run. It imports no torch.

A job is a line of JSON, `[size, [[location, path or number of bytes], ...]]`, then the bytes of the images that are no
files. An answer is a line of JSON, the shape of the pixels or a complaint, then the pixels.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from math import prod
from queue import SimpleQueue
from typing import IO, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synergy.data import images
from synergy.errors import UsageError

TOGETHER = 200
"""Images of one job."""
FEW = 500
"""So many images are decoded here sooner than a process starts."""
MOST_PROCESSES = 8

Pixels: TypeAlias = NDArray[np.uint8]
_Process: TypeAlias = "subprocess.Popen[bytes]"


class Encoded(NamedTuple):
    """One image before it is decoded.

    Attributes:
        location: what messages call it.
        content: the content of a file, or its path.

    Examples:
        >>> Encoded("cat/1.png", "/data/animals/cat/1.png").location
        'cat/1.png'
    """

    location: str
    content: bytes | str


def decoded(encoded: Iterable[Encoded], total: int, size: int | None = None) -> Pixels:
    """The pixels of all images, `uint8 [total, C, H, W]`: C is 1 if all are grey, else 3.

    Args:
        encoded: the images, in order.
        total: their number.
        size: pixels of both sides (see `images.single`); None for images of one size.

    Raises:
        UsageError: an image cannot be read, is not one still image of 8 bits, or has another size than the first.
    """
    jobs = _jobs(iter(encoded))
    answers = (_decode(job, size) for job in jobs) if total <= FEW else _by_processes(jobs, size)
    whole: Pixels | None = None
    done = 0
    for first, part in answers:
        if whole is None:
            opening = first
            whole = _empty((total, *part.shape[1:]))
        elif part.shape[2:] != whole.shape[2:]:
            raise _other_size(first, part.shape[2:], opening, whole.shape[2:])
        elif part.shape[1] > whole.shape[1]:
            whole = _coloured(whole, done)
        whole[done : done + len(part)] = part
        done += len(part)
    assert whole is not None and done == total, f"{done} of {total} images"
    return whole


def _jobs(encoded: Iterator[Encoded]) -> Iterator[list[Encoded]]:
    while job := list(islice(encoded, TOGETHER)):
        yield job


def _decode(job: Sequence[Encoded], size: int | None) -> tuple[str, Pixels]:
    """The location of the first image, and the pixels of all, `uint8 [N, C, H, W]`."""
    first = job[0].location
    found = [images.single(each.content, each.location, size) for each in job]
    for each, image in zip(job, found, strict=True):
        if image.size != found[0].size:
            raise _other_size(each.location, image.size[::-1], first, found[0].size[::-1])
    if all(image.mode == images.GREY for image in found):
        return first, np.stack([np.asarray(image) for image in found])[:, np.newaxis]
    in_colour = (image if image.mode == images.COLOUR else image.convert(images.COLOUR) for image in found)
    colours = np.stack([np.asarray(image) for image in in_colour])
    return first, np.ascontiguousarray(colours.transpose(0, 3, 1, 2))


def _other_size(one: str, size: Sequence[int], first: str, of_first: Sequence[int]) -> UsageError:
    shown, expected = (f"{width}x{height}" for height, width in (size, of_first))
    return UsageError(
        f"images of several sizes: {one} is {shown}, {first} is {expected}; give --image_size to scale them to one"
    )


def _empty(shape: tuple[int, ...]) -> Pixels:
    try:
        return np.empty(shape, np.uint8)
    except MemoryError as error:
        need = f"{int(np.prod(shape, dtype=float)) / 1e9:.1f} GB for {shape[0]} images of {shape[3]}x{shape[2]}"
        raise UsageError(f"no memory for {need}; give a smaller --image_size") from error


def _coloured(grey: Pixels, done: int) -> Pixels:
    """The same images with three equal channels; the first `done` are there."""
    colours = _empty((len(grey), 3, *grey.shape[2:]))
    colours[:done] = grey[:done]
    return colours


def processes() -> int:
    """How many images can be decoded at once on this machine."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores, MOST_PROCESSES)


def _by_processes(jobs: Iterator[list[Encoded]], size: int | None) -> Iterator[tuple[str, Pixels]]:
    """What `_decode` makes of each job, in order; a few jobs at a time are on their way."""
    count = processes()
    with ExitStack() as stack:
        free: SimpleQueue[_Process] = SimpleQueue()
        for _ in range(count):
            free.put(stack.enter_context(_process()))
        threads = stack.enter_context(ThreadPoolExecutor(count))

        def answer(job: list[Encoded]) -> tuple[str, Pixels]:
            process = free.get()
            try:
                return job[0].location, _ask(process, job, size)
            finally:
                free.put(process)

        waiting: deque[Future[tuple[str, Pixels]]] = deque()
        for job in jobs:
            waiting.append(threads.submit(answer, job))
            if len(waiting) > 2 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _process() -> Iterator[_Process]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "synergy.data.decoding"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        process.stdout.close()
        with suppress(BrokenPipeError):  # what a dead process did not take
            process.stdin.close()
        process.wait()


def _ask(process: _Process, job: Sequence[Encoded], size: int | None) -> Pixels:
    assert process.stdin is not None and process.stdout is not None
    try:
        _send(process.stdin, job, size)
        answer = process.stdout.readline()
        if answer:
            header = json.loads(answer)
            if "complaint" in header:
                raise UsageError(header["complaint"])
            shape = tuple(header["shape"])
            pixels = process.stdout.read(prod(shape))
            if len(pixels) == prod(shape):
                return np.frombuffer(pixels, np.uint8).reshape(shape)
    except BrokenPipeError:
        pass
    raise UsageError(
        f"a process that decodes images ended with code {process.wait()} at {job[0].location}; if memory was short, "
        "give a smaller --image_size"
    )


def _send(into: IO[bytes], job: Sequence[Encoded], size: int | None) -> None:
    contents = [len(each.content) if isinstance(each.content, bytes) else each.content for each in job]
    header = [size, [[each.location, content] for each, content in zip(job, contents, strict=True)]]
    into.write(json.dumps(header).encode() + b"\n")
    for each in job:
        if isinstance(each.content, bytes):
            into.write(each.content)
    into.flush()


def _received(source: IO[bytes]) -> tuple[list[Encoded], int | None] | None:
    """A job; None at the end."""
    if not (line := source.readline()):
        return None
    size, items = json.loads(line)
    contents = [content if isinstance(content, str) else source.read(content) for _, content in items]
    return [Encoded(location, content) for (location, _), content in zip(items, contents, strict=True)], size


def serve(source: IO[bytes], target: IO[bytes]) -> None:
    """Answer jobs until they end. A job that cannot be decoded is answered with the complaint."""
    while (job := _received(source)) is not None:
        try:
            _, pixels = _decode(*job)
        except UsageError as error:
            target.write(json.dumps({"complaint": str(error)}).encode() + b"\n")
        else:
            target.write(json.dumps({"shape": pixels.shape}).encode() + b"\n")
            target.write(pixels.data)
        target.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    serve(sys.stdin.buffer, sys.stdout.buffer)
