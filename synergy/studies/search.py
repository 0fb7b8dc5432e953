"""Searches for the best values of options: Optuna asks and tells, runs on the validation split answer.

A trial is a point of the space. It has a run for each seed of the study, one after the other; its value is the mean of
their final averages. After every task the trial is compared with the others at the same place by Optuna's median rule,
and pruned if it is behind. What is compared is the sum of the average accuracies so far, which only grows.

The journal in the study's folder is all that a search must remember. A sampler is made anew for every draw, from the
seed and the number of the trial, so that a search with one worker makes the same trials however often it is killed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from synergy.disk import files, strict_json
from synergy.errors import UsageError
from synergy.presets import Preset
from synergy.randomness import generator
from synergy.release import release
from synergy.runs import records
from synergy.runs.config import RunConfig
from synergy.runs.folder import writing
from synergy.studies.grid import PlannedRun
from synergy.studies.preset_file import to_toml
from synergy.studies.space import FIXED, Choices, Range
from synergy.studies.targets import Target
from synergy.studies.work import Ended, Evaluated, averages, finished

try:
    import optuna
    from optuna.storages.journal import BaseJournalBackend
except ImportError as error:
    raise UsageError("a search needs Optuna: pip install 'synergy-cl[search]'") from error

JOURNAL_NAME = "search.jsonl"
"""What Optuna keeps, in the study's folder."""
BEST_NAME = "best"
"""Folder, in that of the study, of the best values."""
_ENDED = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)


