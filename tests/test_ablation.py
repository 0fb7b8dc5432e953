"""The ablation of `benchmarks/ablation.py` is what it says: equal streams, and nothing lost with the Fisher pass."""

from __future__ import annotations

import torch

from benchmarks.ablation import VARIANTS, WITHOUT_CONSOLIDATION, interval
from synergy.methods.synergy import Synergy
from synergy.runs.config import PresetChoice, build
from synergy.runs.prepare import prepare
from synergy.runs.training import Training


def trained(**changes: float) -> Synergy:
    prepared = prepare(build("seq-digits", "synergy", {"max_tasks": 2, **changes}, PresetChoice(wanted=True)))
    Training(prepared.worker, prepared.scenario, prepared.schedule, seed=0).run()
    assert isinstance(prepared.method, Synergy)
    return prepared.method


def test_without_its_weight_the_fisher_pass_changes_no_bit() -> None:
    # Both coins are thrown in every step, so a pass that is left out must not move the coin of the average.
    with_pass = trained(ema_update_freq=0.4, penalty_weight=0.0)
    without = trained(ema_update_freq=0.4, **WITHOUT_CONSOLIDATION)
    assert with_pass.fisher.is_set and not without.fisher.is_set
    assert torch.equal(with_pass.theta.values, without.theta.values)
    assert torch.equal(with_pass.phi.values, without.phi.values)


def test_every_part_that_is_left_out_changes_the_result() -> None:
    whole = trained()
    for method, changes in VARIANTS.values():
        if method == "synergy" and changes:
            assert not torch.equal(trained(**changes).phi.values, whole.phi.values)


def test_intervals_are_those_of_student() -> None:
    # Mean 2, standard deviation 1, three values: half width 4.303 / sqrt(3).
    assert interval([1.0, 2.0, 3.0]) == "+2.00 (-0.48 to +4.48)"
    assert interval([2.0, 2.1, 1.9]) == "**+2.00 (+1.75 to +2.25)**"
