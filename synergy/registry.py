"""From a name to a class: one of ours, `package.module:Class`, `path/to/file.py:Class`, or an entry point.

A family makes the class of a name itself: `split:FOLDER` is a scenario over the data in that folder.

The library keeps a table of its own names for each kind of class (methods, scenarios, networks). A table holds text, so
that listing the names needs no torch; a class is imported when it is asked for.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from importlib.abc import SourceLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from synergy.errors import PYTHON_ERRORS, UsageError, unknown
from synergy.options import Options

KindT = TypeVar("KindT")

FORMS = "package.module:Class, file.py:Class"
"""How a class of the user's own is named."""
_ENTRY_NAME = re.compile(r"\w[\w.-]*")
_IMPORT_ERRORS: tuple[type[BaseException], ...] = (*PYTHON_ERRORS, SyntaxError, SystemExit)
"""What the code of a user's file raises when it runs for the first time."""


@dataclass(frozen=True)
class Registry(Generic[KindT]):
    """All classes of one kind, by name.

    Args:
        kind: what messages call such a class: "method", "scenario", "network".
        table: our names -> "module:Class".
        base: "module:Class" of the class that all derive from.
        options: "module:Class" of the class that every `Config` derives from.
        group: of the entry points with which installed packages add names.
        required: class attributes that the base class leaves to its subclasses.
        families: what stands before the first colon of a name -> "module:function" that makes the class. The function
            takes the rest of the name, and the absolute path that a configuration keeps of it (see `place_of`) or None.
        forms: the other forms of a name, for messages.

    Examples:
        >>> from synergy.nets import NET_CLASSES
        >>> NET_CLASSES.load("mlp").__name__
        'MLP'
        >>> NET_CLASSES.load("mpl")
        Traceback (most recent call last):
        synergy.errors.UsageError: unknown network 'mpl'; did you mean 'mlp'? allowed: linear, mlp, \
resnet18, or hf:NAME, timm:NAME, package.module:Class, file.py:Class
    """

    kind: str
    table: Mapping[str, str]
    base: str
    options: str
    group: str
    required: tuple[str, ...] = ()
    families: Mapping[str, str] = field(default_factory=dict)
    forms: str = FORMS

    def names(self) -> tuple[str, ...]:
        """Our names, then those of entry points, in alphabetical order."""
        return (*self.table, *sorted({entry.name for entry in self._entries()} - self.table.keys()))

    def load(self, name: str, file: str | None = None) -> type[KindT]:
        """The class called `name`.

        Args:
            name: in any of the forms.
            file: where the file of `path/to/file.py:Class`, or the data of `split:FOLDER`, is; by default at that path
                from the working directory.

        Raises:
            UsageError: there is no such name, file, module or class; the code fails on import; or the class is of
                another kind.
        """
        if name in self.table:
            own: type[KindT] = _attribute(import_module(self.table[name].partition(":")[0]), self.table[name])
            return own
        if (entry := self._family(name)) is not None:
            made: type[KindT] = _attribute(import_module(entry.partition(":")[0]), entry)(name.partition(":")[2], file)
            return made
        where, colon, attribute = name.rpartition(":")
        if not colon:
            where, _, attribute = self._entry(name).value.partition(":")
        elif (nearest := self._misspelt_family(name)) is not None:
            known = f"allowed: {', '.join(self.names())}, or {self.forms}"
            raise UsageError(f"unknown {self.kind} '{name}'; did you mean '{nearest}'? {known}")
        module = _module_of_file(where, file) if where.endswith(".py") else _module(where, attribute)
        return self._checked(name, module, where, attribute)

    def place_of(self, name: str) -> str | None:
        """The absolute path of what a name points to on this machine, from the working directory.

        That is the file of `path/to/file.py:Class`, and the file or folder that a name of a family ends with.
        """
        if self._family(name) is None:
            return file_of(name)
        path = Path(name.partition(":")[2].removeprefix("hf:"))
        return str(path.resolve()) if "\0" not in name and path.exists() else None

    def _family(self, name: str) -> str | None:
        prefix, colon, _ = name.partition(":")
        return self.families.get(prefix) if colon else None

    def _misspelt_family(self, name: str) -> str | None:
        """What `name` would be in the family with the nearest spelling; None for the name of a module."""
        prefix, _, rest = name.partition(":")
        nearest = get_close_matches(prefix, self.families, n=1, cutoff=0.5)
        if not nearest or not prefix.isidentifier() or find_spec(prefix) is not None:
            return None
        return f"{nearest[0]}:{rest}"

    def config_of(self, name: str, kind: type[KindT]) -> type[Options]:
        """The class of the options of `kind`, called `name`: its `Config`, or the general one if it has none.

        Raises:
            UsageError: the `Config` does not derive from the general one, or an option is not well defined.
        """
        base: type[Options] = _attribute(import_module(self.options.partition(":")[0]), self.options)
        config = next((vars(each)["Config"] for each in kind.__mro__ if "Config" in vars(each)), base)
        if not (isinstance(config, type) and issubclass(config, base)):
            raise UsageError(f"{self.kind} {name}: its Config must be a class derived from {base.__name__}")
        config.specs()
        return config

    def _entries(self) -> list[EntryPoint]:
        return [entry for entry in entry_points(group=self.group) if _ENTRY_NAME.fullmatch(entry.name)]

    def _entry(self, name: str) -> EntryPoint:
        if name.endswith(".py"):
            raise UsageError(f"{self.kind}: given the file '{name}' alone; name the class in it too: {name}:Class")
        found = {entry.value: entry for entry in self._entries() if entry.name == name}
        if not found:
            raise UsageError(f"{unknown(self.kind, name, self.names())}, or {self.forms}")
        if len(found) > 1:
            raise UsageError(f"{self.kind} '{name}': several installed packages have it; name one: {', '.join(found)}")
        return next(iter(found.values()))

    def _checked(self, name: str, module: ModuleType, where: str, attribute: str) -> type[KindT]:
        """The class in a module of the user's, if it is one of this kind."""
        base: type[KindT] = _attribute(import_module(self.base.partition(":")[0]), self.base)
        if attribute not in vars(module):
            raise self._no_class(where, attribute, module, base)
        found = vars(module)[attribute]
        if not (isinstance(found, type) and issubclass(found, base)):
            what = f"is an object of {type(found).__name__}" if not isinstance(found, type) else "is another class"
            raise UsageError(f"{self.kind} {name}: {what}; allowed: a class derived from {base.__name__}")
        if missing := self._missing(found):
            raise UsageError(f"{self.kind} {name}: the class is abstract; add to it: {', '.join(missing)}")
        return found

    def _missing(self, kind: type[Any]) -> list[str]:
        """What a class still lacks before it can be used."""
        attributes = [name for name in self.required if not any(name in vars(each) for each in kind.__mro__)]
        return [*attributes, *(sorted(kind.__abstractmethods__) if inspect.isabstract(kind) else ())]

    def _no_class(self, where: str, attribute: str, module: ModuleType, base: type[Any]) -> UsageError:
        of_kind = [
            name
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, base) and not self._missing(value)
        ]
        if not of_kind:
            return UsageError(f"{self.kind} {where}:{attribute}: {where} holds no class derived from {base.__name__}")
        return unknown(f"{self.kind} in {where}", attribute, of_kind)