class Journal(BaseJournalBackend):
    """What Optuna keeps: a line of JSON for each of its operations, durable, all of it or nothing.

    Args:
        path: of the file; made if needed. One process writes it at a time.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     journal = Journal(Path(folder) / "search.jsonl")
        ...     journal.append_logs([{"op_code": 0}])
        ...     list(journal.read_logs(0))
        [{'op_code': 0}]
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with writing(self._path.parent):
            for log in logs:
                files.append_line(self._path, json.dumps(log))

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        with writing(self._path.parent), suppress(FileNotFoundError):
            lines = self._path.read_bytes().splitlines()
            yield from self._whole(lines)[log_number_from:]

    def _whole(self, lines: Sequence[bytes]) -> list[dict[str, Any]]:
        """All lines but those that a crash has torn."""
        found = []
        for line in lines:
            with suppress(UsageError):
                found.append(strict_json.parse(line))
        return found


@dataclass
class _Trial:
    """A trial at work.

    Attributes:
        finals: the final average of each seed that has finished.
        reported: places that Optuna knows a sum of.
        tasks, sum: of the seeds that have finished, how many tasks they had and the sum of their averages.
        pruned: why the trial is stopped; empty while it goes on.
        told: how many of its runs the watcher of the study knows to be over.
    """

    trial: optuna.Trial
    point: Mapping[str, Any]
    reported: set[int]
    finals: list[float] = field(default_factory=list)
    tasks: int = 0
    sum: float = 0.0
    pruned: str = ""
    told: int = 0


class Seeker:
    """Searches one target. Its state is in the journal and in the folders of the runs.

    Args:
        target: what is searched.
        storage: Optuna's.
        folder: of the study.

    Raises:
        UsageError: the journal holds a search of other options under this name.

    Examples:
        >>> from synergy.studies.request import asked
        >>> from synergy.studies.targets import targets
        >>> search = {"trials": 5, "space": {"lr": [0.1, 0.2]}}
        >>> asked_for = {"model": "er", "dataset": "rot-digits", "output_dir": "S", "search": search}
        >>> (target,) = targets(asked(asked_for))
        >>> Seeker(target, optuna.storages.InMemoryStorage(), Path()).take().name
        'rot-digits-er-buffer500-trial0-seed0'
    """

    def __init__(self, target: Target, storage: optuna.storages.BaseStorage, folder: Path) -> None:
        self.target = target
        self._folder = folder
        self._storage = storage
        with _quiet():
            self.study = optuna.create_study(
                storage=storage,
                study_name=target.name,
                direction="maximize",
                load_if_exists=True,
                sampler=self._sampler(0),
                pruner=optuna.pruners.MedianPruner(),
            )
        self._check_same()
        running = self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        self._begun = [trial.number for trial in running]
        self._waiting: list[_Trial] = []
        self._working: dict[str, _Trial] = {}
        self._saved = 0

    def take(self) -> PlannedRun | None:
        """The next run: of a trial that has begun, else of a new one."""
        while True:
            trial = self._next()
            if trial is None:
                return None
            if (run := self._next_run(trial)) is not None:
                self._working[run.name] = trial
                return run

    def evaluated(self, name: str, news: Evaluated) -> bool:
        """Report a run to Optuna. Returns whether it shall go on."""
        trial = self._working[name]
        self._report(trial, news.averages, news.tasks)
        return not trial.pruned

    def ended(self, name: str, ended: Ended) -> Ended:
        """A run has ended, and with it perhaps its trial. One that was interrupted goes on next time."""
        trial = self._working.pop(name)
        trial.told += 1
        if ended.status == "finished" and not trial.pruned:
            self._finished(trial, name)
        if trial.pruned:
            self._prune(trial)
            return replace(ended, status="pruned", error=trial.pruned)
        if ended.status == "failed":
            trial.pruned = f"failed: {ended.error}"
            self._prune(trial)
        elif ended.status == "finished" and len(trial.finals) < len(self.target.seeds):
            self._waiting.append(trial)
        return ended

    def works_on(self, name: str) -> bool:
        """Whether a run is one of this search, and works."""
        return name in self._working

    def saved(self) -> int:
        """How many runs needed no work since the last time this was asked."""
        self._saved, saved = 0, self._saved
        return saved

    @property
    def done(self) -> int:
        """Trials that have ended."""
        return len(self.study.get_trials(deepcopy=False, states=_ENDED))

    def last_word(self) -> str:
        """Why the last trial that ended was pruned, or failed; empty if none was."""
        done = self.study.get_trials(deepcopy=False, states=_ENDED)
        return str(done[-1].user_attrs.get("why", "")) if done else ""

    def best(self) -> Preset | None:
        """The values of the best trial with their provenance; None if no trial has finished."""
        complete = self.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        if not complete:
            return None
        best = max(complete, key=lambda trial: (trial.value or 0.0, -trial.number))
        return preset_of(self.target, best.params, self._story(best, self.done, len(complete)))

    def _story(self, best: optuna.trial.FrozenTrial, done: int, complete: int) -> str:
        search, seeds = self.target.search, ", ".join(map(str, self.target.seeds))
        over = f"mean over seeds {seeds}" if len(self.target.seeds) > 1 else f"seed {seeds}"
        measure = "accuracy on the first task" if search.first_task_only else "final average"
        return (
            f"chosen here: trial {best.number} of {done} ({complete} finished, {done - complete} pruned) of a search "
            f"for {self.target.name} in the study {self._folder.resolve().name}: {measure} {best.value:.2f} % on the "
            f"validation split, {over}; seed of the sampler {search.seed}; synergy-cl {release()}"
        )

    def _next(self) -> _Trial | None:
        """A trial with runs that are left, a new one if there is none."""
        if self._waiting:
            return self._waiting.pop(0)
        if self._begun:
            return self._drawn(self._begun.pop(0))
        count = len(self.study.get_trials(deepcopy=False))
        if count >= self.target.search.trials:
            return None
        self.study.sampler = self._sampler(count)
        return self._drawn(self.study.ask().number)

    def _drawn(self, number: int) -> _Trial:
        """A trial of the journal with its point: what a killed process had not drawn is drawn now, as it would have."""
        self.study.sampler = self._sampler(number)
        storage, study_id = self._storage, self._storage.get_study_id_from_name(self.target.name)
        trial = optuna.Trial(self.study, storage.get_trial_id_from_study_id_trial_number(study_id, number))
        point = {}
        for name, where in self.target.search.space.items():
            self.study.sampler = self._sampler(number, name)
            point[name] = _suggested(trial, name, where)
        begun = _Trial(trial, point, set(self.study.trials[number].intermediate_values))
        if begun.reported and max(begun.reported) < self._places and trial.should_prune():
            begun.pruned = self._behind(max(begun.reported))
        return begun

    @property
    def _places(self) -> int:
        """After how many tasks a trial can be compared with others, over all its seeds; 0 if that is not known yet."""
        return int(self.study.user_attrs.get("tasks", 0)) * len(self.target.seeds)

    def _behind(self, place: int) -> str:
        return f"behind the median of the trials after {place} of {self._places} tasks"

    def _sampler(self, number: int, option: str = "") -> optuna.samplers.BaseSampler:
        rng = generator(self.target.search.seed, f"search/{self.target.name}/{number}/{option}")
        return optuna.samplers.TPESampler(seed=int(rng.integers(2**32)))

    def _next_run(self, trial: _Trial) -> PlannedRun | None:
        """The next run of a trial; None if the trial has ended without another one."""
        if self._repeats(trial):
            return None
        while not trial.pruned and len(trial.finals) < len(self.target.seeds):
            seed = self.target.seeds[len(trial.finals)]
            try:
                run = self.target.run(trial.trial.number, trial.point, seed)
            except UsageError as error:
                trial.pruned = f"failed: {error}"
                continue
            if finished(self._folder / run.name) is None:
                return run
            self._finished(trial, run.name)
        if trial.pruned:
            self._prune(trial)
        return None

    def _repeats(self, trial: _Trial) -> bool:
        """End a trial at a point that another trial has tried: it would have the same value."""
        done = self.study.get_trials(deepcopy=False, states=_ENDED)
        same = next((each for each in done if each.params == trial.point), None)
        if same is None or trial.finals:
            return False
        if same.state is optuna.trial.TrialState.PRUNED:
            trial.pruned = f"as trial {same.number}"
            self._prune(trial)
        else:
            trial.trial.set_user_attr("why", f"as trial {same.number}")
            self._tell(trial, same.value)
        return True

    def _report(self, trial: _Trial, after_tasks: Sequence[float], tasks: int) -> None:
        """Report the average accuracies of the run at work, up to where the trial is pruned."""
        if not self._places:
            self.study.set_user_attr("tasks", tasks)
        sums = itertools.accumulate(after_tasks, initial=trial.sum)
        for place, so_far in enumerate(itertools.islice(sums, 1, None), trial.tasks + 1):
            if not trial.pruned and place not in trial.reported:
                trial.trial.report(so_far, place)
                trial.reported.add(place)
                if place < self._places and trial.trial.should_prune():
                    trial.pruned = self._behind(place)

    def _finished(self, trial: _Trial, name: str) -> None:
        """A seed of a trial has finished; after the last one the trial has its value."""
        record = records.read(self._folder / name)
        after_tasks = averages(record.answer().matrix)
        self._report(trial, after_tasks, len(after_tasks))
        trial.tasks, trial.sum = trial.tasks + len(after_tasks), trial.sum + sum(after_tasks)
        trial.finals.append(record.answer().metrics.get("final_average", 0.0))
        if len(trial.finals) == len(self.target.seeds) and not trial.pruned:
            self._tell(trial, sum(trial.finals) / len(trial.finals))

    def _prune(self, trial: _Trial) -> None:
        trial.trial.set_user_attr("why", trial.pruned)
        self._tell(trial, None)

    def _tell(self, trial: _Trial, value: float | None) -> None:
        """End a trial with its value, or pruned."""
        state = optuna.trial.TrialState.PRUNED if value is None else optuna.trial.TrialState.COMPLETE
        self.study.tell(trial.trial, value, state=state)
        self._saved += len(self.target.seeds) - trial.told

    def _check_same(self) -> None:
        """Raises UsageError if trials of other options are in the journal."""
        asked = _asked(self.target)
        before = self.study.user_attrs.get("asked")
        if before is None:
            self.study.set_user_attr("asked", asked)
            return
        for name in before.keys() & asked.keys():
            if before[name] != asked[name]:
                change = f"{name} was {before[name]}, and is {asked[name]}"
                raise UsageError(f"the search {self.target.name} in {self._folder}: {change}; name another output_dir")


def _asked(target: Target) -> dict[str, Any]:
    """What all trials of a search have in common, by option, as JSON has it."""
    tables = target.config.as_mapping()
    options = {key: value for table, of in tables.items() if table != "output" for key, value in of.items()}
    search = {f"search.{name}": value for name, value in target.search.to_mapping().items() if name != "trials"}
    fixed = {"seeds": target.seeds, **search}
    left = {name: value for name, value in options.items() if name not in FIXED and name not in target.search.space}
    asked: dict[str, Any] = json.loads(json.dumps(left | fixed))
    return asked


def _suggested(trial: optuna.Trial, name: str, where: Range | Choices) -> Any:
    if isinstance(where, Choices):
        return trial.suggest_categorical(name, where.samples)
    if where.whole:
        return trial.suggest_int(name, int(where.low), int(where.high), log=where.log)
    return trial.suggest_float(name, where.low, where.high, log=where.log)


class Searches:
    """The searches of a study, one after the other, as work for `conduct`.

    Args:
        targets: what is searched.
        folder: of the study; its journal is made if needed.

    Raises:
        UsageError: the folder cannot be written, or holds a search of other options.

    Examples:
        >>> from synergy.studies.request import asked
        >>> from synergy.studies.targets import targets
        >>> search = {"trials": 5, "space": {"lr": [0.1, 0.2]}}
        >>> asked_for = {"model": "er", "dataset": "rot-digits", "output_dir": "S", "search": search}
        >>> searches = Searches(targets(asked(asked_for)), Path())
        >>> searches.total, searches.before
        (5, 0)
    """

    def __init__(self, targets: Sequence[Target], folder: Path) -> None:
        storage = optuna.storages.JournalStorage(Journal(folder / JOURNAL_NAME))
        self.seekers = [Seeker(target, storage, folder) for target in targets]
        self._folder = folder

    @property
    def total(self) -> int:
        """Runs of all searches, if no trial is pruned."""
        return sum(max(each.done, each.target.search.trials) * len(each.target.seeds) for each in self.seekers)

    @property
    def before(self) -> int:
        """Those whose trials have ended."""
        return sum(each.done * len(each.target.seeds) for each in self.seekers)

    def take(self) -> PlannedRun | None:
        return next((run for seeker in self.seekers if (run := seeker.take()) is not None), None)

    def evaluated(self, name: str, news: Evaluated) -> bool:
        return self._of(name).evaluated(name, news)

    def ended(self, name: str, ended: Ended) -> Ended:
        return self._of(name).ended(name, ended)

    def saved(self) -> int:
        return sum(seeker.saved() for seeker in self.seekers)

    def write_best(self) -> list[tuple[Target, Preset, Path]]:
        """Write the best values of each search that has any, a file each.

        Raises:
            UsageError: the folder cannot be written.
        """
        written = []
        for seeker in self.seekers:
            if (preset := seeker.best()) is not None:
                path = self._folder / BEST_NAME / f"{seeker.target.name}.toml"
                with writing(self._folder):
                    path.parent.mkdir(exist_ok=True)
                    files.remove_leftovers(path)
                    files.write_atomically(path, to_toml([preset]))
                written.append((seeker.target, preset, path))
        return written

    def _of(self, name: str) -> Seeker:
        return next(seeker for seeker in self.seekers if seeker.works_on(name))


def preset_of(target: Target, point: Mapping[str, Any], source: str) -> Preset:
    """A point with the options that the study gave all trials, as tuned values.

    The options of the scenario, of the network and of the budget change what was tuned; they are in the note.
    """
    config = target.config
    chosen = {name for name, origin in config.provenance.items() if not origin.startswith(("default", "study"))}
    options = {**config.method.as_mapping(), **config.training.as_mapping()}
    tuned = {name: value for name, value in options.items() if name in chosen - FIXED} | dict(point)
    size = tuned.pop("buffer_size", config.method.as_mapping().get("buffer_size"))
    variant = config.scenario_class().variant_option
    return Preset(
        scenario=config.scenario_name,
        variant=None if variant is None else str(config.scenario.as_mapping()[variant]),
        method=config.method_name,
        buffer_size=size,
        values={name: value for name, value in tuned.items() if isinstance(value, int | float | str)},
        source=source,
        note=_note(config, chosen),
    )


def _note(config: RunConfig, chosen: set[str]) -> str:
    of_stream = {**config.scenario.as_mapping(), **config.net.as_mapping()}
    of_training = {name: v for name, v in config.training.as_mapping().items() if name in FIXED and name[:4] == "max_"}
    named = {name: value for name, value in (of_stream | of_training).items() if name in chosen}
    named |= {"net": config.net_name} if "net" in chosen else {}
    return "with " + ", ".join(f"{name} = {value}" for name, value in sorted(named.items())) if named else ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, Optuna logs warnings alone."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
