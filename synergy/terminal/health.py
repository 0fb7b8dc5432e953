"""What `synergy doctor` looks at: each check tries the real thing and says what it found, and what to do.

The checks import what they try inside themselves: a library that cannot be loaded is a finding.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from synergy.release import release

Level: TypeAlias = Literal["ok", "warning", "problem"]

LIBRARIES = ("torch", "numpy", "scipy", "safetensors", "pillow", "scikit-learn", "pyarrow", "tqdm", "tomli-w")
"""What the package needs."""
MODULES = MappingProxyType({"pillow": "PIL", "scikit-learn": "sklearn", "tomli-w": "tomli_w"})
"""Libraries whose module has another name."""
EXTRAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "report": ("matplotlib", "jinja2"),
        "terminal": ("rich",),
        "completion": ("shtab",),
        "search": ("optuna",),
        "cluster": ("ray",),
        "hub": ("datasets",),
        "tensorboard": ("tensorboard",),
        "mlflow": ("mlflow",),
        "wandb": ("wandb",),
        "transformers": ("transformers",),
        "adapters": ("transformers", "peft"),
        "timm": ("timm",),
        "river": ("river",),
        "service": ("fastapi", "uvicorn"),
    }
)
"""The libraries of each extra."""
LITTLE_SPACE, NO_SPACE = 2_000, 100
"""Free space in 10^6 bytes below which a run is in doubt, or cannot be."""
TOLERANCE = 1e-3
"""Relative difference of a loss between two devices that rounding explains."""
STEPS = 3


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        what: was looked at, in a word or two.
        text: what is there.
        do: what to do about it; empty where nothing is to be done.

    Examples:
        >>> Finding("warning", "disk", "1 GB free", "make room").do
        'make room'
    """

    level: Level
    what: str
    text: str
    do: str = ""


def findings() -> Iterator[Finding]:
    """All findings, one check after the other. A check that fails in a way nobody foresaw is a problem of its own."""
    for check in CHECKS:
        try:
            yield from check()
        except (OSError, RuntimeError, ValueError, ImportError, TypeError, AttributeError, LookupError) as error:
            fix = "mend the installation" if isinstance(error, ImportError) else "report it as a defect"
            yield Finding("problem", check.__name__, f"cannot be looked at: {_said(error)}", fix)


def versions() -> Iterator[Finding]:
    """Python and the libraries that the package needs."""
    found = {name: release(name) for name in LIBRARIES}
    shown = ", ".join(f"{name} {version}" for name, version in found.items())
    yield Finding("ok", "versions", f"synergy-cl {release()}, Python {platform.python_version()}, {shown}")
    for name in LIBRARIES:
        try:
            import_module(MODULES.get(name, name))
        except (ImportError, OSError) as error:
            yield Finding("problem", name, f"cannot be loaded: {_said(error)}", f"pip install --force-reinstall {name}")


def devices() -> Iterator[Finding]:
    """A few real training steps on each device, compared with the CPU's."""
    import torch

    expected = None
    for name in _device_names():
        try:
            losses = steps_on(name)
        except (RuntimeError, ValueError, OSError) as error:
            fix = "look at the driver and at torch's build" if name != "cpu" else "install torch anew"
            yield Finding("problem", f"device {name}", f"{STEPS} training steps failed: {_said(error)}", fix)
            continue
        yield judged(name, losses, expected)
        expected = losses if expected is None else expected
    if _has_gpu() and not torch.cuda.is_available():
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
        fix = "install torch for CUDA from pytorch.org; with a build for CUDA, look at the driver: nvidia-smi"
        yield Finding(
            "warning", "device cuda", f"there is an NVIDIA GPU that torch cannot use; torch is for {build}", fix
        )


def judged(name: str, losses: Mapping[str, float], expected: Mapping[str, float] | None) -> Finding:
    """What a device's losses say: they must be finite, and those of the CPU but for rounding.

    >>> judged("cuda", {"loss": 2.5}, {"loss": 2.3}).level
    'problem'
    """
    shown = ", ".join(f"{term} {value:.4f}" for term, value in losses.items())
    what = f"{STEPS} training steps, {shown}"
    if not losses or not all(map(math.isfinite, losses.values())):
        return Finding("problem", f"device {name}", what, "this device computes wrongly; use another, as --device cpu")
    apart = [
        t for t in losses if expected and not math.isclose(losses[t], expected[t], rel_tol=TOLERANCE, abs_tol=1e-6)
    ]
    if apart and expected:
        wanted = ", ".join(f"{term} {expected[term]:.4f}" for term in apart)
        fix = "this device computes wrongly; use another, as --device cpu"
        return Finding("problem", f"device {name}", f"{what}; the CPU has {wanted}", fix)
    return Finding("ok", f"device {name}", what + (", as on the CPU" if expected else ""))