def load_function(kind: str, name: str) -> Callable[..., Any]:
    """The function called `package.module:function` or `path/to/file.py:function`.

    Args:
        kind: what messages call it, such as "optimizer".
        name: in one of these forms.

    Raises:
        UsageError: there is no such file, module or function, or the code fails on import.
    """
    where, colon, attribute = name.rpartition(":")
    if not colon:
        raise UsageError(f"{kind}: given '{name}'; allowed: package.module:function, file.py:function")
    module = _module_of_file(where, None) if where.endswith(".py") else _module(where, attribute)
    functions = {key: value for key, value in vars(module).items() if inspect.isroutine(value)}
    if attribute not in functions:
        raise unknown(f"{kind} in {where}", attribute, functions)
    return functions[attribute]


def label(name: str) -> str:
    """A name as a part of a path: the class alone of `my.py:Class`, the last part alone of `split:path/to/FOLDER`.

    Examples:
        >>> label("er"), label("lab/my.py:Smoothed"), label("split:lab/my photos"), label("split:lab/wine.csv")
        ('er', 'Smoothed', 'my-photos', 'wine')
    """
    last = Path(name.rpartition(":")[2])
    text = last.stem if last.suffix in (".csv", ".parquet") else last.name or last.resolve().name
    return re.sub(r"[^\w.-]+", "-", text).strip("._-") or "data"


