"""From a configuration to a record: scenario, networks, method, training, and what the run leaves behind."""

from __future__ import annotations

import math
import os
import platform
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synergy import compute, csv_log, files, results, tensorboard_log
from synergy.checkpoint import Series
from synergy.config import CONFIG_NAME, RunConfig
from synergy.data import sources
from synergy.errors import TrainingError, UsageError
from synergy.evaluate import Evaluations
from synergy.methods import method_class
from synergy.methods.base import Method, MethodConfig, Setting
from synergy.metrics import summary
from synergy.ops.vectors import channels_last
from synergy.randomness import torch_generator
from synergy.release import release
from synergy.results import Accuracies, Measured, Record, Status
from synergy.scenarios import scenario_class
from synergy.scenarios.base import AnyScenario, StreamSetting
from synergy.state import State, restore
from synergy.train import Listener, Listeners, Schedule, Stopped, Training
from synergy.types import ProtocolName

if sys.platform != "win32":
    import resource

CHECKPOINTS_NAME = "checkpoint"


@dataclass(frozen=True)
class Prepared:
    """All the parts of a run, before its first step."""

    config: RunConfig
    scenario: AnyScenario
    method: Method[MethodConfig]
    source: sources.SourceInfo
    schedule: Schedule
    device: torch.device
    net_name: str
    n_parameters: int


@compute.memory_errors()
def prepare(config: RunConfig) -> Prepared:
    """Load the data and build scenario and method; nothing is written.

    Raises:
        UsageError: the data are missing, the device is not there, method and scenario do not go together, or nothing
            would be learned.
        TrainingError: the device has no room for the data.
    """
    scenario_type, method_type = scenario_class(config.scenario_name), method_class(config.method_name)
    check_compatible(config.method_name, method_type, config.scenario_name, scenario_type)
    training = config.training
    device = compute.device(training.device)
    assert training.n_epochs is not None and training.batch_size is not None, "filled in from the scenario"
    if method_type.only_batch_size not in (None, training.batch_size):
        only = method_type.only_batch_size
        raise UsageError(f"batch_size: given {training.batch_size}; allowed for {config.method_name}: {only}")
    data_dir = None if training.data_dir is None else Path(training.data_dir)
    source = sources.load(scenario_type.dataset, data_dir)
    if config.output.tensorboard:
        tensorboard_log.check_installed()
    if config.output.csv_log:
        csv_log.check(Path(config.output.output_dir), config.scenario_name, config.method_name, partial=config.partial)
    if training.validation:
        source = sources.hold_out(source, training.seed)
    scenario = scenario_type(config.scenario, StreamSetting(source, training.seed, training.batch_size, device))

    def build_net(name: str) -> nn.Module:
        net = scenario.build_net(torch_generator(training.seed, f"net/{name}")).to(device)
        return channels_last(net) if training.memory_format == "channels_last" else net

    setting = Setting(
        build_net=build_net,
        augment=scenario.augment,
        n_classes=scenario.n_classes,
        n_tasks=scenario.n_tasks,
        max_tasks=training.max_tasks,
        max_steps_per_task=training.max_steps_per_task,
        batch_size=training.batch_size,
        n_epochs=training.n_epochs,
        seed=training.seed,
        fisher_memory_mb=training.fisher_memory_mb,
    )
    schedule = Schedule(training.n_epochs, training.max_steps_per_task, training.max_tasks)
    check_schedule(schedule, scenario)
    net = build_net("net")
    n_parameters = sum(p.numel() for p in net.parameters())
    method = method_type(config.method, setting)
    return Prepared(config, scenario, method, source.info, schedule, device, type(net).__name__, n_parameters)


