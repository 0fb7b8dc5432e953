"""Trackers: places outside a run's folder that its course is logged to. A tracker is imported when it is asked for."""

from collections.abc import Mapping
from types import MappingProxyType

from synergy.registry import Registry
from synergy.runs.trackers.base import TrackedRun, Tracker

TRACKERS: Mapping[str, str] = MappingProxyType(
    {
        "tensorboard": "synergy.runs.trackers.tensorboard_log:TensorBoard",
        "mlflow": "synergy.runs.trackers.mlflow_log:MLflow",
        "wandb": "synergy.runs.trackers.wandb_log:Wandb",
    }
)
"""Our names -> their classes."""

TRACKER_CLASSES: Registry[Tracker] = Registry(
    "tracker",
    TRACKERS,
    base="synergy.runs.trackers.base:Tracker",
    options="synergy.options:Options",
    group="synergy.trackers",
)
"""All trackers, by name. Installed packages add theirs as entry points of the group `synergy.trackers`."""

__all__ = ["TRACKERS", "TRACKER_CLASSES", "TrackedRun", "Tracker"]