def steps_on(device: str) -> dict[str, float]:
    """The losses after a few steps of SYNERgy on the bundled digits."""
    from synergy.device import exactness, memory_errors
    from synergy.runs.config import build
    from synergy.runs.prepare import prepare
    from synergy.runs.training import Training

    budget = {"max_tasks": 1, "max_steps_per_task": STEPS, "fisher_update_freq": 1.0, "precision": "fp32"}
    prepared = prepare(build("rot-digits", "synergy", {"device": device, **budget}))
    training = Training(prepared.worker, prepared.scenario, prepared.schedule, seed=0)
    with exactness("fp32"), memory_errors():
        training.run()
    return {name: math.nan if value is None else float(value) for name, value in training.last_losses.items()}


def data() -> Iterator[Finding]:
    """Each published data set: whether its files are there, whole and readable."""
    from synergy.data.sources import load
    from synergy.errors import UsageError

    digits = load("digits")
    yield Finding("ok", "data digits", f"bundled, {len(digits.train)} + {len(digits.test)} samples")
    given = os.environ.get("SYNERGY_DATA")
    folder = Path(given) if given else None
    if folder is not None and not folder.is_dir():
        fix = "set SYNERGY_DATA to a folder with <data set>/train-*.parquet, or unset it"
        yield Finding("problem", "data", f"SYNERGY_DATA: {folder} is not a folder", fix)
        return
    from synergy.data.published import PUBLISHED

    for name in PUBLISHED:
        try:
            yield _data_set(name, folder)
        except UsageError as error:
            yield Finding("problem", f"data {name}", str(error), f"fetch the files of {PUBLISHED[name].hub_id} anew")


def _data_set(name: str, folder: Path | None) -> Finding:
    """Every row of every file is read, and the first image of each file is decoded."""
    from synergy.data.parquet import inspected
    from synergy.data.published import PUBLISHED
    from synergy.data.sources import published_files

    published = PUBLISHED[name]
    files = None if folder is None else published_files(published, folder)
    if files is None:
        where = "SYNERGY_DATA is not set" if folder is None else f"not in {folder}"
        if release("datasets") != "not installed":
            return Finding("ok", f"data {name}", f"{where}: the first run fetches {published.hub_id} from the hub")
        fix = "pip install 'synergy-cl[hub]', or set SYNERGY_DATA to a folder that has it (docs/data.md)"
        return Finding("warning", f"data {name}", f"{where}, and the extra for the hub is not installed", fix)
    counts = tuple(sum(inspected(published, file) for file in part) for part in files)
    text = f"{counts[0]} + {counts[1]} samples in {folder}, readable"
    if counts == (published.train_samples, published.test_samples):
        return Finding("ok", f"data {name}", text)
    whole = f"of {published.train_samples} + {published.test_samples}"
    return Finding(
        "warning", f"data {name}", f"{text}; a part, {whole}", f"for published numbers fetch {published.hub_id}"
    )


def cache() -> Iterator[Finding]:
    """The folder of decoded images: its size, and whether it can be written."""
    from synergy.data.cache import default_parent
    from synergy.errors import UsageError

    fix = "set SYNERGY_CACHE to a folder that can be written; without it every start decodes all images again"
    try:
        folder = default_parent()
    except UsageError as error:
        yield Finding("problem", "cache", str(error), fix)
        return
    try:
        entries = [each for each in folder.iterdir() if each.is_dir()] if folder.exists() else []
        size = sum(file.stat().st_size for entry in entries for file in entry.iterdir()) / 1e6
        _try_writing(folder)
    except OSError as error:
        yield Finding("problem", "cache", f"{folder}: {error.strerror or error}", fix)
        return
    yield Finding("ok", "cache", f"{folder}: {len(entries)} data sets, {size:.0f} MB, can be written")


def _try_writing(folder: Path) -> None:
    """Write a file in `folder`, or in the nearest folder above it that exists, and remove it. Raises OSError."""
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryFile("wb", dir=folder) as file:
        file.write(b"synergy")
        file.flush()