def check_compatible(
    method_name: str, method: type[Method[MethodConfig]], scenario_name: str, scenario: type[AnyScenario]
) -> None:
    """Raises UsageError if the method cannot learn from the scenario, with the reason."""
    if method.needs_boundaries and not scenario.boundaries:
        raise UsageError(
            f"method {method_name} needs task boundaries and {scenario_name} has none; allowed there: "
            "methods that need none ('synergy list' shows which)"
        )
    if not method.protocols & set(scenario.protocols):
        raise UsageError(
            f"method {method_name} answers under {', '.join(sorted(method.protocols))} only; "
            f"{scenario_name} is judged under {', '.join(scenario.protocols)}"
        )


def check_schedule(schedule: Schedule, scenario: AnyScenario) -> None:
    """Raises UsageError if a task would not be learned, or there are fewer than asked for; warns of a phase."""
    if schedule.max_tasks is not None and schedule.max_tasks > scenario.n_tasks:
        raise UsageError(
            f"max_tasks: given {schedule.max_tasks}; allowed: at most {scenario.n_tasks}, the tasks of "
            f"{scenario.name} (or leave it out)"
        )
    small = [task for task in map(scenario.task, range(schedule.tasks(scenario))) if not schedule.steps(task)]
    if small and (scenario.boundaries or len(small) == schedule.tasks(scenario)):
        size = min(map(len, small))
        raise UsageError(
            f"batch_size: given {scenario.setting.batch_size}; allowed: at most {size}, the samples of the smallest "
            "task, since a last batch that is not full is left out and nothing would be learned of it"
        )
    if small:
        phases = ", ".join(str(task.index + 1) for task in small)
        warnings.warn(
            f"nothing is learned in phase {phases}: fewer samples than a batch (lower batch_size)", stacklevel=2
        )


