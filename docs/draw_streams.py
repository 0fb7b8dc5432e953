"""Draw the pictures of docs/scenarios: what the tasks of each stream look like, and the phases of GCIL.

SYNERGY_DATA=folder python docs/draw_streams.py
"""

from __future__ import annotations

from pathlib import Path

from synergy import testing
from synergy.report import pictures
from synergy.scenarios import SCENARIOS
from synergy.scenarios.gcil import GcilCifar100

FOLDER = Path(__file__).parent / "scenarios"


def main() -> None:
    """One picture for each scenario, and a heat map for each kind of GCIL."""
    for name in SCENARIOS:
        pictures.stream(testing.scenario(name, batch_size=8), FOLDER / f"{name}.png")
    for dist in ("unif", "longtail"):
        gcil = testing.scenario("gcil-cifar100", options={"weight_dist": dist})
        assert isinstance(gcil, GcilCifar100)
        counts, title = [phase.counts() for phase in gcil.phases], f"gcil-cifar100 --weight_dist {dist}"
        pictures.class_counts(counts, gcil.n_classes, FOLDER / f"gcil-{dist}.png", title)


if __name__ == "__main__":
    main()