def file_of(name: str) -> str | None:
    """The absolute path of the file of `path/to/file.py:Class`, from the working directory; None in other forms."""
    where = name.rpartition(":")[0]
    return str(Path(where).resolve()) if where.endswith(".py") and "\0" not in where else None


def fingerprint(file: str) -> str:
    """Such as "sha256 2cf24dba5fb0": the first digits of the hash of a file's content."""
    return f"sha256 {hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]}"


def _attribute(module: ModuleType, entry: str) -> Any:
    """What an entry of a table, "module:Class", stands for in its module."""
    return vars(module)[entry.partition(":")[2]]


def _module(name: str, attribute: str) -> ModuleType:
    """A module that Python finds by its name."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"given '{name}:{attribute}'; allowed: {FORMS}")
    try:
        with _importing(name, None):
            return import_module(name)
    except ModuleNotFoundError as error:
        file = Path(*name.split(".")).with_suffix(".py")
        fix = f"name its file: {file}:{attribute}" if file.is_file() else "install it, or add its folder to PYTHONPATH"
        raise UsageError(f"no module '{name}' (for '{attribute}'); {fix}") from error


def _module_of_file(given: str, recorded: str | None) -> ModuleType:
    """The module in a file. Equal path and content give the same module, so that its classes are the same too."""
    path = Path(given if recorded is None else recorded)
    try:
        path = path.resolve()
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        fix = "" if recorded is None else "; put it back, or change its place under [files] in config.toml"
        raise UsageError(f"cannot read the file {path}: {reason}{fix}") from error
    name = f"{path.stem}_{hashlib.sha256(bytes(path) + content).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = spec_from_file_location(name, path, loader=_Source(path, content))
        assert spec is not None and spec.loader is not None, "a loader was given"
        sys.modules[name] = module_from_spec(spec)  # dataclasses and type hints look their module up there
        try:
            with _importing(given, path):
                spec.loader.exec_module(sys.modules[name])
        except UsageError:
            del sys.modules[name]
            raise
    return sys.modules[name]


class _Source(SourceLoader):
    """Runs the content of a file, past Python's cache: that takes a change within a second for none."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        self._content = content

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_data(self, path: str | bytes) -> bytes:
        return self._content


@contextmanager
def _importing(shown: str, path: Path | None) -> Iterator[None]:
    """Within, an error of the user's code is a UsageError that names it and its line.

    A ModuleNotFoundError for the module itself, or a package it is in, passes.
    """
    try:
        yield
    except _IMPORT_ERRORS as error:
        if path is None and isinstance(error, ModuleNotFoundError) and f"{shown}.".startswith(f"{error.name}."):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        line = "" if path is None else _line(error, str(path))
        raise UsageError(f"{shown} fails on import{line}: {reason}") from error


def _line(error: BaseException, path: str) -> str:
    """Where in the file the error arose; empty if nowhere in it."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return f" at line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f" at line {lines[-1]}" if lines else ""
