"""SYNERgy on rotated MNIST, whole, against the floor: the arithmetic it needs at the rate this machine can do it.

    SYNERGY_DATA=folder python benchmarks/rot_mnist.py

Prints wall and CPU time, peak memory and steps per second of the whole run (buffer 500, 20 tasks, evaluation of both
networks on all 20 test sets after each), and the floor measured in the same process. Then the cost of one exact Fisher
pass over 500 samples relative to one forward and backward pass of the same samples, and the time to start.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from synergy.device import keep_freed_memory
from synergy.nets.mlp import MLP
from synergy.ops.fisher import fisher_diagonal
from synergy.ops.vectors import Flat
from synergy.runs.config import PresetChoice, build
from synergy.runs.prepare import prepare
from synergy.runs.session import execute

LAYERS = ((784, 100), (100, 100), (100, 10))
STREAM, REPLAY, MEMORY = 128, 128, 500
TASKS, TEST, NETWORKS = 20, 10_000, 2


def median_seconds(call: Callable[[], object], repeats: int = 30) -> float:
    """Median time of one call, after a few that do not count."""
    for _ in range(5):
        call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def operations(steps: int, fisher_share: float) -> float:
    """Multiplications and additions of the whole run, counted layer by layer.

    A forward pass costs 2 in out per sample and layer, the gradient of the weights the same, that of the inputs the
    same except in the first layer. A Fisher pass is a forward pass, the outputs' gradients, and one product of squares.
    """
    forward = sum(2 * i * o for i, o in LAYERS)
    to_inputs = sum(2 * i * o for i, o in LAYERS[1:])
    step = (STREAM + REPLAY) * (2 * forward + to_inputs) + REPLAY * forward
    fisher = MEMORY * (2 * forward + to_inputs)
    evaluation = (TASKS * NETWORKS + 1) * TASKS * TEST * forward
    return steps * (step + fisher_share * fisher) + evaluation


def best_rate() -> tuple[float, int]:
    """Operations per second of the best matrix product on shapes of this size, and with how many threads."""
    best = (0.0, 1)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for rows in (STREAM + REPLAY, MEMORY, 1000):
            a, b = torch.rand(rows, 784), torch.rand(784, 100)
            for left, right in ((a, b), (torch.rand(100, rows), a)):
                work = 2 * left.shape[0] * left.shape[1] * right.shape[1]
                rate = work / median_seconds(lambda left=left, right=right: left @ right, 200)  # type: ignore[misc]
                best = max(best, (rate, threads))
    return best


def fisher_ratio() -> float:
    """One exact Fisher pass over 500 samples, in forward and backward passes of the same samples."""
    net = MLP(784, 10, generator=torch.Generator().manual_seed(0))
    flat = Flat(net)
    inputs, labels = torch.rand(MEMORY, 1, 28, 28), torch.randint(0, 10, (MEMORY,))
    forward_backward = median_seconds(lambda: flat.backward(F.cross_entropy(net(inputs), labels)), 200)
    fisher = median_seconds(lambda: fisher_diagonal(net, inputs, labels), 200)
    print(f"Fisher pass over {MEMORY} samples   {1e3 * fisher:6.2f} ms", end="   ")
    print(f"forward and backward {1e3 * forward_backward:.2f} ms   ratio {fisher / forward_backward:.2f}")
    return fisher / forward_backward


def start_up() -> None:
    """Time of a fresh process until the first step could be taken, and until help is printed."""
    code = (
        "from synergy.runs.config import build; from synergy.runs.prepare import prepare\n"
        "p = prepare(build('rot-mnist', 'synergy', {})); next(p.scenario.task(0).batches(0))"
    )
    for name, command in (("first batch", ["-c", code]), ("--help", ["-m", "synergy.terminal.cli", "--help"])):
        times = []
        for _ in range(3):
            began = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
        print(f"start-up to {name:<20} {statistics.median(times):6.2f} s")


def main() -> None:
    """Run it all and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    keep_freed_memory()  # as the command line does; the floor below has it too
    with tempfile.TemporaryDirectory() as folder:
        given = {"buffer_size": MEMORY, "output_dir": folder}
        record, _ = execute(prepare(build("rot-mnist", "synergy", given, PresetChoice(wanted=True))))
    measured = record.measured
    answer = record.answer()
    rate, threads = best_rate()
    torch.set_num_threads(2)
    floor = operations(record.steps, float(record.config["method"]["fisher_update_freq"])) / rate
    print(f"device                       {record.device}, torch {record.versions['torch']}")
    print(f"final average ({answer.predictor})     {answer.metrics['final_average']:6.2f} %")
    print(f"wall time                    {measured.wall_s:6.1f} s")
    print(f"CPU time                     {measured.cpu_s:6.1f} s")
    print(f"training, evaluation         {measured.train_s:6.1f} s, {measured.evaluate_s:.1f} s")
    print(f"steps per second             {measured.steps_per_s:6.0f}")
    print(f"peak memory                  {measured.peak_memory_mb:6.0f} MB")
    print(f"best matrix product          {rate / 1e9:6.0f} Gflop/s with {threads} threads")
    print(f"floor                        {floor:6.1f} s   ratio {measured.wall_s / floor:.2f}")
    fisher_ratio()
    start_up()


if __name__ == "__main__":
    main()
