"""Section 1 of docs/format.md in plain Python: the generators and their planes. No code of the package."""

from __future__ import annotations

M32, M64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
ROUNDS = {"philox4x32": (10, 7), "threefry4x32": (20, 13, 12)}
SIGN, FREEZE, SCORE, SYNTHETIC = 0, 1, 2, 5  # streams
_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))


def philox(rounds: int, counter: tuple[int, ...], seed: int) -> tuple[int, int, int, int]:
    c0, c1, c2, c3 = counter
    k0, k1 = seed & M32, seed >> 32
    for _ in range(rounds):
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = b >> 32 ^ c1 ^ k0, b & M32, a >> 32 ^ c3 ^ k1, a & M32
        k0, k1 = k0 + 0x9E3779B9 & M32, k1 + 0xBB67AE85 & M32
    return c0, c1, c2, c3


def _mix(a: int, b: int, rotation: int) -> tuple[int, int]:
    a = a + b & M32
    return a, (b << rotation & M32 | b >> 32 - rotation) ^ a


def threefry(rounds: int, counter: tuple[int, ...], seed: int) -> tuple[int, int, int, int]:
    k0, k1 = seed & M32, seed >> 32
    keys = (k0, k1, 0, 0, 0x1BD11BDA ^ k0 ^ k1)
    x0, x1, x2, x3 = (c + k & M32 for c, k in zip(counter, keys, strict=False))
    for r in range(rounds):
        a, b = _ROTATIONS[r % 8]
        if r % 2 == 0:
            x0, x1 = _mix(x0, x1, a)
            x2, x3 = _mix(x2, x3, b)
        else:
            x0, x3 = _mix(x0, x3, a)
            x2, x1 = _mix(x2, x1, b)
        if r % 4 == 3:
            s = (r + 1) // 4
            x0, x1, x2, x3 = (x + keys[(s + i) % 5] & M32 for i, x in enumerate((x0, x1, x2, x3)))
            x3 = x3 + s & M32
    return x0, x1, x2, x3


def _moved(block: int, g: int) -> int:
    low, high = block & M64, block >> 64
    if g >= 64:
        low, high = high, low
    low, high = ((half << g % 64 | half >> 64 - g % 64) & M64 for half in (low, high))
    return low | high << 64


def _mixed(a: int, c: int) -> list[int]:
    """The 16 freeze planes of a block by the law `mixed`, from the blocks of planes 0 and 1."""
    t = a ^ _moved(c, 33) ^ _moved(a, 38)
    u = c ^ _moved(a, 95) ^ _moved(c, 72)
    w = a ^ _moved(a, 109) ^ _moved(c, 52)
    by_t_u = [(0, 107), (56, 8), (120, 53), (8, 25), (48, 58), (16, 101)]
    by_t_w = [(98, 51), (45, 98), (30, 120), (57, 58)]
    by_u_w = [(106, 33), (85, 97), (86, 113), (29, 70)]
    return [
        a,
        c,
        *(_moved(t, g) ^ _moved(u, h) for g, h in by_t_u),
        *(_moved(t, g) ^ _moved(w, h) for g, h in by_t_w),
        *(_moved(u, g) ^ _moved(w, h) for g, h in by_u_w),
    ]


class Source:
    """Planes of one seed. A run of indices is one integer: its bit i is the plane's bit first + i."""

    def __init__(self, generator: str, rounds: int, seed: int, freeze: str = "bernoulli") -> None:
        self._words = philox if generator == "philox4x32" else threefry
        self._rounds, self._seed, self._freeze = rounds, seed, freeze

    def block(self, stream: int, layer: int, plane: int, block: int) -> int:
        """The 128 bits of one call, generation 0."""
        assert 0 <= block <= M32
        w0, w1, w2, w3 = self._words(self._rounds, (block, plane, layer, stream), self._seed)
        return w0 | w1 << 32 | w2 << 64 | w3 << 96

    def freeze_planes(self, bits: int, layer: int, first: int, count: int) -> list[int]:
        """Freeze planes 0 ... bits - 1 at `count` positions from `first` on, a multiple of 128."""
        if self._freeze == "bernoulli":
            return [self.run(FREEZE, layer, plane, first, count) for plane in range(bits)]
        planes = [0] * bits
        for at in range(0, count, 128):
            blocks = [self.block(FREEZE, layer, plane, (first + at) // 128) for plane in range(2)]
            for plane, block in enumerate(_mixed(*blocks)[:bits]):
                planes[plane] |= block << at
        return [plane & (1 << count) - 1 for plane in planes]

    def run(self, stream: int, layer: int, plane: int, first: int, count: int) -> int:
        """Bits first ... first + count - 1 of a plane; first is a multiple of 128."""
        blocks = range(first // 128, -(-(first + count) // 128))
        bits = b"".join(self.block(stream, layer, plane, block).to_bytes(16, "little") for block in blocks)
        return int.from_bytes(bits, "little") & (1 << count) - 1
