"""Tuned values as data: one TOML file per scenario, every entry with the source of its values."""

from synergy.presets.loader import Preset, Value, available, choose, find, read

__all__ = ["Preset", "Value", "available", "choose", "find", "read"]
