"""A place where runs work one after the other, in this process."""

from __future__ import annotations

from pathlib import Path

from synergy.studies.pool import News
from synergy.studies.work import go_on


class Inline:
    """Takes a few runs and makes them when it is asked for news.

    Args:
        places: runs that are begun at once.
        most: runs that are made until the process is "killed": RuntimeError, with nothing told about the last one.
    """

    def __init__(self, places: int = 1, most: int = 10_000) -> None:
        self.places = places
        self.made: list[str] = []
        self._most = most
        self._waiting: list[Path] = []

    @property
    def free(self) -> int:
        return self.places - len(self._waiting)

    def start(self, folder: Path) -> None:
        self._waiting.append(folder)

    def news(self, seconds: float) -> list[tuple[Path, News]]:
        folder = self._waiting.pop(0)
        found: list[News] = []
        found.append(go_on(folder, found.append))
        self.made.append(folder.name)
        if len(self.made) >= self._most:
            raise RuntimeError("killed")
        return [(folder, news) for news in found]

    def end(self, folder: Path) -> None:
        """The run is over already."""

    def stop(self) -> None:
        raise AssertionError("nobody asked for this")

    def close(self) -> None:
        self._waiting.clear()
