"""The slow twin of every fast path: NumPy, straight from docs/format.md and docs/numerics.md, to be read in
one sitting.

Nothing here is imported by the fast paths, and nothing of theirs is used here but the plain data of
ticket.py. int8, section 6 of docs/numerics.md, is in reference_int8.py.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np
from msgspec import msgpack

from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    Freeze,
    GlobalAvgPool2d,
    Layer,
    LayerShape,
    Linear,
    MaskCode,
    MaxPool2d,
    Node,
    Relu,
    Source,
    Ticket,
    unpack_bits,
)

SIGN, FREEZE, SCORE, VALUE, REDRAW, SYNTHETIC = range(6)
U32 = np.uint64(0xFFFFFFFF)

# -- docs/format.md, section 1: random bits ----------------------------------------------------------------


def philox4x32(counters: np.ndarray, key: tuple[int, int], rounds: int) -> np.ndarray:
    """uint32 counters [n, 4] to uint32 words [n, 4]."""
    c0, c1, c2, c3 = (counters[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            p1 & U32,
            (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            p0 & U32,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def threefry4x32(counters: np.ndarray, key: tuple[int, int, int, int], rounds: int) -> np.ndarray:
    """uint32 counters [n, 4] to uint32 words [n, 4]."""
    rotations = [(10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20)]
    keys = [np.uint64(k) for k in (*key, 0x1BD11BDA ^ key[0] ^ key[1] ^ key[2] ^ key[3])]
    x = [(counters[:, i].astype(np.uint64) + keys[i]) & U32 for i in range(4)]

    def mix(to: int, other: int, turn: int) -> None:
        x[to] = (x[to] + x[other]) & U32
        left = (x[other] << np.uint64(turn)) | (x[other] >> np.uint64(32 - turn))
        x[other] = (left & U32) ^ x[to]

    for r in range(rounds):
        a, b = rotations[r % 8]
        mix(0, 1 if r % 2 == 0 else 3, a)
        mix(2, 3 if r % 2 == 0 else 1, b)
        if r % 4 == 3:
            s = (r + 1) // 4
            x = [(x[i] + keys[(s + i) % 5]) & U32 for i in range(4)]
            x[3] = (x[3] + np.uint64(s)) & U32
    return np.stack(x, axis=1).astype(np.uint32)


def words(
    source: Source,
    stream: int,
    layer: int,
    plane: int,
    blocks: int,
    first_block: int = 0,
    generation: int = 0,
) -> np.ndarray:
    """Output words uint32 [blocks, 4] of consecutive counters."""
    counters = np.empty((blocks, 4), dtype=np.uint32)
    counters[:, 0] = first_block + np.arange(blocks, dtype=np.uint64)
    counters[:, 1:] = [plane + 256 * generation, layer, stream]
    key = (source.seed % 2**32, source.seed // 2**32)
    if source.generator == "philox4x32":
        return philox4x32(counters, key, source.rounds)
    return threefry4x32(counters, (*key, 0, 0), source.rounds)


def plane_bits(source: Source, stream: int, layer: int, plane: int, count: int) -> np.ndarray:
    """The first `count` bits of a plane, booleans [count]."""
    return unpack_bits(words(source, stream, layer, plane, -(-count // 128)).ravel(), count)


def plane_numbers(source: Source, stream: int, layer: int, planes: int, count: int) -> np.ndarray:
    """u formed by planes 0 .. planes-1, the first most significant: int64 [count]."""
    u = np.zeros(count, dtype=np.int64)
    for plane in range(planes):
        u = 2 * u + plane_bits(source, stream, layer, plane, count)
    return u


# -- docs/format.md, sections 2 and 3: weights, freeze pattern, free ordinals ------------------------------


def unpad(by_position: np.ndarray, shape: LayerShape) -> np.ndarray:
    """From out * P positions to the matrix [out, K]."""
    return by_position.reshape(shape.out, shape.row_positions)[:, : shape.fan_in]


def negative(source: Source, layer: int, shape: LayerShape) -> np.ndarray:
    """Booleans [out, K]: the weight is -c."""
    return unpad(plane_bits(source, SIGN, layer, 0, shape.out * shape.row_positions), shape)


def translated(block: np.ndarray, g: int) -> np.ndarray:
    """Blocks [n, 128] with their halves swapped if g >= 64, then each rotated by g mod 64."""
    halves = block.reshape(-1, 2, 64)
    return np.roll(halves[:, ::-1] if g >= 64 else halves, g % 64, axis=2).reshape(-1, 128)


MIXED_PLANES = (  # planes 2 to 15: X<g> ^ Y<h>
    *(("T", "U", 0, 107), ("T", "U", 56, 8), ("T", "U", 120, 53), ("T", "U", 8, 25), ("T", "U", 48, 58)),
    *(("T", "U", 16, 101), ("T", "W", 98, 51), ("T", "W", 45, 98), ("T", "W", 30, 120), ("T", "W", 57, 58)),
    *(("U", "W", 106, 33), ("U", "W", 85, 97), ("U", "W", 86, 113), ("U", "W", 29, 70)),
)


def mixed_planes(a: np.ndarray, c: np.ndarray) -> list[np.ndarray]:
    """The 16 freeze planes of the law `mixed` from the first two: booleans [n, 128] each."""
    made = {
        "T": a ^ translated(c, 33) ^ translated(a, 38),
        "U": c ^ translated(a, 95) ^ translated(c, 72),
        "W": a ^ translated(a, 109) ^ translated(c, 52),
    }
    rest = [translated(made[x], g) ^ translated(made[y], h) for x, y, g, h in MIXED_PLANES]
    return [a, c, *rest]


def freeze_numbers(source: Source, layer: int, bits: int, count: int) -> np.ndarray:
    """u at positions 0 .. count-1, count a multiple of 128: int64 [count]."""
    if source.freeze == "bernoulli":
        return plane_numbers(source, FREEZE, layer, bits, count)
    a, c = (plane_bits(source, FREEZE, layer, plane, count).reshape(-1, 128) for plane in range(2))
    u = np.zeros(count, dtype=np.int64)
    for plane in mixed_planes(a, c)[:bits]:
        u = 2 * u + plane.ravel()
    return u


def pattern(source: Source, layer: int, shape: LayerShape, freeze: Freeze) -> np.ndarray:
    """int8 [out, K]: -1 pruned, 0 free, +1 locked."""
    u = unpad(freeze_numbers(source, layer, freeze.bits, shape.out * shape.row_positions), shape)
    locked = u >= 2**freeze.bits - freeze.lock
    return np.where(u < freeze.prune, -1, np.where(locked, 1, 0)).astype(np.int8)


def initial_scores(source: Source, layer: int, free: int, a: float) -> np.ndarray:
    """Signed initial scores by free ordinal, float64 [free]."""
    magnitude = (plane_numbers(source, SCORE, layer, 16, free) + 0.5) * 2.0**-16 * a
    return np.where(plane_bits(source, SCORE, layer, 16, free), -magnitude, magnitude)


def synthetic_mask(source: Source, layer: int, free: int, keep: int) -> np.ndarray:
    """Booleans [free] with `keep` of them set."""
    u = plane_numbers(source, SYNTHETIC, layer, 16, free)
    mask = np.zeros(free, dtype=bool)
    mask[np.argsort(-u, kind="stable")[:keep]] = True
    return mask


def bits_within(layer: Layer, code: MaskCode, outer: np.ndarray) -> np.ndarray:
    """Booleans [free] from a stream that has a bit where `outer`, booleans [free], is true."""
    inner = outer.copy()
    count = int(outer.sum())
    inner[outer] = unpack_bits(layer.decode(code, count), count)
    return inner


def coats(source: Source, layer: Layer) -> np.ndarray:
    """int64 [out, K]: the number of coats that the weight is in."""
    frozen = pattern(source, layer.id, layer.shape, layer.freeze)
    inside = unpack_bits(layer.mask, layer.free)
    number = inside.astype(np.int64)
    for code in layer.coats:
        inside = bits_within(layer, code, inside)
        number += inside
    of_all = np.where(frozen == 1, 1 + len(layer.coats), 0)
    of_all[frozen == 0] = number
    return of_all


def kept(source: Source, layer: Layer) -> np.ndarray:
    """Booleans [out, K]: the weight is part of the ticket."""
    return coats(source, layer) > 0


def signs(source: Source, layer: Layer) -> np.ndarray:
    """Booleans [out, K]: the weight, if kept, is negative."""
    minus = negative(source, layer.id, layer.shape)
    if layer.flips is not None:
        free = pattern(source, layer.id, layer.shape, layer.freeze) == 0
        minus[free] ^= bits_within(layer, layer.flips, unpack_bits(layer.mask, layer.free))
    return minus


def weights(source: Source, layer: Layer) -> np.ndarray:
    """float32 [out, K]: +c or -c times the number of coats, or 0."""
    c = math.sqrt(2 / layer.shape.fan_in) / math.sqrt(layer.kept / layer.shape.weights)
    signed = np.where(signs(source, layer), np.float32(-c), np.float32(c))
    return np.where(kept(source, layer), signed * coats(source, layer).astype(np.float32), np.float32(0))


# -- docs/format.md, sections 4 and 5: the file ------------------------------------------------------------


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def prior_frequencies(
    source: Source, layer: int, free: int, planes: int, sign: bool, intervals: Sequence[Sequence[int]]
) -> list[int]:
    """f of each of a layer's `free` free ordinals; intervals are pairs (start, f)."""
    v = plane_numbers(source, SCORE, layer, planes, free)
    if sign:
        v = 2 * v + plane_bits(source, SCORE, layer, 16, free)
    starts, f = np.array(intervals).T
    return [int(x) for x in f[(v[:, None] >= starts).sum(axis=1) - 1]]


