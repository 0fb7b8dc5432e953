"""Questions about a finished run, answered from its checkpoint. One analysis, one file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from synergy.analyses.base import Analysis
from synergy.errors import unknown

ANALYSES: Mapping[str, str] = {
    "stability": "synergy.analyses.stability",
    "recency": "synergy.analyses.recency",
    "calibration": "synergy.analyses.calibration",
    "confusion": "synergy.analyses.confusion",
    "flatness": "synergy.analyses.flatness",
    "robustness": "synergy.analyses.robustness",
    "consolidation": "synergy.analyses.consolidation",
}
"""Name -> module, in the order of a report."""


def analysis(name: str) -> Analysis:
    """An analysis by name.

    Raises:
        UsageError: there is none of that name.

    Examples:
        >>> analysis("calibration").question
        'is it right as often as it says?'
    """
    if name not in ANALYSES:
        raise unknown("analysis", name, ANALYSES)
    found: Analysis = vars(import_module(ANALYSES[name]))["ANALYSIS"]
    return found
