"""The sizes printed in Tables 1 and 2 of the frozen-networks paper, for the networks that are here.

Its accounting: MiB of one bit per free weight and 64 bits per normalised channel; "trained" is float32
weights and the same channels. The free weights are counted from freeze patterns that really are drawn.
"""

from __future__ import annotations

import pytest

from slt_infer import models
from slt_infer.codec import pattern_counts
from slt_infer.freeze import check, thresholds
from slt_infer.report import paper_bytes
from slt_infer.report.sizes import affine_bytes
from slt_infer.ticket import Source

TRAINED = [("conv6", "8.63"), ("resnet18-cifar", "42.63"), ("resnet50", "97.49")]
TICKETS = [
    # network, sparsity, prune, lock, printed MiB
    ("conv6", 0.5, 0.0, 0.0, "0.27"),
    ("conv6", 0.5, 0.45, 0.0, "0.15"),
    ("conv6", 0.5, 0.25, 0.25, "0.13"),
    ("resnet18-cifar", 0.9, 0.0, 0.0, "1.37"),
    ("resnet18-cifar", 0.9, 0.85, 0.0, "0.24"),
    ("resnet18-cifar", 0.9, 0.825, 0.025, "0.24"),
    ("resnet18-cifar", 0.9, 0.85, 0.05, "0.17"),
    ("resnet50", 0.8, 0.0, 0.0, "3.24"),
    ("resnet50", 0.8, 0.7, 0.0, "1.11"),
    ("resnet50", 0.8, 0.65, 0.05, "1.11"),
    ("resnet34", 0.8, 0.0, 0.0, "2.66"),
    ("resnet34", 0.8, 0.7, 0.0, "0.84"),
    ("resnet34", 0.8, 0.65, 0.05, "0.84"),
    ("resnet18", 0.8, 0.0, 0.0, "1.43"),
    ("resnet18", 0.8, 0.7, 0.0, "0.45"),
    ("resnet18", 0.8, 0.65, 0.05, "0.45"),
]


def network(name: str):
    return models.network(name, classes=10 if name in ("conv6", "resnet18-cifar") else 1000)


@pytest.mark.parametrize(("name", "printed"), TRAINED)
def test_a_trained_network(name, printed):
    layers = network(name).layers
    total = 4 * sum(layer.weights for layer in layers) + affine_bytes(layers)
    assert f"{total / 2**20:.2f}" == printed


@pytest.mark.parametrize(("name", "sparsity", "prune", "lock", "printed"), TICKETS)
def test_a_ticket(name, sparsity, prune, lock, printed):
    check(sparsity, prune, lock)
    net = network(name)
    counts = pattern_counts(net, Source(seed=1), thresholds(net.layers, prune, lock, "epl"))
    assert f"{paper_bytes(sum(free for _, _, free in counts), net.layers) / 2**20:.2f}" == printed
