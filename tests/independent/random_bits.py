"""Section 1 of docs/format.md in plain Python: the generators and their planes. No code of the package."""

from __future__ import annotations

M32 = 0xFFFFFFFF
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


class Source:
    """Planes of one seed. A run of indices is one integer: its bit i is the plane's bit first + i."""

    def __init__(self, generator: str, rounds: int, seed: int) -> None:
        self._words = philox if generator == "philox4x32" else threefry
        self._rounds, self._seed = rounds, seed

    def block(self, stream: int, layer: int, plane: int, block: int) -> int:
        """The 128 bits of one call, generation 0."""
        assert 0 <= block <= M32
        w0, w1, w2, w3 = self._words(self._rounds, (block, plane, layer, stream), self._seed)
        return w0 | w1 << 32 | w2 << 64 | w3 << 96

    def run(self, stream: int, layer: int, plane: int, first: int, count: int) -> int:
        """Bits first ... first + count - 1 of a plane; first is a multiple of 128."""
        blocks = range(first // 128, -(-(first + count) // 128))
        bits = b"".join(self.block(stream, layer, plane, block).to_bytes(16, "little") for block in blocks)
        return int.from_bytes(bits, "little") & (1 << count) - 1
