"""Continual learning in PyTorch: SYNERgy, its baselines and its benchmarks, on streams with or without boundaries."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synergy.release import VERSION

if TYPE_CHECKING:
    from synergy.data.view import ImageView as ImageView
    from synergy.errors import TrainingError as TrainingError
    from synergy.errors import UsageError as UsageError
    from synergy.methods import method_class as method_class
    from synergy.methods.base import Method as Method
    from synergy.methods.base import Setting as Setting
    from synergy.nets import net_class as net_class
    from synergy.nets.base import Network as Network
    from synergy.runs.config import PresetChoice as PresetChoice
    from synergy.runs.config import RunConfig as RunConfig
    from synergy.runs.config import build as build
    from synergy.runs.records import Record as Record
    from synergy.runs.trackers.base import Tracker as Tracker
    from synergy.scenarios import scenario_class as scenario_class
    from synergy.scenarios.base import Scenario as Scenario
    from synergy.stream.faces.estimator import SynergyClassifier as SynergyClassifier
    from synergy.stream.learner import Learner as Learner
    from synergy.types import Batch as Batch

__version__ = VERSION

_HOMES = {
    "ImageView": "data.view",
    "Batch": "types",
    "Learner": "stream.learner",
    "Method": "methods.base",
    "Network": "nets.base",
    "PresetChoice": "runs.config",
    "Record": "runs.records",
    "RunConfig": "runs.config",
    "Scenario": "scenarios.base",
    "Setting": "methods.base",
    "SynergyClassifier": "stream.faces.estimator",
    "Tracker": "runs.trackers.base",
    "TrainingError": "errors",
    "UsageError": "errors",
    "build": "runs.config",
    "method_class": "methods",
    "net_class": "nets",
    "scenario_class": "scenarios",
}
"""Public name -> module, imported when first asked for: the command line prints its help without torch."""

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'synergy' has no attribute '{name}'")
    return vars(import_module(f"synergy.{_HOMES[name]}"))[name]
