"""The split streams of colour images: their networks, augmentation and defaults."""

from __future__ import annotations

import pytest
import torch

from synergy import testing
from synergy.data.view import ImageView
from synergy.nets.resnet import ResNet18
from synergy.randomness import torch_generator
from synergy.scenarios import scenario_class

EXPECTED = {"seq-cifar10": (5, 10, 32), "seq-cifar100": (10, 100, 32), "seq-tinyimg": (10, 200, 64)}


@pytest.mark.parametrize(("name", "n_tasks"), [(name, shape[0]) for name, shape in EXPECTED.items()])
def test_defaults(name: str, n_tasks: int) -> None:
    kind = scenario_class(name)
    assert vars(kind.Config())["n_tasks"] == n_tasks
    assert kind.default_batch_size == 32
    assert kind.default_net == "resnet18" and "width" not in kind.Config.names()


def test_resnet_has_the_usual_size_and_repeatable_weights() -> None:
    net = ResNet18(10, generator=torch_generator(0, "net"))
    assert sum(p.numel() for p in net.parameters()) == 11_173_962
    again, other = ResNet18(10, generator=torch_generator(0, "net")), ResNet18(10, generator=torch_generator(1, "net"))
    assert all(map(torch.equal, net.state_dict().values(), again.state_dict().values()))
    assert not torch.equal(net.conv1.weight, other.conv1.weight)


def test_resnet_shapes_and_range_of_its_weights() -> None:
    net = ResNet18(7, width=4, generator=torch_generator(0, "net")).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert net.features(images).shape == (2, 32)
    assert net(images).shape == (2, 7)
    largest = float(net.get_parameter("layer1.0.conv1.weight").detach().abs().max())
    bound = (4 * 9) ** -0.5
    assert 0.9 * bound < largest <= bound


@pytest.mark.real_data
@pytest.mark.parametrize("name", EXPECTED)
def test_the_contract_on_real_data(name: str) -> None:
    n_tasks, n_classes, side = EXPECTED[name]
    whole = testing.scenario(name, batch_size=32)
    assert (whole.n_tasks, whole.n_classes) == (n_tasks, n_classes)
    raw, labels = next(whole.task(1).batches(0))
    assert raw.shape == (32, 3, side, side)
    assert set(labels.tolist()) <= set(whole.task(1).classes)
    assert isinstance(whole.view, ImageView) and whole.view.padding == 4 and whole.view.flip
    view = whole.view.plain(whole.train.raw[:2000])
    # Normalised by figures that were measured on these images (for the part of Tiny-ImageNet, on the whole).
    assert float(view.mean((0, 2, 3)).abs().max()) < 0.1
    assert float((view.std((0, 2, 3)) - 1).abs().max()) < 0.1


@pytest.mark.real_data
@pytest.mark.parametrize("n_tasks", [5, 10, 20])
def test_cifar100_in_five_ten_or_twenty_tasks(n_tasks: int) -> None:
    whole = testing.scenario("seq-cifar100", options={"n_tasks": n_tasks})
    assert [len(whole.task(index).classes) for index in range(n_tasks)] == [100 // n_tasks] * n_tasks