class Session:
    """A run in its own folder, from wherever it is to its end. Its state is all that it needs to go on.

    Args:
        prepared: the parts, fresh.
        folder: of the run, with its configuration in it. Nobody else may run in it.
    """

    def __init__(self, prepared: Prepared, folder: Path) -> None:
        config = prepared.config
        self.prepared = prepared
        self.folder = folder
        self.checkpoints = Series(folder / CHECKPOINTS_NAME, config.output.keep)
        self.clock = Clock(prepared.device)
        self.training = Training(
            prepared.method,
            prepared.scenario,
            prepared.schedule,
            seed=config.training.seed,
            computing=compute.autocast(config.training.precision, prepared.device),
            save=None if config.output.checkpoint_every is None else self._save,
            save_every=config.output.checkpoint_every,
        )

    def state_dict(self) -> State:
        return {
            "run": origin(self.prepared),
            "clock": self.clock.state_dict(),
            "training": self.training.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go on exactly where `state` was taken. Raises ValueError if it belongs to another run."""
        self.clock.load_state_dict(state["clock"])
        self.training.load_state_dict(state["training"])

    def proceed(
        self, listener: Listener | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> tuple[Record, Path]:
        """Train, evaluate, and leave the record; see `execute`."""
        config, training = self.prepared.config, self.training
        listener = Listener() if listener is None else listener
        if config.output.tensorboard:
            folder = self.folder / "tensorboard"
            # A file from before a run was resumed may say more than the run remembers.
            after = training.steps if folder.exists() else None
            listener = Listeners(listener, tensorboard_log.TensorBoard(folder, after))
        training.listener, training.should_stop = listener, should_stop
        status: Status = "finished"
        error = None
        try:
            with compute.exactness(config.training.precision), compute.memory_errors():
                training.run()
        except TrainingError as failure:
            status, error = "failed", str(failure)
        except Stopped:
            status, error = "interrupted", f"stopped after step {training.steps}"
        finally:
            listener.close()
        measured = self.clock.read(training)
        record = _record(self.prepared, training, self.folder.name, status, error, measured)
        with writing_into(self.folder):
            results.write(record, self.folder)
        if status == "finished":
            with writing(self.folder.parent):
                publish(record, self.folder.parent)
        return record, self.folder

    def _save(self, training: Training) -> None:
        """A checkpoint that cannot be written is no reason to stop: what is lost is time, and only if more goes wrong.

        Only what depends on the machine is forgiven; a state that cannot be saved at all is a defect.
        """
        try:
            self.checkpoints.add(self.state_dict(), step=training.steps, task=len(training.evaluations))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            place = f"no checkpoint after step {training.steps}: cannot write to '{self.checkpoints.folder}'"
            warnings.warn(f"{place}: {reason}; training goes on", stacklevel=2)


def execute(
    prepared: Prepared, listener: Listener | None = None, should_stop: Callable[[], bool] = lambda: False
) -> tuple[Record, Path]:
    """Train, evaluate, and leave config and record in the run's own folder below `output_dir`.

    Returns:
        The record and the folder. A run that was stopped or failed has a record too, and its status says so.

    Raises:
        UsageError: the output folder cannot be written, or a CSV table that is there already is damaged.
    """
    folder = _new_folder(Path(prepared.config.output.output_dir), prepared.config)
    with owned(folder):
        return Session(prepared, folder).proceed(listener, should_stop)


def publish(record: Record, output_dir: Path) -> None:
    """Put a finished run into the tables of all runs.

    Raises:
        UsageError: a CSV table that is there already is damaged.
        OSError: the folder cannot be written.
    """
    try:
        # First, so that a run among the results has its rows wherever a kill came in between.
        if csv_log.is_wanted(record):
            csv_log.write_csv(record, output_dir)
    finally:
        results.append(record, output_dir)


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Be the only process that runs in the folder of a run.

    Raises:
        UsageError: there is another, or its configuration cannot be written.
    """
    with ExitStack() as stack, writing_into(folder / CONFIG_NAME):
        try:
            stack.enter_context(files.owned(folder / CONFIG_NAME))
        except BlockingIOError as error:
            raise UsageError(f"{folder}: another process is running it; wait for its end, or stop it") from error
        held = stack.pop_all()
    with held:
        yield


def origin(prepared: Prepared) -> dict[str, Any]:
    """What a state of this run goes together with: its configuration, data, device and versions."""
    config = prepared.config.as_mapping()
    source = asdict(prepared.source)
    return {"config": config, "source": source, "device": compute.device_name(prepared.device), "versions": versions()}


def run(config: RunConfig, listener: Listener | None = None) -> Record:
    """Prepare and execute in one call; the record says how it ended."""
    return execute(prepare(config), listener)[0]


def _new_folder(output_dir: Path, config: RunConfig) -> Path:
    """Make the run's folder; if there is one of that name, with a number at its end."""
    name = config.output.experiment_id or _run_name(config)
    with writing(output_dir), ExitStack() as undo:
        output_dir.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            folder = output_dir / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
                break
            except FileExistsError:
                number += 1
        undo.callback(folder.rmdir)
        files.write_atomically(folder / CONFIG_NAME, config.to_toml())
        undo.pop_all()
    if number > 1 and config.output.experiment_id is not None:
        warnings.warn(f"experiment_id: there is a run '{name}' already; this one is '{folder.name}'", stacklevel=2)
    return folder


def shell_word(path: Path) -> str:
    """A path as a command of ours in a shell takes it, in one line."""
    text = str(path)
    text = f"./{text}" if text.startswith("-") else text  # else it is a flag
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    if character.isprintable() and character not in "\\'":
        return character
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))


@contextmanager
def writing(output_dir: Path) -> Iterator[None]:
    """Within, what the system says against writing is a UsageError."""
    try:
        yield
    except OSError as error:
        reason = f"cannot write to '{output_dir}': {error.strerror}"
        raise UsageError(f"output_dir: {reason}; name another folder") from error


