"""What an analysis is: a question about a trained run, a function that answers it, and what to show of the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from synergy.analyses.trained import TrainedRun
from synergy.device import device_name
from synergy.options import Options
from synergy.runs import findings
from synergy.runs.findings import Description, Finding


@dataclass(frozen=True)
class NoOptions(Options):
    """Options of an analysis that has none.

    Examples:
        >>> NoOptions().as_mapping()
        {}
    """


@dataclass(frozen=True)
class Analysis:
    """An analysis of a trained run.

    Attributes:
        name: on the command line, and of its file.
        question: what it answers, in one line.
        options: the class of its options.
        compute: from a run and the options to a result, a dataclass of plain numbers.
        describe: what to show of a result.

    Examples:
        >>> from synergy.analyses.recency import ANALYSIS
        >>> ANALYSIS.name
        'recency'
    """

    name: str
    question: str
    options: type[Options]
    compute: Callable[[TrainedRun, Any], Any]
    describe: Callable[[Any], Description]

    def of(self, run: TrainedRun, options: Options | None = None) -> Finding:
        """The finding about a run.

        Raises:
            UsageError: the analysis says nothing about such a run.
        """
        chosen = self.options() if options is None else options
        result = self.compute(run, chosen)
        record = run.record
        return Finding(
            format=findings.FORMAT,
            analysis=self.name,
            run_id=record.run_id,
            started_at=record.measured.started_at,
            protocol=run.protocol,
            options=chosen.as_mapping(),
            device=device_name(run.prepared.device),
            shown=self.describe(result),
            result=dataclasses.asdict(result),
        )
