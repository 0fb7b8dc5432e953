"""What a folder of images costs: `SYNERGY_DATA=folder python benchmarks/own_data.py [--rounds 5] [--images 50000]`.

Writes images of CIFAR-10 as PNG files into a temporary folder, a folder for each class. In each round, in turn:

- decoding alone: a process for each core opens its share of the files with Pillow and makes arrays of them, which it
  throws away; the time of the slowest, without its start;
- reading: `split:FOLDER` without a cache, until the data can be used and the cache is on the disk;
- reading again: the same from the cache, with all its checksums.

Prints medians and ranges by the clock and of processor time, all processes together, and the ratios of a round. On a
machine that does other work too, processor time is the fairer one.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from synergy.data import sources
from synergy.data.decoding import processes
from synergy.data.folder import FolderReader
from synergy.data.labelled import HeldOut

ALONE = """
import sys, time
import numpy as np
from PIL import Image

with open(sys.argv[1], encoding="utf-8") as file:
    paths = file.read().splitlines()
print("ready", flush=True)
input()
began = time.perf_counter()
for path in paths:
    with Image.open(path) as image:
        np.asarray(image)
print(time.perf_counter() - began)
"""
"""A process that decodes the files in a list."""


class Cost(NamedTuple):
    """Seconds by the clock, and on the processors."""

    clock: float
    processors: float


def write(folder: Path, count: int) -> None:
    """The first images of CIFAR-10 as PNG files."""
    train = sources.load("cifar10").train
    names = [folder / str(label) for label in train.classes]
    for name in names:
        name.mkdir(parents=True)
    pixels = train.raw[:count].permute(0, 2, 3, 1).numpy()
    for number, (image, label) in enumerate(zip(pixels, train.labels[:count].tolist(), strict=True)):
        Image.fromarray(image).save(names[label] / f"{number:05}.png")


def decoding_alone(folder: Path, scratch: Path) -> float:
    """Seconds that as many processes as there are cores need to decode all files, without their start."""
    paths = [str(path) for path in sorted(folder.rglob("*.png"))]
    count = processes()
    workers = []
    for number in range(count):
        listed = scratch / f"paths-{number}"
        listed.write_text("\n".join(paths[number::count]), encoding="utf-8")
        command = [sys.executable, "-c", ALONE, str(listed)]
        workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"))
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    return max(float(worker.communicate()[0]) for worker in workers)


def reading(folder: Path, cache: Path) -> float:
    """Seconds until the data can be used."""
    began = time.perf_counter()
    sources.read(FolderReader(folder, "images", HeldOut(0.2, 0)), cache)
    return time.perf_counter() - began


def measured(work: Callable[[], float]) -> Cost:
    """What a piece of work takes, with all its processes."""
    before = _processor_time()
    seconds = work()
    return Cost(seconds, _processor_time() - before)


def _processor_time() -> float:
    usages = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=50_000)
    given = parser.parse_args()
    alone, first, again = [], [], []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder, cache = scratch / "images", scratch / "cache"
        write(folder, given.images)
        for _ in range(given.rounds):
            alone.append(measured(lambda: decoding_alone(folder, scratch)))
            first.append(measured(lambda: reading(folder, cache)))
            again.append(measured(lambda: reading(folder, cache)))
            shutil.rmtree(cache)
            print(alone[-1], first[-1], again[-1], file=sys.stderr, flush=True)
    print(f"{given.images} images of 32x32 as PNG files, {processes()} processes, {given.rounds} rounds")
    for field in Cost._fields:
        print(f"seconds, {field}")
        columns = [[cost._asdict()[field] for cost in costs] for costs in (alone, first, again)]
        for what, times in zip(("decoding alone", "reading", "reading again, from the cache"), columns, strict=True):
            print(f"  {what:<30} {statistics.median(times):5.2f}, from {min(times):.2f} to {max(times):.2f}")
        ratios = [one / other for one, other in zip(columns[1], columns[0], strict=True)]
        print(
            f"  {'reading / decoding alone':<30} {statistics.median(ratios):5.2f}, "
            f"from {min(ratios):.2f} to {max(ratios):.2f}"
        )


if __name__ == "__main__":
    main()