@contextmanager
def writing_into(place: Path) -> Iterator[None]:
    """The same for a place in the folder of a run, which cannot be another one."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write to '{place}': {error.strerror}; allow it, or make room there") from error


def _run_name(config: RunConfig) -> str:
    size = config.method.as_mapping().get("buffer_size")
    memory = "" if size is None else f"-buffer{size}"
    return f"{config.scenario_name}-{config.method_name}{memory}-seed{config.training.seed}"


class Clock:
    """Measures a run from its making to its reading, and what it took before it was resumed."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began = time.perf_counter(), time.process_time()
        self._earlier: State = {
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_s": 0.0,
            "cpu_s": 0.0,
            "peak_memory_mb": 0.0,
        }
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def state_dict(self) -> State:
        wall, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        earlier = self._earlier
        return {
            "started_at": earlier["started_at"],
            "wall_s": earlier["wall_s"] + wall,
            "cpu_s": earlier["cpu_s"] + cpu,
            "peak_memory_mb": max(earlier["peak_memory_mb"], self._peak_memory() / 1e6),
        }

    def load_state_dict(self, state: State) -> None:
        """Raises ValueError if it is of another form."""
        earlier = dict(self._earlier)
        restore(earlier, state)
        if not all(math.isfinite(value) for value in earlier.values() if isinstance(value, float)):
            raise ValueError("a time that is not finite")
        self._earlier = earlier

    def read(self, training: Training) -> Measured:
        """What the run took so far."""
        return Measured(
            **self.state_dict(),
            train_s=training.train_s,
            evaluate_s=training.evaluate_s,
            steps_per_s=training.steps / training.train_s if training.train_s else 0.0,
        )

    def _peak_memory(self) -> float:
        """In bytes."""
        if self._device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._device))
        if sys.platform == "win32":
            return 0.0
        # The unit of the kernel's answer is KiB, but bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _record(
    prepared: Prepared, training: Training, run_id: str, status: Status, error: str | None, measured: Measured
) -> Record:
    config, scenario = prepared.config, prepared.scenario
    return Record(
        schema_version=results.SCHEMA_VERSION,
        run_id=run_id,
        status=status,
        error=error,
        partial=config.partial,
        config=config.as_mapping(),
        provenance=dict(config.provenance),
        source=asdict(prepared.source),
        task_classes=tuple(scenario.task(index).classes for index in range(scenario.n_tasks)),
        n_parameters=prepared.n_parameters,
        steps=training.steps,
        versions=versions(),
        device=compute.device_name(prepared.device),
        seed=config.training.seed,
        accuracies=accuracies(training.evaluations, training.baseline),
        measured=measured,
        final_losses=training.last_losses,
    )


def accuracies(evaluations: list[Evaluations], baseline: Evaluations) -> tuple[Accuracies, ...]:
    """The matrix and metrics of every predictor and protocol that was evaluated at least once."""
    keys = list(dict.fromkeys(key for evaluation in evaluations for key in evaluation))
    return tuple(_accuracies(predictor, protocol, evaluations, baseline) for predictor, protocol in keys)


def _accuracies(
    predictor: str, protocol: ProtocolName, evaluations: list[Evaluations], baseline: Evaluations
) -> Accuracies:
    of_untrained = baseline[("untrained", protocol)].accuracies
    missing = (None,) * len(of_untrained)
    rows = [evaluation.get((predictor, protocol)) for evaluation in evaluations]
    matrix = tuple(missing if row is None else row.accuracies for row in rows)
    last = rows[-1]
    return Accuracies(
        predictor=predictor,
        protocol=protocol,
        matrix=matrix,
        baseline=of_untrained,
        per_class={} if last is None else {str(label): value for label, value in last.per_class.items()},
        calibration_error=None if last is None else last.calibration_error,
        metrics=summary(matrix, of_untrained),
    )


def versions() -> dict[str, str]:
    """Of Python and of the libraries that decide a result."""
    names = ("synergy-cl", "torch", "numpy", "scikit-learn")
    return {"python": platform.python_version()} | {name: release(name) for name in names}
