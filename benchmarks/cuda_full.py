"""Everything that only a GPU can show, in parts of at most nine minutes, for a machine at hand for minutes only.

    python benchmarks/cuda_full.py --out records --parts parity replay methods sync  # about 6 minutes
    python benchmarks/cuda_full.py --out records --parts step fisher                 # about 5 minutes
    SYNERGY_DATA=folder python benchmarks/cuda_full.py --out records --parts run  # 8 minutes of the plan, in its order
    SYNERGY_DATA=folder python benchmarks/cuda_full.py --out records --parts run --runs seq-cifar10:clser:500:0
    python benchmarks/cuda_full.py --out records --device cpu --tiny                 # does it run at all

- `parity` (1 minute): SYNERGy in float64. Weights and Fisher information after three steps on the device differ from
  those on the CPU by at most 1e-9, and a Fisher pass on the device from one sample at a time there.
- `replay` (1 minute): replayed steps of SYNERGy, with an MLP and a ResNet-18, give the bits of steps computed anew, in
  every precision.
- `methods` (3 minutes): runs on the digits, replayed, give the bits of runs computed anew: every method whose steps can
  be replayed, in `tf32` and `bf16`; two of them with dropout, and stopped and resumed on the way.
- `sync` (1 minute): steps, computed anew and replayed, during which any wait for the device is an error.
- `step` (4 minutes): a step computed anew, the same replayed, how long the device is busy and with how many operations,
  and the floor: the convolutions alone.
- `fisher` (1 minute): a Fisher pass over 500 samples, likewise.
- `run` (as long as `--minutes`, 8 by default): whole runs, `scenario:method:buffer:seed[:option=value]`, by default
  `PLAN` in its order. A run that is not done by then is stopped with a checkpoint in `--out`. It goes on from that at
  the next call, on this machine or the next; one that is finished is left as it is. `mean-er` is SYNERGy without
  consolidation. seq-cifar100 has the values of seq-cifar10: for its five tasks accuracies are published, and no values.

From one machine to the next goes the folder `--out`. A run keeps one checkpoint; with a ResNet-18 that of CLS-ER or
SYNERGy has 136 MB, that of ER or DER++ 46 MB. Where only small files can travel, cut the folder into pieces:

    tar c records | split -b 15M - piece.                         # here
    cat piece.* | tar x                                           # there
    tar cz --exclude checkpoint records > records.tar.gz          # what is to be kept of finished runs

The parts exit with an error if what they check does not hold. The times of the parts are estimates: no GPU has run this
script in its present form.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synergy.data.view import CIFAR, ImageView
from synergy.device import device_name, exactness
from synergy.engine.recorders import CudaGraphs, Play, Recorder, StaticBuffers
from synergy.engine.worker import Means, Worker
from synergy.errors import UsageError
from synergy.memory.store import Samples
from synergy.methods import METHODS, method_class
from synergy.methods.base import Setting
from synergy.methods.synergy import Synergy, SynergyConfig
from synergy.nets.mlp import MLP
from synergy.nets.resnet import ResNet18
from synergy.ops.fisher import fisher_diagonal
from synergy.ops.vectors import channels_last
from synergy.presets import find
from synergy.runs.config import PresetChoice, RunConfig, build
from synergy.runs.prepare import prepare
from synergy.runs.records import RECORD_NAME, read
from synergy.runs.resume import resume
from synergy.runs.session import execute
from synergy.runs.training import Stopped, Training
from synergy.state import State, same
from synergy.terminal.console import closing
from synergy.types import Step

BOUND = 1e-9
"""Largest relative difference in float64, between devices and between ways to compute."""
PRECISIONS = ("fp32", "tf32", "bf16")
TINY = {"max_tasks": 2, "max_steps_per_task": 3}
CHECKPOINT_EVERY = 2000
SEEDS = (0, 1, 2)
PLAN = (
    "rot-mnist:synergy:500:0",
    *(
        f"seq-cifar10:{method}:500:{seed}"
        for seed in SEEDS
        for method in ("clser", "synergy", "derpp", "er", "mean-er")
    ),
    *(f"seq-cifar10:{method}:200:{seed}" for seed in SEEDS for method in ("clser", "derpp", "er")),
    *(
        f"gcil-cifar100:{method}:500:{seed}:weight_dist={weights}"
        for seed in SEEDS
        for method in ("clser", "er")
        for weights in ("unif", "longtail")
    ),
    *(f"seq-cifar100:clser:500:{seed}:n_tasks=5" for seed in SEEDS),
)
"""Whole runs: a short one for its time, then those whose accuracy is published, first what decides most."""
WITHOUT_CONSOLIDATION = {"penalty_weight": 0.0, "fisher_update_freq": 0.0}
VALUES_OF = {"seq-cifar100": "seq-cifar10"}
"""Scenarios without tuned values, and those whose values they take."""


class Bench:
    """A network at work on noise.

    Args:
        device: of the network.
        kind: "resnet" or "mlp".
        tiny: a narrow network and a small memory.
        dtype: of the network.
        last: channels last.
        fisher: probability of a Fisher pass per step.
    """

    def __init__(
        self,
        device: torch.device,
        kind: str,
        tiny: bool,
        dtype: torch.dtype = torch.float32,
        last: bool = False,
        fisher: float = 0.0,
    ) -> None:
        self.device, self.last = device, last
        self.images = kind == "resnet"
        self.size = 32 if self.images else 128
        self.shape = (3, 32, 32) if self.images else (1, 28, 28)
        self.view = replace(CIFAR if self.images else ImageView(), dtype=dtype)
        self.width = 4 if tiny else 64
        self.memory = 40 if tiny else 500
        draw = min(self.size, self.memory)
        self.config = SynergyConfig(
            buffer_size=self.memory, minibatch_size=draw, lr=0.02, penalty_weight=1.0, fisher_update_freq=fisher
        )
        self.dtype = dtype

    def net(self, name: str) -> nn.Module:
        """The network, the same on every device."""
        generator = torch.Generator().manual_seed(0)
        made = ResNet18(10, self.width, generator=generator) if self.images else MLP(784, 10, generator=generator)
        placed: nn.Module = made.to(self.device, self.dtype)
        return channels_last(placed) if self.last and self.width >= 16 else placed

    def worker(self, precision: str, recorder: Recorder | None) -> Worker:
        """SYNERgy with a full memory."""
        method = Synergy(self.config, Setting(self.net, self.view, 10, fisher_memory_mb=8192))
        raw, labels = self.samples(0, self.memory)
        method.memory.offer(Samples(raw, labels))
        means = Means(self.device, precision, eager=recorder is None)
        return Worker(method, means, recorder=recorder)

    def samples(self, seed: int, n: int) -> tuple[Tensor, Tensor]:
        """Noise, the same on every device."""
        generator = torch.Generator().manual_seed(seed)
        raw = torch.randint(0, 256, (n, *self.shape), dtype=torch.uint8, generator=generator)
        return raw.to(self.device), torch.randint(0, 10, (n,), generator=generator).to(self.device)

    @cached_property
    def batch(self) -> tuple[Tensor, Tensor]:
        """The stream batch of every step."""
        return self.samples(1, self.size)

    def learn(self, worker: Worker, steps: int) -> Step:
        """Steps as a run takes them: decided together where that is possible."""
        rng = np.random.default_rng(0)
        raw, labels = self.batch
        for start in range(0, steps, worker.reach):
            count = min(worker.reach, steps - start)
            draws = [self.view.decide(self.size, rng) for _ in range(count)]
            for planned in worker.plan([self.size] * count, draws):
                step = worker.take(raw, labels, planned, self.view)
        return step


def is_last(kind: str, precision: str) -> bool:
    """Whether channels are last: in all precisions but fp32, so that both layouts are seen."""
    return kind == "resnet" and precision != "fp32"


class Counted:
    """A recorder that counts its recordings.

    Args:
        recorder: makes them.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.made = 0

    def warming(self) -> AbstractContextManager[object]:
        return self._recorder.warming()

    def record(self, compute: Play) -> Play:
        self.made += 1
        return self._recorder.record(compute)


