"""Results that others published, as data: one TOML file, every number with its source."""

from synergy.presets.published.reader import PublishedResult, results

__all__ = ["PublishedResult", "results"]
