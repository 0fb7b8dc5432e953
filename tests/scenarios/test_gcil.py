"""GCIL: the rules of its phases, over made-up labels and over CIFAR-100."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from synergy.data.published import CLASS_NAMES
from synergy.data.sources import Source, SourceInfo
from synergy.errors import UsageError
from synergy.runs.config import build
from synergy.runs.evaluate import evaluate
from synergy.runs.fitting import check_schedule
from synergy.runs.session import run
from synergy.runs.training import Schedule
from synergy.scenarios.base import StreamSetting
from synergy.scenarios.gcil import LONG_TAIL, GcilCifar100, GcilConfig, Phase, draw_phases
from synergy.terminal import console
from synergy.testing import scenario
from synergy.types import Split

CLASSES = 12


def labels(per_class: int, n_classes: int = CLASSES) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(n_classes), per_class))


def weights(dist: str, n_classes: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.power(1.0 if dist == "unif" else LONG_TAIL, np.arange(n_classes))


@settings(max_examples=60)
@given(
    dist=st.sampled_from(["unif", "longtail"]),
    n_tasks=st.integers(1, 8),
    upper=st.integers(1, 15),
    size=st.integers(8, 60),
    per_class=st.integers(1, 40),
    seed=st.integers(0, 999),
)
def test_the_rules_of_a_phase(dist: str, n_tasks: int, upper: int, size: int, per_class: int, seed: int) -> None:
    config = GcilConfig(dist, n_tasks, phase_class_upper=upper, epoch_size=size, gil_seed=seed)
    of_samples = labels(per_class)
    phases = draw_phases(of_samples, weights(dist, CLASSES), config)
    assert len(phases) <= n_tasks
    used: Counter[int] = Counter()
    left = Counter(of_samples.tolist())
    for phase in phases:
        assert 1 <= len(phase.classes) <= min(upper, sum(count > 0 for count in left.values()))
        assert len(set(phase.classes)) == len(phase.classes)
        counts = phase.counts()
        # Each class occurs, with samples of its own; only a class that ran out may have kept the phase small.
        assert all(count >= 1 for count in counts.values())
        assert sum(counts.values()) <= size
        exhausted = [label for label in phase.classes if counts[label] == left[label]]
        assert sum(counts.values()) == size or exhausted
        for label, samples in zip(phase.classes, phase.samples, strict=True):
            assert all(of_samples[index] == label for index in samples)
            used.update(samples)
        left.subtract(counts)
    assert max(used.values()) == 1, "a sample was used twice"
    if len(phases) < n_tasks:
        assert not any(left.values()), "the stream ended early though samples were left"


def test_the_seed_of_the_phases_fixes_them() -> None:
    first = draw_phases(labels(50), weights("unif", CLASSES), GcilConfig())
    assert first == draw_phases(labels(50), weights("unif", CLASSES), GcilConfig())
    assert first != draw_phases(labels(50), weights("unif", CLASSES), GcilConfig(gil_seed=7))


def test_the_long_tail_falls_as_expected() -> None:
    """In phases where two given classes meet and none runs out, their counts are as their weights."""
    config = {"n_tasks": 1, "phase_class_upper": 3, "epoch_size": 500}
    steep = np.power(0.5, np.arange(3))
    totals = np.zeros(3)
    for seed in range(150):
        (phase,) = draw_phases(labels(2000, 3), steep, GcilConfig("longtail", gil_seed=seed, **config))
        if len(phase.classes) == 3:
            totals += [phase.counts()[label] for label in range(3)]
    assert totals.sum() > 10_000
    np.testing.assert_allclose(totals / totals.sum(), steep / steep.sum(), atol=0.01)


def stream(seed: int = 0) -> GcilCifar100:
    """Over images that show their label, 30 training and 4 test images of 100 classes."""

    def split(per_class: int) -> Split:
        of_samples = torch.from_numpy(labels(per_class, 100))
        raw = of_samples.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32).contiguous()
        return Split(raw, of_samples, tuple(range(100)))

    source = Source(SourceInfo("cifar100", "made for a test", 3000, 400, complete=False), split(30), split(4))
    config = GcilConfig(n_tasks=6, phase_class_upper=9, epoch_size=50)
    return GcilCifar100(config, StreamSetting(source, seed, 8, torch.device("cpu")))


def test_a_phase_needs_samples_for_its_classes() -> None:
    setting = stream().setting
    with pytest.raises(UsageError, match="epoch_size: given 40; allowed: at least 250, 5 samples for each class"):
        GcilCifar100(GcilConfig(epoch_size=40), setting)


def original(raw: torch.Tensor) -> list[int]:
    return [int(value) for value in raw[:, 0, 0, 0]]


def test_labels_are_numbered_by_first_appearance() -> None:
    whole = stream()
    in_order = list(dict.fromkeys(label for phase in whole.phases for label in phase.classes))
    seen: set[int] = set()
    for index, phase in enumerate(whole.phases):
        task = whole.task(index).train()
        assert [in_order.index(label) for label in original(task.raw)] == task.labels.tolist()
        new = {in_order.index(label) for label in phase.classes} - seen
        assert new == set(range(len(seen), len(seen) + len(new)))
        seen |= new
        (test,) = whole.tests(index)
        assert set(test.labels.tolist()) == set(test.classes) == seen
        assert [in_order.index(label) for label in original(test.raw)] == test.labels.tolist()
        assert len(test) == 4 * len(seen)


@pytest.mark.parametrize("last", [0, 3, 5])
def test_the_published_final_average_is_over_the_test_set_of_every_phase(last: int) -> None:
    """The oracle evaluates one network on each cumulative test set, as the published code does at the end."""
    whole = stream()
    # Classes with unequal test sets, so that a plain mean over classes would be another number.
    kept = torch.rand(len(whole.test), generator=torch.Generator().manual_seed(1)) < 0.5
    kept[[int((whole.test.labels == label).nonzero()[0]) for label in range(100)]] = True
    whole.test = whole.test.select(kept.nonzero()[:, 0])
    scores = torch.randn(256, 100, generator=torch.Generator().manual_seed(0))
    scores[torch.arange(100), torch.tensor([whole.numbering.get(label, 0) for label in range(100)])] += 2

    def predictor(inputs: torch.Tensor, /) -> torch.Tensor:
        """Depends on the image alone, which shows its label."""
        return scores[first_pixel(inputs, whole)]

    def evaluated(phase: int) -> tuple[float, dict[int, float]]:
        (evaluation,) = evaluate({"net": predictor}, whole.tests(phase), whole.view, ("class-IL",)).values()
        return evaluation.accuracies[0], evaluation.per_class

    slowly = [evaluated(phase)[0] for phase in range(last + 1)]
    final, per_class = evaluated(last)
    found = whole.own_metrics(last, per_class)
    assert found == {"published_final": pytest.approx(sum(slowly) / len(slowly))}
    assert last == 0 or found["published_final"] != pytest.approx(final)


def first_pixel(inputs: torch.Tensor, of: GcilCifar100) -> torch.Tensor:
    """What `original` reads, of what the network sees."""
    table = of.view.plain(torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32))[:, 0, 0, 0]
    return (inputs[:, 0, 0, 0, None] - table).abs().argmin(1)


def test_phases_do_not_depend_on_how_many_samples_there_are() -> None:
    config = GcilConfig(n_tasks=4, phase_class_upper=8, epoch_size=60)
    more, fewer = (draw_phases(labels(n), weights("unif", CLASSES), config) for n in (120, 100))
    assert [phase.counts() for phase in more] == [phase.counts() for phase in fewer]


def test_a_stream_is_never_shorter_than_asked() -> None:
    setting, config = stream().setting, GcilConfig(n_tasks=999, epoch_size=250)
    most = len(draw_phases(setting.source.train.labels.numpy(), weights("unif", 100), config))
    with pytest.raises(UsageError, match=f"n_tasks: given {most + 1}; allowed: at most {most}, then all samples"):
        GcilCifar100(replace(config, n_tasks=most + 1), setting)
    assert GcilCifar100(replace(config, n_tasks=most), setting).n_tasks == most


def test_the_run_seed_shuffles_batches_but_not_phases() -> None:
    one, other = stream(0), stream(1)
    assert one.phases == other.phases
    a, b = one.task(0), other.task(0)
    assert sorted(original(a.train().raw)) == sorted(original(b.train().raw))
    assert not torch.equal(torch.cat(list(a.order(0))), torch.cat(list(b.order(0))))


def test_phases_smaller_than_a_batch_are_told() -> None:
    setting = replace(stream().setting, batch_size=45)
    mixed = GcilCifar100(GcilConfig(n_tasks=10, phase_class_upper=2, epoch_size=50), setting)
    small = [index + 1 for index in range(10) if len(mixed.task(index)) < 45]
    assert 0 < len(small) < 10
    with pytest.warns(UserWarning, match=f"nothing is learned in phase {', '.join(map(str, small))}: fewer samples"):
        check_schedule(Schedule(), mixed)
    single = GcilCifar100(GcilConfig(n_tasks=10, phase_class_upper=1, epoch_size=50), setting)
    with pytest.raises(UsageError, match="batch_size: given 45; allowed: at most 30, the samples of the smallest task"):
        check_schedule(Schedule(), single)


def test_last_incomplete_batch_is_dropped() -> None:
    whole = stream()
    assert {len(y) for index in range(whole.n_tasks) for _, y in whole.task(index).batches(0)} == {8}


@pytest.mark.real_data
@pytest.mark.parametrize("dist", ["unif", "longtail"])
def test_on_cifar100(dist: str) -> None:
    whole = scenario("gcil-cifar100", options={"weight_dist": dist})
    assert isinstance(whole, GcilCifar100)
    assert whole.n_tasks == 20 and whole.n_classes == 100
    assert all(len(task) <= 1000 for task in (whole.task(index) for index in range(20)))
    assert not whole.boundaries and whole.protocols == ("class-IL",)
    assert isinstance(whole.phases[0], Phase)


@pytest.mark.slow
@pytest.mark.real_data
def test_a_record_says_which_class_is_which(tmp_path: Path) -> None:
    """The oracle reads the names from the Parquet file, and the numbering from the labels of the first phase."""
    options = {"width": 1, "max_tasks": 1, "max_steps_per_task": 1, "output_dir": str(tmp_path), "batch_size": 8}
    record = run(build("gcil-cifar100", "sgd", options))
    whole = scenario("gcil-cifar100")
    assert isinstance(whole, GcilCifar100)
    assert record.source_labels == whole.source_labels
    first = whole.task(0)
    for raw, number in zip(*first.take(torch.arange(0, len(first), 50)), strict=True):
        same = (whole.train.raw == raw).flatten(1).all(1).nonzero()[:, 0]
        # CIFAR-100 has an image twice, under two labels.
        assert record.source_labels[int(number)] in whole.train.labels[same].tolist()
    (file, *_) = sorted(Path(os.environ["SYNERGY_DATA"]).glob("cifar100/train-*.parquet"))
    metadata = json.loads(parquet.read_schema(file).metadata[b"huggingface"])
    names = metadata["info"]["features"]["fine_label"]["names"]
    assert list(CLASS_NAMES["cifar100"]) == names
    shown = " ".join(console.by_class(record).split())
    for number, accuracy in record.answer().per_class.items():
        assert f"{names[record.source_labels[int(number)]]} {accuracy:.1f}" in shown
    assert "published_final" in record.answer().metrics
