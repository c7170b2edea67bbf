"""The int8 kernels of the compiled module against the same sums in NumPy's int64, weight by weight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slt_infer import _core
from slt_infer.codec import core_layer
from slt_infer.ticket import Network

from .tickets import SHAPES, one_conv, one_linear, random_ticket

ISAS = _core.machine()["isas"]
FORMS = ["none", "planes", "lists"]
KERNELS = ["add", "dot"]


class Case:
    """A random layer with its weights as int64 and as the kernels take them."""

    def __init__(self, network: Network, seed: int, density: float, isa: str, threads: int = 1) -> None:
        ticket = random_ticket(network, seed, density)
        layer = ticket.layers[0]
        self.memory = _core.WeightMemory()
        self.work = _core.Workspace(self.memory, threads, isa)
        self.code = core_layer(ticket.source, layer.shape, layer.id, layer.freeze, layer.code, self.memory)
        kept, sign = self.code.rows(0, self.code.out)
        bits = [
            np.unpackbits(plane.view(np.uint8), axis=1, bitorder="little")[:, : self.code.fan_in].astype(
                np.int64
            )
            for plane in (kept, sign)
        ]
        self.weights = bits[0] - 2 * bits[1]  # [out, K]


def conv_sums(
    x: np.ndarray, weights: np.ndarray, kernel: tuple[int, int], stride: int, padding: int, groups: int
) -> np.ndarray:
    """int64 [n, out, rows, columns] of x int8 [n, c, h, w]; columns of weights are (row, column, channel)."""
    n, channels, *_ = x.shape
    out = len(weights)
    padded = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))[:, :, ::stride, ::stride]
    windows = windows.reshape(n, groups, channels // groups, *windows.shape[2:])
    shaped = weights.reshape(groups, out // groups, *kernel, channels // groups)
    sums = np.einsum("ngcyxij,goijc->ngoyx", windows, shaped)
    return sums.reshape(n, out, *sums.shape[3:])


def rounded(
    sums: np.ndarray,
    m: np.ndarray,
    b: np.ndarray,
    s: int,
    residual: np.ndarray | None = None,
    m_r: int = 0,
    low: int = -127,
    logits: bool = False,
) -> np.ndarray:
    """The formula of docs/numerics.md in int64; m and b [channels] along axis 1."""
    shape = (1, -1) + (1,) * (sums.ndim - 2)
    y = sums.astype(np.int64) * np.reshape(m, shape).astype(np.int64) + np.reshape(b, shape) + ((1 << s) >> 1)
    if residual is not None:
        y += residual.astype(np.int64) * m_r
    ends = (-(2**31), 2**31 - 1) if logits else (low, 127)
    return np.clip(y >> s, *ends).astype(np.int32 if logits else np.int8)


def random_rounding(
    random: np.random.Generator, channels: int, spread: float
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """(m, b, s, m_r) that bring sums of about `spread` to int8; s = 0 and negative m among them."""
    s = int(random.integers(0, 23))
    most = min(32767, max(1, int(127 / max(spread, 1) * 2**s)))
    m = random.integers(-most, most + 1, channels)
    b = random.integers(-(2 ** (s + 6)), 2 ** (s + 6) + 1, channels)
    return m, b, s, int(random.integers(-32767, 32768)) >> int(random.integers(0, 16))


def random_bytes(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.integers(-127, 128, shape, dtype=np.int8)


def check_layer(case: Case, layer: _core.Int8Layer, x: np.ndarray, sums: np.ndarray, seed: int) -> None:
    random = np.random.default_rng(seed)
    call = layer.conv2d if x.ndim == 4 else layer.linear
    for channels in (sums.shape[1], 1):
        m, b, s, m_r = random_rounding(random, channels, float(sums.std()))
        residual = random_bytes(random, sums.shape)
        for r, low in ((None, -127), (residual, 0)):
            requantiser = _core.Requantiser(m, b, s, m_r, low)
            out = np.full(sums.shape, 99, np.int8)
            call(case.work, x, out, requantiser, r)
            np.testing.assert_array_equal(out, rounded(sums, m, b, s, r, m_r, low))
            logits = np.full(sums.shape, 99, np.int32)
            call(case.work, x, logits, requantiser, r)
            np.testing.assert_array_equal(logits, rounded(sums, m, b, s, r, m_r, logits=True))
    one = _core.Requantiser(np.ones(1, np.int32), np.zeros(1, np.int64), 0)
    logits = np.full(sums.shape, 99, np.int32)
    call(case.work, x, logits, one)
    np.testing.assert_array_equal(logits, sums)


def check_conv(
    network: Network, seed: int, density: float, n: int, isa: str, form: str, kernel: str, threads: int = 1
) -> None:
    case = Case(network, seed, density, isa, threads)
    node, shape = network.nodes[0], network.layers[0]
    x = random_bytes(np.random.default_rng(seed), (n, *network.input))
    sums = conv_sums(x, case.weights, shape.kernel, node.stride, node.padding, shape.groups)
    layer = _core.Int8Layer(
        case.code,
        form,
        kernel,
        network.input,
        shape.kernel,
        shape.groups,
        node.stride,
        node.padding,
        case.work,
    )
    check_layer(case, layer, x, sums, seed)


CONVOLUTIONS = SHAPES | {
    "4 by 4 pixels": one_conv(130, 70, (3, 3), (4, 4)),
    "8 by 8 pixels": one_conv(64, 66, (3, 3), (8, 8)),
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv2d(name: str, isa: str, form: str, kernel: str) -> None:
    for seed, density in ((1, 0.05), (2, 0.6), (3, 1.0)):
        check_conv(CONVOLUTIONS[name], seed, density, 2, isa, form, kernel)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("features", "out"),
    [(1, 1), (15, 3), (31, 2), (33, 5), (127, 9), (128, 2), (129, 4), (784, 30), (4099, 7)],
)
def test_linear(features: int, out: int, isa: str, form: str, kernel: str) -> None:
    network = one_linear(features, out)
    for seed, density in ((1, 0.1), (2, 0.9)):
        case = Case(network, seed, density, isa, threads=seed)
        x = random_bytes(np.random.default_rng(seed), (3, features))
        layer = _core.Int8Layer(case.code, form, kernel, (features, 1, 1), (1, 1), 1, 1, 0, case.work)
        check_layer(case, layer, x, x.astype(np.int64) @ case.weights.T, seed)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("threads", [1, 3])
def test_more_images_than_one_pass_takes(form: str, threads: int) -> None:
    network = one_conv(16, 3, (1, 1), (90, 90), padding=0)
    check_conv(network, 1, 0.3, 40, "", form, "add", threads)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("density", [0.05, 0.5, 1.0])
def test_resident_weights_take_two_bits(density: float, kernel: str) -> None:
    for out, inputs in ((64, 64), (3, 300), (70, 7)):
        network = one_conv(inputs, out)
        case = Case(network, 1, density, "")
        size = case.weights.size / 4 + 8 * out
        for form in ("planes", "lists"):
            layer = _core.Int8Layer(case.code, form, kernel, network.input, (3, 3), 1, 1, 1, case.work)
            assert layer.kept == (
                "lists" if form == "lists" and kernel == "add" and density == 0.05 else "planes"
            )
            assert 0 < layer.resident_bytes <= size


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_convolution(data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.integers(1, 4))
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    padding = draw(st.integers(0, 3))
    size = tuple(draw(st.integers(max(1, k - 2 * padding), 19)) for k in kernel)
    network = one_conv(
        groups * draw(st.integers(1, 40)),
        groups * draw(st.integers(1, 9)),
        kernel,
        (size[0], size[1]),
        draw(st.integers(1, 4)),
        padding,
        groups,
    )
    check_conv(
        network,
        draw(st.integers(0, 99)),
        draw(st.floats(0, 1)),
        draw(st.integers(1, 4)),
        draw(st.sampled_from(ISAS)),
        draw(st.sampled_from(FORMS)),
        draw(st.sampled_from(KERNELS)),
        draw(st.integers(1, 3)),
    )


def work_of(isa: str) -> _core.Workspace:
    return _core.Workspace(_core.WeightMemory(), 2, isa)


@settings(max_examples=200, deadline=None)
@given(
    a=st.integers(-127, 127),
    r=st.integers(-127, 127),
    m=st.integers(-32767, 32767),
    m_r=st.integers(-32767, 32767),
    b=st.integers(-(2**46), 2**46) | st.integers(-(2**31), 2**31),
    s=st.integers(0, 22),
    low=st.sampled_from([-127, 0]),
)
def test_rounding_of_single_values(a: int, r: int, m: int, m_r: int, b: int, s: int, low: int) -> None:
    x, y = np.full((1, 33), a, np.int8), np.full((1, 33), r, np.int8)
    requantiser = _core.Requantiser(np.array([m]), np.array([b]), s, m_r, low)
    t = (a * m + r * m_r + b + ((1 << s) >> 1)) >> s
    for isa in ISAS:
        out, logits = np.empty((1, 33), np.int8), np.empty((1, 33), np.int32)
        _core.add_int8(work_of(isa), x, y, out, requantiser)
        _core.add_int8(work_of(isa), x, y, logits, requantiser)
        assert set(out.ravel().tolist()) == {min(max(t, low), 127)}
        assert set(logits.ravel().tolist()) == {min(max(t, -(2**31)), 2**31 - 1)}


@pytest.mark.parametrize("isa", ISAS)
def test_add_and_relu(isa: str) -> None:
    random = np.random.default_rng(1)
    for size in (1, 31, 1025, 5000):
        a, r = random_bytes(random, (size, 1)), random_bytes(random, (size, 1))
        m, b, s, m_r = random_rounding(random, 1, 80)
        out = np.empty_like(a)
        _core.add_int8(work_of(isa), a, r, out, _core.Requantiser(m, b, s, m_r))
        np.testing.assert_array_equal(out, rounded(a, m, b, s, r, m_r))
        _core.relu_int8(work_of(isa), a, out)
        np.testing.assert_array_equal(out, np.maximum(a, 0))


@pytest.mark.parametrize("isa", ISAS)
def test_quantise(isa: str) -> None:
    random = np.random.default_rng(2)
    ties = np.arange(-260, 261, dtype=np.float32) / 2
    scales = [1.0, 0.0625, 2.0**-20, 1.0625 * 2.0**60]
    for scale in map(np.float32, scales):
        ends = np.array([np.inf, -np.inf, -0.0, 3.4e38, -3.4e38, 1e-45], np.float32)
        around = ties * scale
        below, above = np.nextafter(around, np.float32(-np.inf)), np.nextafter(around, np.float32(np.inf))
        noise = random.standard_normal(1000).astype(np.float32) * 70 * scale
        x = np.concatenate([around, below, above, noise, ends]).astype(np.float32)
        out = np.empty(x.shape, np.int8)
        _core.quantise(work_of(isa), x, float(scale), out)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(out, np.clip(np.rint(x / scale), -127, 127).astype(np.int8))


POOLS = [(2, 2, 0), (3, 2, 1), (5, 3, 2), (1, 2, 0), (3, 1, 1), (4, 3, 2), (3, 5, 0), (2, 2, 1), (11, 1, 0)]


@pytest.mark.parametrize("size", [(11, 12), (64, 70)])
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("isa", ISAS)
def test_pools(isa: str, pool: tuple[int, int, int], size: tuple[int, int]) -> None:
    kernel, stride, padding = pool
    random = np.random.default_rng(3)
    x = random_bytes(random, (2, 3, *size))
    around = ((0, 0), (0, 0), (padding, padding), (padding, padding))

    def windows(fill: int) -> np.ndarray:
        padded = np.pad(x.astype(np.int64), around, constant_values=fill)
        every = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
        return every[:, :, ::stride, ::stride]

    most, sums = windows(-999).max((4, 5)), windows(0).sum((4, 5))
    out = np.full(most.shape, 99, np.int8)
    _core.max_pool2d_int8(work_of(isa), x, out, kernel, stride, padding)
    np.testing.assert_array_equal(out, most)
    m, b, s, _ = random_rounding(random, 1, 70 * kernel)
    _core.sum_pool2d_int8(work_of(isa), x, out, kernel, stride, padding, _core.Requantiser(m, b, s))
    np.testing.assert_array_equal(out, rounded(sums, m, b, s))
    flat, logits = np.empty((2, 3), np.int8), np.empty((2, 3), np.int32)
    m, b, s, _ = random_rounding(random, 1, 700)
    total = x.astype(np.int64).sum((2, 3))
    _core.global_sum_int8(x, flat, _core.Requantiser(m, b, s))
    np.testing.assert_array_equal(flat, rounded(total, m, b, s))
    _core.global_sum_int8(x, logits, _core.Requantiser(m, b, s))
    np.testing.assert_array_equal(logits, rounded(total, m, b, s, logits=True))


def test_refusals() -> None:
    one, zero = np.ones(1, np.int32), np.zeros(1, np.int64)
    for m, b, s, m_r, low in [
        (one[:0], zero[:0], 0, 0, -127),
        (one, np.zeros(2, np.int64), 0, 0, -127),
        (one * 32768, zero, 0, 0, -127),
        (one, zero + 2**46 + 1, 0, 0, -127),
        (one, zero, 23, 0, -127),
        (one, zero, -1, 0, -127),
        (one, zero, 0, 2**15, -127),
        (one, zero, 0, 0, -128),
        (one, zero, 0, 0, 1),
        (one.astype(np.float32), zero, 0, 0, -127),
    ]:
        with pytest.raises(ValueError, match=r"m|b|s|low"):
            _core.Requantiser(m, b, s, m_r, low)
    network = one_conv(3, 5)
    case = Case(network, 1, 0.5, "")
    layer = _core.Int8Layer(case.code, "planes", "add", network.input, (3, 3), 1, 1, 1, case.work)
    x, out = np.zeros((2, 3, 7, 6), np.int8), np.zeros((2, 5, 7, 6), np.int8)
    good = _core.Requantiser(one, zero, 0)
    for arguments in [
        (x[:1], out, good, None),
        (x, out[:, :4], good, None),
        (x, out[:, :, ::2], good, None),
        (x, out.astype(np.float32), good, None),
        (x, out.astype(np.int16), good, None),
        (x, out, _core.Requantiser(np.ones(4, np.int32), np.zeros(4, np.int64), 0), None),
        (x, out, good, out[:1]),
    ]:
        with pytest.raises(ValueError, match=r"out|residual|requantiser"):
            layer.conv2d(case.work, *arguments)
    with pytest.raises(ValueError, match="kernel must be"):
        _core.Int8Layer(case.code, "planes", "mul", network.input, (3, 3), 1, 1, 1, case.work)
    with pytest.raises(ValueError, match="keep must be"):
        _core.Int8Layer(case.code, "dense", "add", network.input, (3, 3), 1, 1, 1, case.work)


def test_the_largest_planes_that_a_ticket_may_have():
    pixels = (2**31 - 1) // 127
    x = np.full((1, 1, 4060, 4164), 127, dtype=np.int8)
    assert 2**24 <= x.size <= pixels
    logits = np.zeros((1, 1), dtype=np.int32)
    _core.global_sum_int8(x, logits, _core.Requantiser(np.array([1]), np.array([0]), 0))
    assert logits == 127 * x.size
    with pytest.raises(ValueError, match="2\\^31"):
        _core.global_sum_int8(
            np.zeros((1, 1, 1, pixels + 1), dtype=np.int8),
            logits,
            _core.Requantiser(np.array([1]), np.array([0]), 0),
        )
