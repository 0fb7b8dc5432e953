"""Progressive neural networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.errors import UsageError
from synergy.methods.base import Answer, Method, MethodConfig, Setting
from synergy.nets.mlp import MLP
from synergy.nets.progressive import Progressive
from synergy.nets.resnet import ResNet18
from synergy.ops.vectors import Flat
from synergy.randomness import torch_generator
from synergy.state import State
from synergy.types import Batch, Predictor, ProtocolName, Step, Task

NO_COLUMN = -1
"""The column of a class that has not come yet."""


class PNN(Method[MethodConfig]):
    """A network of its own for every task, which may look at those before and cannot harm them.

    Reference: Rusu et al. 2016, "Progressive Neural Networks".

    Update rule:

    1. A task opens a new column with connections from all earlier columns (`nets.progressive`), which are frozen.
    2. One SGD step on CE(f_column(x), y) among the classes of the task.
    3. The output of a class comes from its task's column. So it answers under task-IL only.

    Columns are MLPs or ResNets with 18 layers, like the network of the run. With BatchNorm, the newest column sees
    batches in training mode and all others in evaluation mode, so that their running statistics are frozen too.

    Deviations from the paper: the scalar in front of the earlier columns' activations is left out. Every column has
    outputs for all classes; those of other tasks are never used. Convolutional columns are residual and connected stage
    by stage; the paper's have three convolutions.

    Deviations from the published code: its cross-entropy is over all outputs; only its answers leave out those of other
    tasks. In its MLP the connections are never used. In its ResNet the connections into a stage are whole residual
    stages (here 1x1 convolutions), and the first stage has none. There, the earlier columns go through the new column's
    first BatchNorm in training mode, without their own connections, so that a column sees others than those that
    answer; here it sees them as they are.

    Examples:
        >>> from synergy import testing
        >>> len(testing.trained("pnn", "seq-digits").net.columns)
        5
    """

    Config = MethodConfig
    no_schedule = "makes an optimiser for each task"
    needs_boundaries = True
    protocols: ClassVar[frozenset[ProtocolName]] = frozenset(("task-IL",))

    def __init__(self, config: MethodConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self.tasks = 0
        self._build(columns=1)
        self.column_of = torch.full((setting.n_classes,), NO_COLUMN, device=self.weights.values.device)
        """The column of each class, `int64 [n_classes]`."""

    def _build(self, columns: int) -> None:
        self.net = Progressive()
        for _ in range(columns):
            self._add_column()

    def _add_column(self) -> None:
        number = len(self.net.columns)
        own = self.setting.build_net(f"column/{number}")
        if not isinstance(own, MLP | ResNet18):
            raise UsageError(
                f"network: given {type(own).__name__}; allowed for pnn: MLP, ResNet18, for which there are columns "
                "with connections (synergy.nets.progressive)"
            )
        column = self.net.add(own, torch_generator(self.setting.seed, f"method/connections/{number}"))
        self.weights = Flat(column)
        self.optimizer = self.setting.optimizer(self.weights, self.config.lr)

    def begin_task(self, task: Task) -> None:
        if self.tasks:
            self._add_column()
        self.column_of[list(task.classes)] = self.tasks
        self.tasks += 1

    def compute(self, batch: Batch, now: None) -> Step:
        # 2. One SGD step of the newest column.
        logits: Tensor = self.net(batch.inputs)[-1]
        others = self.column_of != len(self.net.columns) - 1
        loss = F.cross_entropy(logits.masked_fill(others, -torch.inf), batch.labels)
        self.weights.backward(loss)
        self.optimizer.step()
        return Step({"loss": loss.detach()})

    def predictors(self) -> dict[str, Predictor]:
        return {"columns": Columns(self.net, self.column_of)}

    def load_state_dict(self, state: State) -> None:
        # As many as there are tensors for: a number alone could be any.
        self._build(columns=max(1, len({name.split(".")[1] for name in state["net"] if name.startswith("columns.")})))
        super().load_state_dict(state)
        columns, used = len(self.net.columns), self.column_of
        if max(1, self.tasks) != columns or int(used.min()) < NO_COLUMN or int(used.max()) >= columns:
            raise ValueError(f"{columns} columns do not go with {self.tasks} tasks and the columns {used.tolist()}")


@dataclass(frozen=True)
class Columns:
    """The outputs of every class from its own column (`column_of`, `int64 [n_classes]`).

    A class that has not come yet has the outputs of the first column.
    """

    net: Progressive
    column_of: Tensor

    def __call__(self, inputs: Tensor, /) -> Tensor:
        logits = Answer(self.net)(inputs)
        return logits.gather(0, self.column_of.clamp(min=0).expand(1, len(inputs), -1))[0]