def lanes_of(bits: int) -> int:
    """Lanes of the coded tiles of a stream of so many mask bits in all."""
    return 32 if bits >= 2**15 else 4


def decode_tile(payload: bytes, first: int, lanes: int, frequencies: Sequence[int]) -> list[int]:
    """Mask bits of a coded tile whose first free ordinal is `first`, one for each of its frequencies;
    ValueError if it is malformed.
    """
    stream = list(struct.unpack(f"<{len(payload) // 2}H", payload))
    if len(stream) < 2 * lanes:
        raise ValueError("shorter than its states")
    states = [stream[2 * i] + 65536 * stream[2 * i + 1] for i in range(lanes)]
    if min(states) < 2**16:
        raise ValueError("a state below 2^16")
    position, bits = 2 * lanes, []
    for ordinal, f in enumerate(frequencies, first):
        x = states[ordinal % lanes]
        quotient, s = divmod(x, 4096)
        bits.append(int(s < f))
        x = f * quotient + s if s < f else (4096 - f) * quotient + s - f
        if x < 2**16:
            if position == len(stream):
                raise ValueError("ends too early")
            x = x * 65536 + stream[position]
            position += 1
        states[ordinal % lanes] = x
    if position != len(stream) or any(x != 2**16 for x in states):
        raise ValueError("words left, or a final state that is not 2^16")
    return bits


