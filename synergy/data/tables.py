"""`split:FILE.csv` and `split:FILE.parquet`: rows of numbers with a class.

The functions import `pyarrow` themselves: a run with cached data does not need it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from synergy.data import labelled
from synergy.data.cache import Decoded
from synergy.data.labelled import HeldOut
from synergy.errors import UsageError, unknown
from synergy.options import LARGEST_FLOAT

if TYPE_CHECKING:
    import pyarrow

Names: TypeAlias = list[str]

LABEL = "label"
DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class TableReader:
    """Reads the rows of a table. A share of each class is held out as the test set.

    Attributes:
        file: absolute, `.csv` or `.parquet`.
        name: of the data set.
        held_out: the test set.
        label: name of the column of the classes; None for the one called "label", or else the last.
        domains: name of the column of the domains; None if there is none.

    Examples:
        >>> TableReader(Path("/data/wine.csv"), "wine", HeldOut(0.2, seed=0)).origin
        'CSV file, 20 % of each class held out by seed 0 as test set'
    """

    file: Path
    name: str
    held_out: HeldOut
    label: str | None = None
    domains: str | None = None

    @property
    def origin(self) -> str:
        kind = "CSV" if self.file.suffix.lower() == ".csv" else "Parquet"
        return f"{kind} file, {self.held_out}"

    @property
    def labels(self) -> None:
        return None

    def facts(self) -> object:
        try:
            stat = self.file.stat()
        except OSError as error:
            raise UsageError(f"{self.file}: cannot be read: {error.strerror}") from error
        return [str(self.file), self.label, self.domains, asdict(self.held_out), stat.st_size, stat.st_mtime_ns]

    def complete(self, counts: tuple[int, int]) -> bool:
        return True

    def read(self) -> Decoded:
        table = _table(self.file)
        columns = _columns(self.file, table)
        label = self._column(self.label or (LABEL if LABEL in columns else columns[-1]), columns)
        domain = None if self.domains is None else self._column(self.domains, columns)
        features = [name for name in columns if name not in (label, domain)]
        if label == domain or not features:
            raise UsageError(f"{self.file}: has the columns {', '.join(columns)}; allowed: features beside '{label}'")
        rows = np.stack([_numbers(self.file, name, table[name]) for name in features], 1)
        of_rows = _names(self.file, label, table[label])
        classes = labelled.ordered(of_rows)
        labels = labelled.numbered(of_rows, classes)
        of_domains: Names = [] if domain is None else _names(self.file, domain, table[domain])
        domains = labelled.ordered(of_domains)
        numbers = labelled.numbered(of_domains, domains) if domains else None
        test = self.held_out.chosen(labels if numbers is None else labels + len(classes) * numbers)
        labelled.check_classes(str(self.file), classes, labels[~test], labels[test])
        parts = (None, None) if numbers is None else (numbers[~test], numbers[test])
        return Decoded(rows[~test], labels[~test], rows[test], labels[test], classes, domains, *parts)

    def _column(self, name: str, columns: Names) -> str:
        if name not in columns:
            raise unknown(f"column in {self.file.name}", name, columns)
        return name


def _table(file: Path) -> pyarrow.Table:
    import pyarrow
    from pyarrow import csv, parquet

    try:
        if file.suffix.lower() != ".csv":
            return parquet.read_table(file)
        # In one thread errors name the line.
        options = csv.ReadOptions(use_threads=False)
        return csv.read_csv(file, options, csv.ParseOptions(delimiter=_delimiter(file)))
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{file}: cannot be read as a table: {reason}") from error


def _delimiter(file: Path) -> str:
    """What stands between the names in the first line most often; a comma where nothing does."""
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        heading = lines.readline()
    return max(DELIMITERS, key=heading.count)


def _columns(file: Path, table: pyarrow.Table) -> Names:
    names: Names = list(table.column_names)
    if table.num_rows == 0:
        raise UsageError(f"{file}: holds no rows below its heading; allowed: a heading and rows")
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise UsageError(f"{file}: two columns are called '{twice[0]}'; give each a name of its own")
    if len(names) > 1 and all(map(_is_number, names)):
        raise UsageError(
            f"{file}: its first line holds numbers, {', '.join(names[:3])}; allowed: the names of the columns"
        )
    return names


def _numbers(file: Path, name: str, column: Any) -> NDArray[np.float32]:
    """A column of features, `float32 [N]`. Raises UsageError, with row and column, for what is no number."""
    from pyarrow import types

    kind = column.type
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)):
        raise _no_number(file, name, column.to_pylist())
    values = np.array([np.nan if value is None else float(value) for value in column.to_pylist()])
    wrong = np.flatnonzero(~(np.abs(values) <= LARGEST_FLOAT))  # also what is no number
    if len(wrong):
        row = int(wrong[0])
        what = "is missing" if np.isnan(values[row]) else f"is {values[row]:g}"
        raise UsageError(f"{file}: row {row + 1}, column '{name}' {what}; allowed: numbers of float32 in every row")
    return values.astype(np.float32)


def _no_number(file: Path, name: str, values: list[Any]) -> UsageError:
    row = next((row for row, value in enumerate(values) if not _is_number(value)), 0)
    what = "is missing" if values[row] in (None, "") else f"is {str(values[row])[:40]!r}"
    return UsageError(
        f"{file}: row {row + 1}, column '{name}' {what}; allowed: numbers (encode texts, or leave the column out)"
    )


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, str | int | float) and float(value) == float(value)
    except ValueError:
        return False


def _names(file: Path, name: str, column: Any) -> Names:
    """The names in a column of classes or domains. Raises UsageError for a missing one, or a fraction."""
    values = column.to_pylist()
    for row, value in enumerate(values):
        if value is None or value == "" or value != value:
            raise UsageError(f"{file}: row {row + 1}, column '{name}' is missing; allowed: a name in every row")
        if isinstance(value, float) and not value.is_integer():
            raise UsageError(
                f"{file}: row {row + 1}, column '{name}' is {value:g}; allowed: classes (texts or whole numbers); "
                "name the right column with --label"
            )
    return [str(int(value) if isinstance(value, float) else value) for value in values]
