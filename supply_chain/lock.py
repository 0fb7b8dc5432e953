"""Write the two locks, with the hashes of all files on the index: `make lock`. Needs uv.

`requirements.lock` has what every machine needs. `requirements-cuda.lock` has what a CUDA build of torch needs beside
it; a machine with a CPU build leaves it out. The same number of torch names both builds, but their files differ: the
lock holds the hashes of PyPI's files, and of a CPU build if pip finds one where the lock is written. Hashes of CPU
builds of earlier times stay as long as torch's number stays. The extra `timm` is left out: it needs torchvision, whose
build must match that of torch.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK, CUDA_LOCK = ROOT / "requirements.lock", ROOT / "requirements-cuda.lock"
CUDA = ("nvidia-", "cuda-", "triton")
"""How the names of the packages begin that a CUDA build of torch needs."""
UNLOCKED = ("timm",)
"""Extras that the lock leaves out."""
HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
HEAD = "# Written by `make lock`. Every file is checked against its hash when it is installed.\n"


def main() -> None:
    before = entries(LOCK.read_text(encoding="utf-8")) if LOCK.exists() else {}
    now = entries(_resolved())
    version = re.match(r"torch==([\d.]+)", now["torch"])
    assert version is not None, now["torch"]
    kept = HASH.findall(before["torch"]) if before.get("torch", "").startswith(version[0] + " ") else []
    now["torch"] = with_hashes(now["torch"], [*kept, *_local_build(version[1])])
    cuda = {name: entry for name, entry in now.items() if name.startswith(CUDA)}
    LOCK.write_text(HEAD + "".join(entry for name, entry in now.items() if name not in cuda), encoding="utf-8")
    CUDA_LOCK.write_text(HEAD + "".join(cuda.values()), encoding="utf-8")


def entries(lock: str) -> dict[str, str]:
    """The parts of a lock by the name of their package: a line with the version, then hashes and comments."""
    parts = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE | re.IGNORECASE)
    return {re.split(r"[=<>;\s\[]", part, maxsplit=1)[0]: part for part in parts if not part.startswith("#") and part}


def with_hashes(entry: str, hashes: Iterable[str]) -> str:
    """The entry, allowing these hashes (`sha256:…`) as well."""
    allowed = sorted({*HASH.findall(entry), *hashes})
    first, *_ = entry.splitlines()
    comments = [line for line in entry.splitlines() if line.lstrip().startswith("#")]
    head = first.removesuffix("\\").rstrip()
    return "\n".join([" \\\n".join([head, *(f"    --hash={each}" for each in allowed)]), *comments, ""])


def _resolved() -> str:
    """All packages for all platforms, pinned. The versions of the present lock stay where they can."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lock"
        present = (path.read_text(encoding="utf-8") for path in (LOCK, CUDA_LOCK) if path.exists())
        output.write_text("".join(present), encoding="utf-8")
        command = "uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header"
        command += " --default-index https://pypi.org/simple --constraint constraints.txt --output-file"
        extras = [f"--extra={name}" for name in _extras() if name not in UNLOCKED]
        subprocess.run([*command.split(), str(output), *extras, "pyproject.toml"], cwd=ROOT, check=True)
        return output.read_text(encoding="utf-8")


def _extras() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["optional-dependencies"])


def _local_build(version: str) -> list[str]:
    """The hash of the torch that pip finds here, if it is a local build such as `2.13.0+cpu`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*command, f"torch=={version}"], check=True)
        return [
            f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in Path(folder).glob("torch-*+*.whl")
        ]


if __name__ == "__main__":
    main()
