"""Whole networks against what a user would run instead: the same graph, dense, in torch fp32 eager.

    python -m pytest benchmarks/bench_networks.py --benchmark-json=networks.json

One random image, one thread. Before every timed call the other engines run once, so that whatever else the
machine does meets all of them, and none finds its weights in the cache because it ran just before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from slt_infer import _core, models, reference
from slt_infer.runtime import Plan
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Relu,
    Source,
    Ticket,
)

torch = pytest.importorskip("torch", reason="it is the peer")

ROUNDS, WARM_UP = 60, 5
PEER = "torch fp32 eager"
NETWORK, SPARSITY, PRUNE, LOCK = "resnet18-cifar", 0.9, 0.85, 0.05
RULES = (
    "epl",
    "uniform",
)  # epl keeps half of the early layers, where most work is; uniform a tenth everywhere
Engine = Callable[[], Any]


class Dense(torch.nn.Module):
    """The ticket's network as a torch user has it: dense float32 weights, zeros included; batch norm."""

    def __init__(self, ticket: Ticket) -> None:
        super().__init__()
        self.nodes = ticket.network.nodes
        by_layer = {node.layer: node for node in self.nodes if isinstance(node, Conv2d | Linear)}
        self.weighted, self.norms = torch.nn.ModuleList(), torch.nn.ModuleList()
        for i, layer in enumerate(ticket.layers):
            shape, node = layer.shape, by_layer[i]
            weights = reference.weights(ticket.source, layer)
            module: torch.nn.Module
            if isinstance(node, Conv2d):
                module = torch.nn.Conv2d(
                    shape.inputs * shape.groups,
                    shape.out,
                    shape.kernel,
                    node.stride,
                    node.padding,
                    groups=shape.groups,
                    bias=False,
                )
                weights = weights.reshape(shape.out, *shape.kernel, shape.inputs).transpose(0, 3, 1, 2)
            else:
                module = torch.nn.Linear(shape.inputs, shape.out, bias=False)
            module.weight.data = torch.from_numpy(np.ascontiguousarray(weights))
            self.weighted.append(module)
            self.norms.append(self._norm(layer, isinstance(node, Conv2d)))
        self.eval()

    @staticmethod
    def _norm(layer: Any, image: bool) -> torch.nn.Module:
        """Batch norm that does what the folded affine does."""
        if layer.affine is None:
            return torch.nn.Identity()
        norm = (torch.nn.BatchNorm2d if image else torch.nn.BatchNorm1d)(layer.shape.out, eps=0.0)
        scale, shift = torch.from_numpy(layer.affine / np.array([[layer.constant], [1]], np.float32))
        norm.weight.data, norm.bias.data = scale, shift
        return norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, functions = [x], torch.nn.functional
        for node in self.nodes:
            if isinstance(node, Add):
                y = values[node.left] + values[node.right]
            elif isinstance(node, Conv2d | Linear):
                y = self.norms[node.layer](self.weighted[node.layer](values[node.value]))
            elif isinstance(node, Relu):
                y = functions.relu(values[node.value])
            elif isinstance(node, MaxPool2d):
                y = functions.max_pool2d(values[node.value], node.kernel, node.stride, node.padding)
            elif isinstance(node, AvgPool2d):
                y = functions.avg_pool2d(values[node.value], node.kernel, node.stride, node.padding)
            elif isinstance(node, GlobalAvgPool2d):
                y = values[node.value].mean(dim=(2, 3))
            else:
                assert isinstance(node, Flatten)
                y = values[node.value].flatten(1)
            values.append(y)
        return values[-1]


@pytest.fixture(scope="module", params=RULES)
def engines(request: pytest.FixtureRequest) -> tuple[str, dict[str, Engine]]:
    """The ticket's name, and what runs the same function of the same image, one thread each."""
    ticket = synthetic_ticket(models.network(NETWORK), Source(seed=1), SPARSITY, PRUNE, LOCK, request.param)
    name = f"{NETWORK}/{SPARSITY}/{PRUNE}-{LOCK}/{request.param}"
    x = np.random.default_rng(0).standard_normal((1, *ticket.network.input), dtype=np.float32)
    tensor, dense = torch.from_numpy(x), Dense(ticket)
    torch.set_num_threads(1)
    stream, resident = Plan(ticket, mode="stream"), Plan(ticket, mode="resident")

    def eager() -> torch.Tensor:
        with torch.inference_mode():
            return dense(tensor)

    np.testing.assert_allclose(stream(x), eager().numpy(), rtol=1e-3, atol=1e-3)
    return name, {"slt stream": lambda: stream(x), "slt resident": lambda: resident(x), PEER: eager}


MEDIANS: dict[tuple[str, str], float] = {}


@pytest.mark.parametrize("engine", ["slt stream", "slt resident", PEER])
def test_network(
    benchmark: Any, engines: tuple[str, dict[str, Engine]], engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ticket, runs = engines

    def others() -> None:
        for name, run in runs.items():
            if name != engine:
                run()

    isa = _core.machine()["isa"]
    benchmark.extra_info.update(ticket=ticket, engine=engine, type="f32", threads=1, batch=1, isa=isa)
    benchmark.pedantic(runs[engine], setup=others, rounds=ROUNDS, warmup_rounds=WARM_UP)
    MEDIANS[ticket, engine] = benchmark.stats.stats.median
    if engine != PEER:
        return
    with capsys.disabled():
        print(f"\n{ticket}, one image, one thread, {isa}; medians")
        for name in runs:
            median = MEDIANS[ticket, name]
            print(f"{name:18}{1e3 * median:8.3f} ms   {PEER} / this {MEDIANS[ticket, PEER] / median:5.2f}")
