"""The file of tuned values that a search leaves: `synergy.presets.read` reads it."""

from __future__ import annotations

from collections.abc import Sequence

import tomli_w

from synergy.presets import Preset


def to_toml(presets: Sequence[Preset]) -> str:
    """The text of a file that `synergy.presets.read` reads.

    Examples:
        >>> print(to_toml([Preset("rot-digits", None, "sgd", None, {"lr": 0.1}, "chosen here: by hand")]))
        [[preset]]
        scenario = "rot-digits"
        method = "sgd"
        source = "chosen here: by hand"
        <BLANKLINE>
        [preset.values]
        lr = 0.1
        <BLANKLINE>
    """
    names = ("scenario", "variant", "method", "buffer_size", "source", "note")
    entries = []
    for preset in presets:
        known = {name: vars(preset)[name] for name in names}
        tables = {"values": dict(preset.values)} | ({"unused": dict(preset.unused)} if preset.unused else {})
        entries.append({name: value for name, value in known.items() if value not in (None, "")} | tables)
    return tomli_w.dumps({"preset": entries})
