"""The torch module against the slow twin: weights, scale, gradient, logits and the folded affine."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from slt_infer import freeze, models, reference
from slt_infer.codec import ticket_from_masks
from slt_infer.errors import SltError
from slt_infer.search.module import MaskedNetwork
from slt_infer.search.source import initial_scores, source_layer
from slt_infer.ticket import (
    AvgPool2d,
    Conv2d,
    Freeze,
    GlobalAvgPool2d,
    LayerShape,
    Linear,
    MaxPool2d,
    Network,
    Relu,
    Source,
    Ticket,
)

SOURCES = [Source(freeze="mixed"), Source("threefry4x32", 12, 2**64 - 3)]


def masked(name: str, sparsity: float = 0.5, prune: float = 0.2, lock: float = 0.15, **more) -> MaskedNetwork:
    graph = models.network(name, **more)
    return MaskedNetwork(graph, SOURCES[1], freeze.thresholds(graph.layers, prune, lock), sparsity)


def as_ticket(net: MaskedNetwork, source: Source) -> Ticket:
    """The ticket that the module stands for."""
    freezes, affines = zip(*((layer.freeze, layer.affine()) for layer in net.each()), strict=True)
    return ticket_from_masks(net.network, source, freezes, net.masks(), affines)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.generator)
@pytest.mark.parametrize(
    "shape",
    [
        LayerShape("a", 5, 3, (3, 3)),
        LayerShape("b", 4, 129),
        LayerShape("c", 6, 2, (3, 2), groups=3),
        LayerShape("d", 1, 128),
    ],
    ids=lambda s: s.name,
)
@pytest.mark.parametrize("frozen", [Freeze(), Freeze(8, 51, 30), Freeze(2, 1, 1), Freeze(1, 1, 0)])
def test_source_is_the_formats(source: Source, shape: LayerShape, frozen: Freeze) -> None:
    made = source_layer(source, 7, shape, frozen)
    pattern = reference.pattern(source, 7, shape, frozen).ravel()
    np.testing.assert_array_equal(made.negative, reference.negative(source, 7, shape).ravel())
    np.testing.assert_array_equal(made.free, pattern == 0)
    np.testing.assert_array_equal(made.locked, pattern == 1)
    free = int((pattern == 0).sum())
    expected = reference.initial_scores(source, 7, free, math.sqrt(6 / shape.fan_in))
    np.testing.assert_array_equal(initial_scores(source, 7, shape, free), expected.astype(np.float32))


def test_initial_scores_have_the_deviation_of_kaimings_normal_law() -> None:
    scores = initial_scores(Source(), 0, LayerShape("a", 1000, 200), 200_000, scale=2.0)
    assert abs(scores.mean()) < 1e-3
    assert scores.std() == pytest.approx(2 * math.sqrt(2 / 200), rel=0.01)


@pytest.mark.parametrize("name", ["conv2@0.05", "mlp-30-20-10", "resnet18-cifar@0.05"])
def test_weights_are_the_formats(name: str) -> None:
    net = masked(name)
    net.select()
    ticket = as_ticket(net, SOURCES[1])
    for layer, weight in zip(ticket.layers, net.weights(), strict=True):
        np.testing.assert_array_equal(weight.numpy(), reference.weights(SOURCES[1], layer))
    kept = net.network.weights - net.network.weights // 2
    assert sum(net.kept()) == kept == sum(int((w != 0).sum()) for w in net.weights())


def test_the_mask_is_the_largest_free_scores() -> None:
    net = masked("mlp-30-20-10")
    net.select()
    size = net.scores.detach().abs()
    assert size[net.mask].min() > size[~net.mask].max()


def test_per_layer_keeps_the_share_in_each_layer() -> None:
    graph = models.network("mlp-30-20-11-5")
    net = MaskedNetwork(
        graph, Source(), freeze.thresholds(graph.layers, 0.1, 0.1, "uniform"), 0.3, "edge-popup-local"
    )
    net.select()
    assert net.kept() == [600 - 180, 220 - 66, 55 - 16]


def test_per_layer_warns_where_a_layer_cannot_keep_its_share() -> None:
    graph = models.network("mlp-30-20-10")
    with pytest.warns(UserWarning, match="layer fc1"):
        MaskedNetwork(graph, Source(), [Freeze(2, 3, 0), Freeze()], 0.5, "edge-popup-local")


def test_gradient_is_straight_through_to_every_free_score() -> None:
    """d loss / d score = d loss / d weight * sign * c * sgn(score), the former by torch for plain layers."""
    net = masked("mlp-30-20-10", input=(30, 1, 1))
    x, labels = torch.randn(8, 30, 1, 1, generator=torch.Generator().manual_seed(1)), torch.arange(8)
    net.train()
    loss = torch.nn.functional.cross_entropy(net(x), labels)
    loss.backward()
    weights = [weight.clone().requires_grad_() for weight in net.weights()]
    hidden = torch.nn.functional.batch_norm(x.flatten(1) @ weights[0].T, None, None, training=True)
    plain = torch.nn.functional.cross_entropy(hidden.relu() @ weights[1].T, labels)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    plain.backward()
    for i, (layer, weight) in enumerate(zip(net.each(), weights, strict=True)):
        free = reference.pattern(SOURCES[1], i, layer.shape, layer.freeze) == 0
        sign = np.where(reference.negative(SOURCES[1], i, layer.shape), -1.0, 1.0)[free]
        score = net.scores.detach()[layer.span].numpy()
        expected = weight.grad.numpy()[free] * sign * layer.constant * np.sign(score)
        got = net.scores.grad[layer.span].numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-7)
        assert np.count_nonzero(got) > 0.9 * len(got) * (0.5 if i == 0 else 1)


def test_gradient_of_a_convolution_has_the_rows_order() -> None:
    graph = Network("one", (2, 6, 6), (LayerShape("a", 3, 2, (3, 3)),), (Conv2d(0, 0), GlobalAvgPool2d(1)))
    net = MaskedNetwork(graph, Source(), [Freeze(3, 2, 1)], 0.5)
    x = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    net.train()
    (net(x) * torch.tensor([1.0, -2.0, 3.0])).sum().backward()
    # the mean of a cross-correlation is linear: d / d weight(o, ky, kx, c) = g_o * sum of the taps
    taps = np.zeros((3, 3, 2))
    for row in range(3):
        for column in range(3):
            taps[row, column] = x.numpy()[:, :, row : row + 4, column : column + 4].mean((2, 3)).sum(0)
    by_weight = np.array([1.0, -2.0, 3.0])[:, None] * taps.ravel()
    free = reference.pattern(Source(), 0, graph.layers[0], Freeze(3, 2, 1)) == 0
    sign = np.where(reference.negative(Source(), 0, graph.layers[0]), -1.0, 1.0)
    expected = (by_weight * sign)[free] * net.each()[0].constant * np.sign(net.scores.detach().numpy())
    np.testing.assert_allclose(net.scores.grad.numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["mlp-48-20-11-10", "conv2@0.1", "resnet18-cifar@0.04", "every"])
def test_logits_are_those_of_the_ticket(name: str) -> None:
    """In evaluation mode the module computes what reference.py does with the folded affine."""
    if name == "every":
        net = MaskedNetwork(_every_operator(), SOURCES[1], [Freeze(8, 41, 40)] * 3, 0.4)
    else:
        net = masked(name, input=(3, 4, 4) if name.startswith("mlp") else (3, 8, 8))
    images = torch.randn(16, *net.network.input, generator=torch.Generator().manual_seed(3))
    net.train()
    for _ in range(3):
        net(images)  # moves the running statistics
    net.eval()
    net.select()
    with torch.no_grad():
        logits = net(images)
    expected = reference.run(as_ticket(net, SOURCES[1]), images.numpy())
    np.testing.assert_allclose(logits.numpy(), expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


def _every_operator() -> Network:
    layers = (
        LayerShape("a", 8, 3, (3, 3), affine=True),
        LayerShape("b", 8, 2, (3, 1), groups=4),
        LayerShape("c", 5, 8),
    )
    nodes = (
        Conv2d(0, 0, stride=2, padding=1),
        Relu(1),
        MaxPool2d(2, 3, 1, 1),
        Conv2d(3, 1),
        AvgPool2d(4, 2, 1, 1),
        GlobalAvgPool2d(5),
        Linear(6, 2),
    )
    return Network("every", (3, 8, 8), layers, nodes)


def test_folded_affine() -> None:
    net = masked("mlp-30-20-10")
    net.select()
    layer = net.each()[0]
    layer.mean.copy_(torch.linspace(-1, 1, 20))
    layer.var.copy_(torch.linspace(0.5, 2, 20))
    c = float(np.float32(math.sqrt(2 / 30) / math.sqrt(net.kept()[0] / 600)))
    deviation = np.sqrt(layer.var.numpy().astype(np.float64) + 1e-5)
    expected = np.stack([c / deviation, -layer.mean.numpy().astype(np.float64) / deviation])
    np.testing.assert_allclose(layer.affine(), expected, rtol=1e-7)
    assert net.each()[1].affine() is None


def test_scores_exist_for_free_weights_only() -> None:
    net = masked("mlp-30-20-10", prune=0.4, lock=0.4)
    free = sum(layer.free for layer in net.each())
    assert net.scores.shape == (free,)
    assert 100 < free < 220  # 160 expected
    assert [name for name, _ in net.named_parameters()] == ["scores"]


def test_an_empty_layer_is_named() -> None:
    graph = models.network("mlp-30-20-10")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = MaskedNetwork(graph, Source(), [Freeze(0), Freeze(8, 255, 0)], 0.5)
    net.scores.data[net.each()[1].span] = 0
    with pytest.raises(SltError) as caught:
        net.select()
    assert (caught.value.code, caught.value.where) == ("empty-layer", "layer fc2")


def test_nan_is_refused() -> None:
    net = masked("mlp-30-20-10")
    net.scores.data[5] = float("nan")
    with pytest.raises(SltError) as caught:
        net.select()
    assert caught.value.code == "nan-score"


@pytest.mark.parametrize(("freeze", "kind"), [(Freeze(0, 1, 0), "pruned"), (Freeze(0, 0, 1), "locked")])
def test_a_wholly_frozen_layer_has_no_free_weight(freeze: Freeze, kind: str) -> None:
    made = source_layer(Source(), 0, LayerShape("a", 5, 40), freeze)
    assert not made.free.any()
    assert made.locked.all() == (kind == "locked")