def encode_tile(bits: Sequence[int], first: int, lanes: int, frequencies: Sequence[int]) -> bytes:
    """The tile that decode_tile turns back into `bits`, whose first free ordinal is `first`."""
    states, emitted = [2**16] * lanes, []
    for ordinal in range(first + len(bits) - 1, first - 1, -1):
        bit, f, x = bits[ordinal - first], frequencies[ordinal - first], states[ordinal % lanes]
        g, start = (f, 0) if bit else (4096 - f, f)
        if x >= g * 2**20:
            emitted.append(x % 65536)
            x //= 65536
        states[ordinal % lanes] = 4096 * (x // g) + x % g + start
    head = [word for x in states for word in (x % 65536, x // 65536)]
    return struct.pack(f"<{2 * lanes + len(emitted)}H", *head, *reversed(emitted))


def decode_raw(payload: bytes, first: int, last: int) -> list[int]:
    """Mask bits of the free ordinals first .. last-1 of a raw tile."""
    every = np.unpackbits(np.frombuffer(payload, np.uint8), bitorder="little")
    return [int(bit) for bit in every[first % 32 : first % 32 + last - first]]


def decode_affine(data: bytes, out: int, bits: int) -> np.ndarray:
    """float32 [2, out] of an affine form of 32, 16 or 8 bits a number; ValueError if it is malformed."""
    code, top = {32: "f", 16: "H", 8: "B"}[bits], 2**bits - 1
    rows, half = [], len(data) // 2
    for part in (data[:half], data[half:]):
        if bits == 32:
            rows.append(list(struct.unpack(f"<{out}f", part)))
            continue
        low, step = struct.unpack("<ff", part[:8])
        codes = struct.unpack(f"<{out}{code}", part[8:])
        with np.errstate(over="ignore", invalid="ignore"):
            rows.append([float(np.float32(low + step * q)) for q in codes])
        if all(map(math.isfinite, rows[-1])):
            exact_low = min(rows[-1])
            exact_step = float(np.float32((max(rows[-1]) - exact_low) / top))
            nearest = [min(round((v - exact_low) / exact_step), top) if exact_step else 0 for v in rows[-1]]
            if part != struct.pack(f"<ff{out}{code}", exact_low, exact_step, *nearest):
                raise ValueError("not the one form of these numbers")
    if not np.isfinite(rows).all():
        raise ValueError("a scale or shift is not finite")
    return np.array(rows, dtype=np.float32)


def read(data: bytes) -> dict:
    """The content of a valid file: the header's arrays, and per layer and task the bits of each of its
    streams and the affine.
    """
    header_bytes, file_bytes = struct.unpack_from("<IQ", data, 12)
    assert data[:12] == b"\x89SLT\r\n\x1a\n\1\0\0\0"
    assert file_bytes == len(data)
    assert struct.unpack_from("<I", data, 28)[0] == crc32c(data[:28] + data[32 : 32 + header_bytes])
    name, image, source, layers, nodes, quantisation, provenance = msgpack.decode(
        data[32 : 32 + header_bytes]
    )

    def aligned(offset: int, to: int) -> int:
        return -(-offset // to) * to

    def tiles(layer: list, stream: list) -> int:
        return 0 if stream[0] == "const" else -(-layer[2] // layer[10])

    assert not quantisation or quantisation[0] == "int8"
    every = [(la, s) for la in layers for _, coats, flips in la[13] for s in (*coats, *flips)]
    index = aligned(32 + header_bytes, 8)
    entries = [
        struct.unpack_from("<III", data, index + 12 * i) for i in range(sum(tiles(*of) for of in every))
    ]
    end = index + 12 * len(entries)
    assert struct.unpack_from("<I", data, end)[0] == (crc32c(data[index:end]) if entries else 0)
    at = aligned(end + 4, 8)

    def stream_bits(layer: list, stream: list, total: int) -> list[int]:
        """The `total` bits of the stream that comes next."""
        nonlocal at
        mode, density = stream[:2]
        if mode == "const":
            return [density // 4096] * total
        bits: list[int] = []
        frequencies = [density] * total
        if mode == "prior":
            frequencies = prior_frequencies(Source(*source), layer[1], total, *stream[2:])
        for _ in range(tiles(layer, stream)):
            count, tagged, crc = entries.pop(0)
            size = 2 * (tagged % 2**31)
            payload = data[at : at + size]
            assert crc == crc32c(payload)
            if count and (mode == "raw" or tagged >= 2**31):
                bits += decode_raw(payload, len(bits), len(bits) + count)
            elif count:
                of_tile = frequencies[len(bits) : len(bits) + count]
                bits += decode_tile(payload, len(bits), lanes_of(total), of_tile)
            at = aligned(at + size, 4)
        at = aligned(at, 8)
        assert len(bits) == total
        return bits

    streams: list[list[list[list[int]]]] = []
    for layer in layers:
        shape = LayerShape(layer[0], layer[2], layer[3], (layer[4], layer[5]), layer[6])
        streams.append([])
        for _, coats, flips in layer[13]:
            total = int((pattern(Source(*source), layer[1], shape, Freeze(*layer[7:10])) == 0).sum())
            its: list[list[int]] = []
            for coat in coats:
                its.append(stream_bits(layer, coat, total))
                total = sum(its[-1])
            its += [stream_bits(layer, flip, sum(its[0])) for flip in flips]
            streams[-1].append(its)
    affines: list[list[np.ndarray]] = []
    for layer in layers:
        tasks, width = len(layers[0][13]), layer[12]
        size = 8 * layer[2] if width == 32 else 16 + layer[2] * width // 4
        affines.append([])
        if width:
            whole = data[at : at + tasks * size]
            assert struct.unpack_from("<I", data, at + len(whole))[0] == crc32c(whole)
            forms = [whole[i * size : (i + 1) * size] for i in range(tasks)]
            affines[-1] = [decode_affine(form, layer[2], width) for form in forms]
            at = aligned(at + len(whole) + 4, 8)
    assert at == len(data)
    return {
        "name": name,
        "input": image,
        "source": source,
        "layers": layers,
        "nodes": nodes,
        "quantisation": quantisation,
        "provenance": provenance,
        "streams": streams,  # [layer][task][coats, then flips]: bits; nothing for a shared layer
        "affines": affines,  # [layer][task]; nothing for a layer without
    }


# -- docs/numerics.md: the operators in f32 ----------------------------------------------------------------


def columns(
    x: np.ndarray, kernel: tuple[int, int], stride: int, padding: int, fill: float = 0.0
) -> np.ndarray:
    """Windows of images: [N, C, H, W] to [N, kernel rows, kernel columns, C, rows, columns]."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))[:, :, ::stride, ::stride]
    return windows.transpose(0, 4, 5, 1, 2, 3)


def conv2d_sums(
    x: np.ndarray, number: np.ndarray, minus: np.ndarray, layer: LayerShape, node: Conv2d
) -> np.ndarray:
    """Sums with weights +-number: x [N, C, H, W] float32, number (of coats) and minus [out, K], to
    [N, out, rows, columns].
    """
    window = columns(x, layer.kernel, node.stride, node.padding)
    n, (rows, cols) = x.shape[0], window.shape[4:]
    per_group = layer.out // layer.groups
    result = np.empty((n, layer.out, rows * cols), dtype=np.float32)
    for group in range(layer.groups):
        channels = slice(group * layer.inputs, (group + 1) * layer.inputs)
        taps = window[:, :, :, channels].reshape(n, layer.fan_in, rows * cols)
        out = slice(group * per_group, (group + 1) * per_group)
        many = number[out].astype(np.float32)
        plus, less = (number > 0)[out] & ~minus[out], (number > 0)[out] & minus[out]
        acc = np.zeros((n, per_group, rows * cols), dtype=np.float32)
        for block in range(0, layer.fan_in, 128):
            positive, negative_ = np.zeros_like(acc), np.zeros_like(acc)
            for k in range(block, min(block + 128, layer.fan_in)):
                # a sum that starts from +0 is never -0, so adding +0 for what is not kept changes nothing
                tap = taps[:, None, k] * many[:, k, None]
                positive += np.where(plus[:, k, None], tap, np.float32(0))
                negative_ += np.where(less[:, k, None], tap, np.float32(0))
            acc += positive - negative_
        result[:, out] = acc
    return result.reshape(n, layer.out, rows, cols)


def linear_sums(x: np.ndarray, number: np.ndarray, minus: np.ndarray) -> np.ndarray:
    """Sums with weights +-number in 16 lanes: x [N, K] float32, number (of coats) and minus [out, K], to
    [N, out].
    """
    lanes = np.zeros((x.shape[0], number.shape[0], 16), dtype=np.float32)
    many = number.astype(np.float32)
    for k in range(x.shape[1]):
        signed = np.where(minus[:, k], -x[:, None, k], x[:, None, k]) * many[:, k]
        lanes[:, :, k % 16] += np.where(number[:, k] > 0, signed, np.float32(0))
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :, :half] + lanes[:, :, half:]
    return lanes[:, :, 0]


def max_pool2d(x: np.ndarray, node: MaxPool2d) -> np.ndarray:
    windows = columns(x, (node.kernel, node.kernel), node.stride, node.padding, -np.inf)
    return windows.max(axis=(1, 2))


def _row_major_sum(windows: np.ndarray) -> np.ndarray:
    """[N, rows, columns, ...] summed over rows and columns, row by row, from +0, one float32 addition at a
    time.
    """
    total = np.zeros_like(windows[:, 0, 0])
    for row in range(windows.shape[1]):
        for column in range(windows.shape[2]):
            total += windows[:, row, column]
    return total


def avg_pool2d(x: np.ndarray, node: AvgPool2d) -> np.ndarray:
    windows = columns(x, (node.kernel, node.kernel), node.stride, node.padding)
    return _row_major_sum(windows) / np.float32(node.kernel**2)


def global_avg_pool2d(x: np.ndarray) -> np.ndarray:
    return _row_major_sum(x.transpose(0, 2, 3, 1)) / np.float32(x.shape[2] * x.shape[3])


def scaled(sums: np.ndarray, layer: Layer) -> np.ndarray:
    """The layer's affine, or its constant, on sums [N, out, ...]."""
    if layer.affine is None:
        return sums * layer.constant
    scale, shift = (a.reshape(-1, *[1] * (sums.ndim - 2)) for a in layer.affine)
    return sums * scale + shift


def run(ticket: Ticket, images: np.ndarray) -> np.ndarray:
    """Logits [N, classes] of preprocessed images [N, C, H, W], both float32."""
    values = [np.asarray(images, dtype=np.float32)]
    for node in ticket.network.nodes:
        values.append(_run_node(ticket, node, values))
    return values[-1]


def _run_node(ticket: Ticket, node: Node, values: list[np.ndarray]) -> np.ndarray:
    if isinstance(node, Add):
        return values[node.left] + values[node.right]
    x = values[node.value]
    if isinstance(node, Conv2d | Linear):
        layer = ticket.layers[node.layer]
        number, minus = coats(ticket.source, layer), signs(ticket.source, layer)
        if isinstance(node, Conv2d):
            return scaled(conv2d_sums(x, number, minus, layer.shape, node), layer)
        return scaled(linear_sums(x, number, minus), layer)
    if isinstance(node, Relu):
        return np.where(x > 0, x, np.float32(0))
    if isinstance(node, MaxPool2d):
        return max_pool2d(x, node)
    if isinstance(node, AvgPool2d):
        return avg_pool2d(x, node)
    if isinstance(node, GlobalAvgPool2d):
        return global_avg_pool2d(x)
    assert isinstance(node, Flatten)
    return x.reshape(len(x), math.prod(x.shape[1:]))