def disk() -> Iterator[Finding]:
    """Free space where runs, caches and temporary files go."""
    from synergy.data.cache import default_parent
    from synergy.errors import UsageError

    places = {"here": Path.cwd(), "temporary files": Path(tempfile.gettempdir())}
    with suppress(UsageError):  # `cache` tells of it
        places["cache"] = default_parent()
    for name, folder in places.items():
        yield space(name, folder)


def space(name: str, folder: Path, little: float = LITTLE_SPACE, none: float = NO_SPACE) -> Finding:
    """The free space of the disk that a folder is on. Bounds in 10^6 bytes."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e6
    level: Level = "problem" if free < none else "warning" if free < little else "ok"
    shown = f"{free / 1000:.1f} GB" if free >= 1000 else f"{free:.0f} MB"
    return Finding(level, f"disk, {name}", f"{shown} free in {folder}", "" if level == "ok" else "make room")


def output() -> Iterator[Finding]:
    """Whether runs can be written here."""
    folder = Path("runs")
    try:
        _try_writing(folder.absolute())
    except OSError as error:
        fix = "go to another folder, or name one with --output_dir"
        yield Finding("problem", "runs", f"{folder.absolute()} cannot be written: {error.strerror or error}", fix)
        return
    yield Finding("ok", "runs", f"{folder.absolute()} can be written")


def extras() -> Iterator[Finding]:
    """The optional libraries: which are there, and how to get the others."""
    for extra, names in EXTRAS.items():
        there = {name: release(name) for name in names}
        missing = [name for name, version in there.items() if version == "not installed"]
        if missing:
            fix = f"if you need it: pip install 'synergy-cl[{extra}]'"
            yield Finding("ok", f"extra {extra}", f"{', '.join(missing)} not installed; {fix}")
        else:
            yield Finding("ok", f"extra {extra}", ", ".join(f"{name} {version}" for name, version in there.items()))


def threads() -> Iterator[Finding]:
    """Settings that make a run slow: more threads than cores, a busy machine, a container's share."""
    import torch

    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    share = cpu_share(Path("/sys/fs/cgroup/cpu.max"))
    load = os.getloadavg()[0] if sys.platform != "win32" else 0.0
    yield from thread_findings(os.environ, torch.get_num_threads(), cores, share, load)


def cpu_share(file: Path) -> float | None:
    """The processors that a container may use, from its `cpu.max`; None without a bound."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def thread_findings(
    environment: Mapping[str, str], used: int, cores: int, share: float | None, load: float
) -> Iterator[Finding]:
    """What these settings mean for the speed of a run.

    Args:
        environment: variables by name.
        used: threads that torch uses.
        cores: processors that this process may use.
        share: processors that the container may use; None without a bound.
        load: processes that wanted a processor, averaged over the last minute.

    >>> [finding.level for finding in thread_findings({"OMP_NUM_THREADS": "8"}, 8, 2, None, 0.1)]
    ['warning']
    """
    fix = "set OMP_NUM_THREADS, as in: OMP_NUM_THREADS={} synergy run …"
    usable = max(1, min(cores, math.floor(share))) if share is not None else cores
    bound = f"{cores} cores" if usable == cores else f"{usable} of {cores} cores, the container's share"
    found = False
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        given = environment.get(name)
        if given is None:
            continue
        if not (given.isascii() and given.isdigit() and int(given) > 0):
            found = True
            yield Finding("warning", "threads", f"{name} is {given!r}, no number of threads", fix.format(usable))
        elif int(given) > usable:
            found = True
            yield Finding("warning", "threads", f"{name} is {given}, for {bound}", fix.format(usable))
    if used > usable and not found:
        found = True
        yield Finding("warning", "threads", f"torch uses {used} threads, for {bound}", fix.format(usable))
    elif load > cores and used > 1 and "OMP_NUM_THREADS" not in environment:
        found = True
        busy = f"the machine is shared: {load:.1f} processes for {cores} cores, and torch would use {used} threads"
        yield Finding("warning", "threads", busy, fix.format(1))
    if not found:
        yield Finding("ok", "threads", f"torch uses {used} of {cores} cores, load {load:.1f}")


def _device_names() -> list[str]:
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return ["cpu", *(name for name, available in there.items() if available)]


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _said(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    versions,
    devices,
    threads,
    data,
    cache,
    disk,
    output,
    extras,
)