def recorder_of(device: torch.device) -> Counted:
    """A recorder of graphs; on the CPU static buffers alone."""
    return Counted(CudaGraphs(device) if device.type == "cuda" else StaticBuffers())


def wait(device: torch.device) -> None:
    """Until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(device: torch.device, work: Callable[[], object], turns: int) -> float:
    """Median time of a turn, ms."""
    work()
    times = []
    for _ in range(turns):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def busy(device: torch.device, work: Callable[[], object]) -> str:
    """How many operations a turn takes on a GPU and how long they take, ms, as two cells of a table."""
    if device.type != "cuda":
        return "- | -"
    work()
    wait(device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
        wait(device)
    found = [event for event in profile.events() if event.device_type.name == "CUDA"]
    return f"{len(found)} | {sum(event.device_time for event in found) / 1e3:.2f}"


def parity(device: torch.device, tiny: bool) -> None:
    """Weights and Fisher after a few steps in float64, on the device and on the CPU; a pass against single samples."""
    found = []
    for each in (torch.device("cpu"), device):
        bench = Bench(each, "resnet", True, torch.float64, fisher=1.0)
        worker = bench.worker("fp32", None)
        with exactness("fp32"):
            bench.learn(worker, 3)
        method = worker.method
        assert isinstance(method, Synergy) and method.fisher.is_set
        found.append([vector.cpu() for vector in (method.theta.values, method.phi.values, method.fisher.values)])
    for name, mine, theirs in zip(("working", "semantic", "fisher"), *found, strict=True):
        must_agree(f"{name}, cpu and {device.type}", mine, theirs)
    net, (raw, labels) = bench.net("net"), bench.samples(0, bench.memory)
    inputs = bench.view.plain(raw)
    with exactness("fp32"):
        passes = fisher_diagonal(net, inputs, labels, filter_means=True), fisher_one_by_one(net, inputs, labels)
    together, alone = (torch.cat([part.flatten() for part in each]) for each in passes)
    must_agree("a Fisher pass, together and one by one", together, alone)


def must_agree(what: str, one: Tensor, other: Tensor) -> None:
    """Print how much two vectors differ; an error if that is too much."""
    difference = float((one - other).norm() / one.norm())
    print(f"  {what}: relative difference {difference:.1e}, allowed {BOUND:.0e}")
    if not difference <= BOUND:
        raise SystemExit(f"{what}: they differ too much")


def fisher_one_by_one(net: nn.Module, inputs: Tensor, labels: Tensor) -> list[Tensor]:
    """The Fisher information by its definition, one sample after the other, each normalised by its own statistics.

    Returns:
        As `fisher_diagonal`, with filter means.
    """
    net = deepcopy(net).train()
    parameters = list(net.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for x, y in zip(inputs.split(1), labels.tolist(), strict=True):
        log_likelihood = F.log_softmax(net(x), 1)[0, y]
        grads = torch.autograd.grad(log_likelihood, parameters)
        for part, grad in zip(total, grads, strict=True):
            part += log_likelihood.detach().exp() * grad.square() / len(inputs)
    return [part.mean((1, 2, 3), keepdim=True) if part.dim() == 4 else part for part in total]


def replay(device: torch.device, tiny: bool) -> None:
    """The state after steps computed anew and after replayed ones, bit by bit."""
    for kind, precision in itertools.product(("mlp", "resnet"), PRECISIONS):
        states = []
        for recorder in (None, recorder_of(device)):
            bench = Bench(device, kind, tiny, last=is_last(kind, precision), fisher=0.2)
            worker = bench.worker(precision, recorder)
            bench.learn(worker, 24 if tiny else 60)
            states.append(worker.state_dict())
            if recorder is not None:
                must_have_recorded(f"{kind} {precision}", worker, recorder)
        if not same(*states):
            raise SystemExit(f"{kind} {precision}: replayed steps gave other bits")


def must_have_recorded(what: str, worker: Worker, recorder: Counted) -> None:
    """Print how many kinds of steps were recorded; an error if some could not be, or none were."""
    assert worker.replays is not None, "it was given a recorder"
    refusal = worker.replays.refusal
    print(f"  {what}: recordings: {recorder.made}", flush=True)
    if refusal is not None or not recorder.made:
        raise SystemExit(f"{what}: not replayed ({refusal})")


class Dropping(nn.Sequential):
    """A perceptron with dropout.

    Args:
        shape: of a sample.
        n_classes: outputs.
    """

    def __init__(self, shape: tuple[int, ...], n_classes: int) -> None:
        size = int(np.prod(shape))
        super().__init__(nn.Flatten(), nn.Linear(size, 50), nn.ReLU(), nn.Dropout(0.3), nn.Linear(50, n_classes))


def methods(device: torch.device, tiny: bool) -> None:
    """The state after runs computed anew and replayed, bit by bit: every method that can be replayed."""
    names = [name for name in METHODS if method_class(name).waits is None]
    usual = [DigitsRun(device, name, precision, tiny) for name in names for precision in ("tf32", "bf16")]
    for run in (*usual, *(DigitsRun(device, name, "tf32", tiny, dropout=True) for name in ("er", "synergy"))):
        recorder = recorder_of(device)
        anew, replayed = run.ended(None), run.ended(recorder, stop_after=13 if run.dropout else None)
        must_have_recorded(f"{run}", replayed.worker, recorder)
        if not same(*(_without_times(each.state_dict()) for each in (anew, replayed))):
            raise SystemExit(f"{run}: the replayed run ended with other bits")


@dataclass(frozen=True)
class DigitsRun:
    """Two short tasks of split digits.

    Attributes:
        device: of the run.
        name: of the method.
        precision: "fp32", "tf32" or "bf16".
        tiny: even shorter.
        dropout: with a network that draws.
    """

    device: torch.device
    name: str
    precision: str
    tiny: bool
    dropout: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.precision}{', dropout, stopped and resumed' * self.dropout}"

    def training(self, recorder: Recorder | None) -> Training:
        """Before its first step; replayed with a recorder, otherwise computed anew."""
        kind, net = method_class(self.name), {"net": f"{__file__}:Dropping"} if self.dropout else {}
        own = {"ema_update_freq": 0.5, "fisher_update_freq": 0.2, "buffer_size": 40, "minibatch_size": 16}
        given = {
            **{option: value for option, value in own.items() if option in kind.Config.names()},
            "batch_size": kind.only_batch_size or 16,
            "n_epochs": 4,
            "max_tasks": 2,
            "max_steps_per_task": 20 if self.tiny else 60,
            "device": self.device.type,
            "precision": self.precision,
            "eager": recorder is None,
        }
        prepared = prepare(build("seq-digits", self.name, given | net))
        worker = Worker(prepared.method, prepared.worker.means, draws=self.dropout, recorder=recorder)
        return Training(worker, prepared.scenario, prepared.schedule, seed=0)

    def ended(self, recorder: Recorder | None, stop_after: int | None = None) -> Training:
        """At its end. After `stop_after` steps another one goes on from its state."""
        loop = self.training(recorder)
        loop.should_stop = lambda: stop_after is not None and loop.steps >= stop_after
        with exactness(self.precision):
            try:
                loop.run()
            except Stopped:
                first, loop = loop, self.training(recorder)
                loop.load_state_dict(first.state_dict())
                loop.run()
        return loop


def _without_times(state: State) -> State:
    return {name: value for name, value in state.items() if name not in ("train_s", "evaluate_s")}


def sync(device: torch.device, tiny: bool) -> None:
    """Steps, computed anew and replayed, in which a wait for a CUDA device is an error."""
    for name, recorder in (("computed anew", None), ("replayed", recorder_of(device))):
        bench = Bench(device, "resnet", tiny, fisher=1.0)
        worker = bench.worker("fp32", recorder)
        bench.learn(worker, 8)
        with without_waits(device):
            bench.learn(worker, 8)
        wait(device)
        print(f"  8 steps {name} without a wait")


@contextmanager
def without_waits(device: torch.device) -> Iterator[None]:
    """Within, a wait for a CUDA device is an error."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def step(device: torch.device, tiny: bool) -> None:
    """A table of steps, ms."""
    turns, steps = (1, 2) if tiny else (5, 100)
    print("  | step | anew, ms | operations | busy, ms | replayed, ms | convolutions, ms | replayed / convolutions |")
    print("  |---|---|---|---|---|---|---|")
    for kind, precision, fisher in (
        *(("resnet", precision, 0.0) for precision in PRECISIONS),
        ("mlp", "fp32", 0.0),
        ("mlp", "fp32", 1.0),
    ):
        last = is_last(kind, precision)
        bench = Bench(device, kind, tiny, last=last, fisher=fisher)
        times, work = [], ""
        for recorder in (None, recorder_of(device)):
            worker = bench.worker(precision, recorder)
            bench.learn(worker, 8)
            work = work or busy(device, partial(bench.learn, worker, 1))
            times.append(timed(device, partial(bench.learn, worker, steps), turns) / steps)
        floor = convolutions(bench, precision, turns) if kind == "resnet" else None
        label = f"{kind} {precision}{', channels last' * last}{', with a Fisher pass' * bool(fisher)}"
        alone = "| |" if floor is None else f"{floor:.3f} | {times[1] / floor:.2f} |"
        print(f"  | {label} | {times[0]:.3f} | {work} | {times[1]:.3f} | {alone}", flush=True)


