"""The kernels stay within the bounds that docs/numerics.md proves, against float64 on the same weights."""

from __future__ import annotations

import numpy as np
import pytest

from slt_infer import reference
from slt_infer.runtime import accumulations
from slt_infer.ticket import Network, Ticket

from .tickets import images, one_conv, one_linear, random_ticket

torch = pytest.importorskip("torch", reason="the exact products come from torch")

U = 2.0**-24


def gamma(roundings: int) -> float:
    return roundings * U / (1 - roundings * U)


def sums_of(ticket: Ticket, x: np.ndarray) -> np.ndarray:
    """The only layer's sums with weights +-1."""
    seen: list[np.ndarray] = []

    def keep(_: int, sums: np.ndarray) -> np.ndarray:
        seen.append(sums.copy())
        return np.stack([np.ones(sums.shape[1]), np.zeros(sums.shape[1])]).astype(np.float32)

    accumulations(ticket, x, keep)
    return seen[0].astype(np.float64)


def unit_weights(ticket: Ticket) -> np.ndarray:
    """float64 [out, K] in {-1, 0, 1}."""
    return np.sign(reference.weights(ticket.source, ticket.layers[0])).astype(np.float64)


def assert_within(actual: np.ndarray, exact: np.ndarray, magnitude: np.ndarray, roundings: int) -> None:
    # float64 itself errs by far less than one part in 2^40 here
    bound = gamma(roundings) * magnitude * (1 + 2.0**-20)
    assert (np.abs(actual - exact) <= bound).all()
    assert np.abs(exact).max() > 0


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
@pytest.mark.parametrize(
    ("network", "stride", "padding", "groups"),
    [
        (one_conv(3, 8, (3, 3), (9, 7)), 1, 1, 1),
        (one_conv(64, 16, (3, 3), (8, 8), stride=2), 2, 1, 1),
        (one_conv(300, 10, (1, 1), (4, 4), padding=0), 1, 0, 1),
        (one_conv(16, 12, (5, 3), (12, 11), stride=3, padding=2, groups=4), 3, 2, 4),
        (one_conv(512, 4, (3, 3), (4, 4)), 1, 1, 1),
    ],
)
def test_conv2d(network: Network, stride: int, padding: int, groups: int, density: float) -> None:
    ticket, x = random_ticket(network, density=density), images(network, 2)
    shape = network.layers[0]
    # K runs over (kernel row, kernel column, input channel)
    weights = unit_weights(ticket).reshape(shape.out, *shape.kernel, shape.inputs).transpose(0, 3, 1, 2)
    w, y = torch.from_numpy(weights.copy()), torch.from_numpy(x.astype(np.float64))

    def exact(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
        return torch.nn.functional.conv2d(a, b, stride=stride, padding=padding, groups=groups).numpy()

    roundings = min(shape.fan_in, 128) + -(-shape.fan_in // 128)
    assert_within(sums_of(ticket, x), exact(y, w), exact(y.abs(), w.abs()), roundings)


@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("features", [5, 16, 100, 784, 5000])
def test_linear(features: int, density: float) -> None:
    network = one_linear(features, 12)
    ticket, x = random_ticket(network, density=density), images(network, 3)
    w, y = unit_weights(ticket), x.reshape(3, -1).astype(np.float64)
    assert_within(sums_of(ticket, x), y @ w.T, np.abs(y) @ np.abs(w).T, -(-features // 16) + 3)
