"""Starts what runs need in the background, while the study is still being planned. Imports no torch itself."""

from __future__ import annotations

import multiprocessing
import os
import sys

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""A run of a study has one thread, so that it has the same bits beside others as alone."""


def warm_up() -> None:
    """Start the fork server, which loads the library once for all runs. On Windows each run loads it itself."""
    if sys.platform != "win32":
        from multiprocessing import forkserver

        for name in THREADS:
            os.environ[name] = "1"
        multiprocessing.set_forkserver_preload(["synergy.studies.preloaded"])
        forkserver.ensure_running()