def convolutions(bench: Bench, precision: str, turns: int) -> float:
    """The convolutions of a step alone, recorded: 64 and 32 samples with a backward pass, 32 without, ms."""
    net, layers = bench.net("net"), list[tuple[nn.Conv2d, tuple[int, ...]]]()
    hooks = [
        module.register_forward_hook(lambda layer, given, _: layers.append((layer, given[0].shape[1:])))
        for module in net.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        net(torch.zeros(1, *bench.shape, device=bench.device))
    for hook in hooks:
        hook.remove()
    work = [
        _convolution(layer, shape, n, backward, precision, bench.last)
        for layer, shape in layers
        for n, backward in ((64, True), (32, True), (32, False))
    ]

    def all_of_them() -> Step:
        for each in work:
            each()
        return Step({})

    recorder = recorder_of(bench.device)
    with exactness(precision):
        with recorder.warming():
            all_of_them()
        return timed(bench.device, recorder.record(all_of_them), turns)


def _convolution(
    layer: nn.Conv2d, shape: tuple[int, ...], n: int, backward: bool, precision: str, last: bool
) -> Callable[[], object]:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    inputs = torch.rand(n, *shape, device=layer.weight.device, dtype=dtype)
    if last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    weight = layer.weight.detach().to(dtype)
    stride, padding = layer.stride, layer.kernel_size[0] // 2
    if not backward:
        return lambda: F.conv2d(inputs, weight, stride=stride, padding=padding)
    leaves = [weight.requires_grad_(), *([inputs.requires_grad_()] if shape[0] > 3 else [])]

    def both() -> object:
        out = F.conv2d(inputs, weight, stride=stride, padding=padding)
        return torch.autograd.grad(out, leaves, torch.ones_like(out))

    return both


def fisher(device: torch.device, tiny: bool) -> None:
    """A Fisher pass over the memory, computed anew and recorded, ms."""
    print("  | Fisher pass | anew, ms | operations | busy, ms | recorded, ms |")
    print("  |---|---|---|---|---|")
    for precision in ("tf32", "fp32"):  # in a run in bf16 it is that of fp32
        bench = Bench(device, "resnet", tiny, last=precision == "tf32")
        work = partial(_fisher_pass, bench, bench.net("net"), *bench.samples(0, bench.memory))
        recorder = recorder_of(device)
        with exactness(precision):
            anew = timed(device, work, 1 if tiny else 5)
            with recorder.warming():
                work()
            recorded = timed(device, recorder.record(work), 1 if tiny else 5)
            label = f"{precision}{', channels last' * bench.last}, {bench.memory} samples"
            print(f"  | {label} | {anew:.1f} | {busy(device, work)} | {recorded:.1f} |", flush=True)


def _fisher_pass(bench: Bench, net: nn.Module, raw: Tensor, labels: Tensor) -> Step:
    squares = fisher_diagonal(net, bench.view.plain(raw), labels, filter_means=True, memory_mb=16384)
    return Step({"loss": squares[0].sum()})


def whole_runs(device: torch.device, tiny: bool, out: Path, runs: Sequence[str], minutes: float) -> None:
    """Runs one after the other, until all are done or the time is over; at the end an error names those that failed."""
    deadline = time.monotonic() + 60 * minutes
    failed = []
    for number, described in enumerate(runs):
        if number == 0 or time.monotonic() < deadline:
            try:
                complaint = whole_run(device, tiny, out, described, deadline)
            except UsageError as error:  # such as missing data; other runs may have theirs
                complaint = str(error)
            if complaint is not None:
                print(f"  {described}: {complaint}", flush=True)
                failed.append(described)
    if failed:
        raise SystemExit(f"failed: {' '.join(failed)}")


def whole_run(device: torch.device, tiny: bool, out: Path, described: str, deadline: float) -> str | None:
    """A run with tuned values, from its checkpoint if there is one, until it is done or the time is over.

    Returns:
        Why it failed; None if it did not.
    """
    name = described.replace(":", "-").replace("=", "-")
    folder = out / name

    def is_over() -> bool:
        return time.monotonic() > deadline

    if (folder / RECORD_NAME).exists() and read(folder).status == "finished":
        print(f"  {name}: finished before", flush=True)
        return None
    print(f"  {name}", flush=True)
    if folder.exists():
        record, folder = resume(folder, should_stop=is_over)
    else:
        given = {"device": device.type, "output_dir": str(out), "experiment_id": name}
        record, folder = execute(prepare(planned(described, tiny, given)), should_stop=is_over)
    print(closing(record))
    more = "; the next call goes on" if record.status == "interrupted" else ""
    print(f"  {record.status}, {record.measured.wall_s:.0f} s, {folder}{more}", flush=True)
    return record.error if record.status == "failed" else None


def planned(described: str, tiny: bool, given: Mapping[str, Any]) -> RunConfig:
    """The configuration of a run of `PLAN`, with tuned values and the usual means of its device.

    Args:
        described: as in `PLAN`.
        tiny: a narrow network, a few steps, and no tuned values.
        given: further options.
    """
    scenario, method, buffer, seed, *more = described.split(":")
    options: dict[str, Any] = {"buffer_size": int(buffer), "seed": int(seed)}
    options |= {"checkpoint_every": CHECKPOINT_EVERY, "keep": 1}
    if method == "mean-er":
        method, options = "synergy", options | WITHOUT_CONSOLIDATION
    for name, value in (each.split("=") for each in more):
        options[name] = int(value) if value.isdigit() else value
    if tiny:
        options |= TINY | ({"width": 4} if "cifar" in scenario else {})
        return build(scenario, method, {**options, **given})
    if scenario in VALUES_OF:
        tuned = find(VALUES_OF[scenario], method, int(buffer), None, nearest=False)
        return build(scenario, method, {**tuned.values, **options, **given})
    return build(scenario, method, {**options, **given}, PresetChoice(wanted=True))


CHECKS: dict[str, Callable[[torch.device, bool], None]] = {
    "parity": parity,
    "replay": replay,
    "methods": methods,
    "sync": sync,
    "step": step,
    "fisher": fisher,
}


def main(arguments: list[str] | None = None) -> None:
    """Run the parts asked for, each with its time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*CHECKS, "run"]
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--runs", nargs="+", default=PLAN, metavar="SCENARIO:METHOD:BUFFER:SEED")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all runs together")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="narrow networks, a few steps")
    parsed = parser.parse_args(arguments)
    device, tiny = torch.device(parsed.device), parsed.tiny
    print(f"device {device_name(device)}, torch {torch.__version__}")
    for name in parsed.parts:
        began = time.perf_counter()
        print(name, flush=True)
        if name == "run":
            whole_runs(device, tiny, parsed.out, parsed.runs, parsed.minutes)
        else:
            CHECKS[name](device, tiny)
        print(f"  {name}: {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
