"""Everything that only a GPU can show, in one command of less than nine minutes, in parts that can be run one by one.

    SYNERGY_DATA=folder python benchmarks/cuda_full.py --out records [--parts parity sync step seq-cifar10 gcil]
    python benchmarks/cuda_full.py --device cpu --tiny --out records     # does it run at all

Parts: `parity` compares a step on the device with the same step on the CPU; `sync` takes SYNERgy steps while any wait
for the device is an error; `step` is benchmarks/resnet_step.py there; `seq-cifar10` and `gcil` (unif and longtail) are
whole runs with tuned values, their records written to `--out`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from synergy.data.view import CIFAR
from synergy.device import device_name
from synergy.methods.base import Setting
from synergy.methods.synergy import Synergy, SynergyConfig
from synergy.nets.resnet import ResNet18
from synergy.ops.vectors import parameter_vector
from synergy.runs.config import PresetChoice, build
from synergy.runs.prepare import prepare
from synergy.runs.session import execute
from synergy.terminal.console import closing
from synergy.types import Batch

FULL = {"memory_format": "channels_last"}
TINY = {"width": 4, "max_tasks": 2, "max_steps_per_task": 3}


def learner(device: torch.device, width: int) -> Synergy:
    """SYNERgy on a ResNet with a small memory, every update at every step."""

    def net(name: str) -> torch.nn.Module:
        return ResNet18(10, width, generator=torch.Generator().manual_seed(0)).to(device)

    options = {"ema_update_freq": 1.0, "fisher_update_freq": 1.0, "penalty_weight": 1.0}
    config = SynergyConfig(buffer_size=40, minibatch_size=16, lr=0.02, **options)
    return Synergy(config, Setting(net, CIFAR, 10))


def batches(device: torch.device, n: int) -> list[Batch]:
    """Batches of noise, the same on every device."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for _ in range(n):
        raw = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=generator).to(device)
        labels = torch.randint(0, 10, (16,), generator=generator).to(device)
        made.append(Batch(raw, CIFAR.plain(raw), labels))
    return made


def parity(device: torch.device, tiny: bool) -> None:
    """Relative difference of weights and Fisher after a few steps on both devices."""
    width = 4 if tiny else 16
    host, other = learner(torch.device("cpu"), width), learner(device, width)
    for a, b in zip(batches(torch.device("cpu"), 4), batches(device, 4), strict=True):
        host.observe(a)
        other.observe(b)
    assert host.fisher.is_set and other.fisher.is_set
    for name, mine, theirs in (
        ("working", parameter_vector(host.net), parameter_vector(other.net).cpu()),
        ("semantic", parameter_vector(host.semantic), parameter_vector(other.semantic).cpu()),
        ("fisher", host.fisher.values, other.fisher.values.cpu()),
    ):
        print(f"  {name}: relative difference {float((mine - theirs).norm() / mine.norm()):.2e}")


def sync(device: torch.device, tiny: bool) -> None:
    """Steps in which a wait for the device would be an error (on CUDA; elsewhere they only run)."""
    method, stream = learner(device, 4 if tiny else 64), batches(device, 8)
    for batch in stream[:3]:
        method.observe(batch)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_sync_debug_mode("error")
    began = time.perf_counter()
    for batch in stream[3:]:
        method.observe(batch)
    queued = time.perf_counter() - began
    if cuda:
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()
    print(f"  5 steps queued in {1e3 * queued:.1f} ms, done in {1e3 * (time.perf_counter() - began):.1f} ms, no wait")


def step(device: torch.device, tiny: bool) -> None:
    """benchmarks/resnet_step.py on the device."""
    arguments = ["--device", device.type, *(["--width", "16", "--turns", "1"] if tiny else [])]
    subprocess.run([sys.executable, str(Path(__file__).with_name("resnet_step.py")), *arguments], check=True)


def whole_run(device: torch.device, tiny: bool, out: Path, scenario: str, **options: Any) -> None:
    """A run with tuned values; its record stays in `out`."""
    given: dict[str, Any] = {"device": device.type, "output_dir": str(out), **options, **(TINY if tiny else FULL)}
    record, folder = execute(prepare(build(scenario, "synergy", given, PresetChoice(wanted=True))))
    print(closing(record))
    print(f"  {record.status}, {record.measured.wall_s:.0f} s, {folder}")


def main() -> None:
    """Run the parts asked for, each with its time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["parity", "sync", "step", "seq-cifar10", "gcil"]
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu", "mps"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="narrow networks, a few steps")
    parsed = parser.parse_args()
    device, tiny, out = torch.device(parsed.device), parsed.tiny, parsed.out
    print(f"device {device_name(device)}, torch {torch.__version__}")
    parts: dict[str, list[Callable[[], None]]] = {
        "parity": [lambda: parity(device, tiny)],
        "sync": [lambda: sync(device, tiny)],
        "step": [lambda: step(device, tiny)],
        "seq-cifar10": [lambda: whole_run(device, tiny, out, "seq-cifar10", buffer_size=500)],
        "gcil": [
            lambda: whole_run(device, tiny, out, "gcil-cifar100", weight_dist="unif", buffer_size=500),
            lambda: whole_run(device, tiny, out, "gcil-cifar100", weight_dist="longtail", buffer_size=500),
        ],
    }
    for name in parsed.parts:
        for part in parts[name]:
            began = time.perf_counter()
            print(f"{name}", flush=True)
            part()
            print(f"  {name}: {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
