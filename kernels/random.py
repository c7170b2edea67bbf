"""Planes of random bits and freeze patterns in Triton, bit for bit those of docs/format.md, sections 1 to 3.

`philox4x32`, `threefry4x32` and `block_words` are device functions for other kernels; the functions at the
end launch small kernels that write whole planes. Tested through Triton's interpreter (TRITON_INTERPRET=1) and
compiled ahead of time for sm_80 and sm_90; not yet run on a GPU.

Words are torch.int32 tensors that hold the bits of uint32 words, as few torch operators know uint32. Counter
and key arithmetic is in uint32 throughout: nothing depends on how Triton treats 64-bit offsets.
"""

# Triton's decorator has no types, and its functions take tensors, pointers and constants alike.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from __future__ import annotations

import torch
import triton
import triton.language as tl

from slt_infer.ticket import BLOCK, ROUNDS

BLOCKS_PER_PROGRAM = 128
SCORE_PLANES = 17  # 16 of the magnitude, then the sign


@triton.jit
def philox4x32(c0, c1, c2, c3, k0, k1, rounds: tl.constexpr):
    """Four uint32 words from four uint32 counter words and two uint32 key words."""
    for _ in tl.static_range(rounds):
        high0 = tl.umulhi(c0, 0xD2511F53)
        low0 = c0 * 0xD2511F53
        high1 = tl.umulhi(c2, 0xCD9E8D57)
        low1 = c2 * 0xCD9E8D57
        c0 = high1 ^ c1 ^ k0
        c1 = low1
        c2 = high0 ^ c3 ^ k1
        c3 = low0
        k0 = k0 + 0x9E3779B9
        k1 = k1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def _mix(a, b, turn: tl.constexpr):
    a = a + b
    return a, ((b << turn) | (b >> (32 - turn))) ^ a


@triton.jit
def _threefry_round(x0, x1, x2, x3, keys, r: tl.constexpr):
    a: tl.constexpr = (10, 11, 13, 23, 6, 17, 25, 18)[r % 8]
    b: tl.constexpr = (26, 21, 27, 5, 20, 11, 10, 20)[r % 8]
    if r % 2 == 0:
        x0, x1 = _mix(x0, x1, a)
        x2, x3 = _mix(x2, x3, b)
    else:
        x0, x3 = _mix(x0, x3, a)
        x2, x1 = _mix(x2, x1, b)
    if r % 4 == 3:
        s: tl.constexpr = (r + 1) // 4
        x0 = x0 + keys[s % 5]
        x1 = x1 + keys[(s + 1) % 5]
        x2 = x2 + keys[(s + 2) % 5]
        x3 = x3 + keys[(s + 3) % 5] + s
    return x0, x1, x2, x3


@triton.jit
def threefry4x32(x0, x1, x2, x3, k0, k1, k2, k3, rounds: tl.constexpr):
    """Four uint32 words from four uint32 counter words and four uint32 key words."""
    keys = (k0, k1, k2, k3, k0 ^ k1 ^ k2 ^ k3 ^ 0x1BD11BDA)
    x0 = x0 + k0
    x1 = x1 + k1
    x2 = x2 + k2
    x3 = x3 + k3
    for r in tl.static_range(rounds):
        x0, x1, x2, x3 = _threefry_round(x0, x1, x2, x3, keys, r)
    return x0, x1, x2, x3


@triton.jit
def block_words(
    k0, k1, stream, layer, generation, plane, block, generator: tl.constexpr, rounds: tl.constexpr
):
    """The 128 bits of each block (a vector of block numbers) of a plane, as four vectors of uint32 words."""
    c0 = block.to(tl.uint32)
    zero = c0 ^ c0
    c1 = zero + (tl.cast(plane, tl.uint32) + tl.cast(generation, tl.uint32) * 256)
    c2 = zero + tl.cast(layer, tl.uint32)
    c3 = zero + tl.cast(stream, tl.uint32)
    k0 = tl.cast(k0, tl.uint32)
    k1 = tl.cast(k1, tl.uint32)
    if generator == "philox4x32":
        c0, c1, c2, c3 = philox4x32(c0, c1, c2, c3, k0, k1, rounds)
    else:
        c0, c1, c2, c3 = threefry4x32(c0, c1, c2, c3, k0, k1, zero, zero, rounds)
    return c0, c1, c2, c3


@triton.jit
def words_kernel(
    out, counters, keys, count, generator: tl.constexpr, rounds: tl.constexpr, size: tl.constexpr
):
    """out int32 [count, 4]: the generator's words for counters int32 [count, 4] and keys int32 [count, 4]."""
    row = tl.program_id(0) * size + tl.arange(0, size)
    inside = row < count
    c0, c1, c2, c3 = _load(counters, row, inside)
    k0, k1, k2, k3 = _load(keys, row, inside)
    if generator == "philox4x32":
        c0, c1, c2, c3 = philox4x32(c0, c1, c2, c3, k0, k1, rounds)
    else:
        c0, c1, c2, c3 = threefry4x32(c0, c1, c2, c3, k0, k1, k2, k3, rounds)
    _store(out, row, count, c0, c1, c2, c3)


@triton.jit
def _load(table, row, inside):
    w0 = tl.load(table + 4 * row, mask=inside, other=0).to(tl.uint32, bitcast=True)
    w1 = tl.load(table + 4 * row + 1, mask=inside, other=0).to(tl.uint32, bitcast=True)
    w2 = tl.load(table + 4 * row + 2, mask=inside, other=0).to(tl.uint32, bitcast=True)
    w3 = tl.load(table + 4 * row + 3, mask=inside, other=0).to(tl.uint32, bitcast=True)
    return w0, w1, w2, w3


@triton.jit
def _store(to, block, blocks, w0, w1, w2, w3):
    inside = block < blocks
    tl.store(to + 4 * block, w0.to(tl.int32, bitcast=True), mask=inside)
    tl.store(to + 4 * block + 1, w1.to(tl.int32, bitcast=True), mask=inside)
    tl.store(to + 4 * block + 2, w2.to(tl.int32, bitcast=True), mask=inside)
    tl.store(to + 4 * block + 3, w3.to(tl.int32, bitcast=True), mask=inside)


@triton.jit
def plane_kernel(
    out, k0, k1, stream, layer, generation, plane, block0, blocks,
    generator: tl.constexpr, rounds: tl.constexpr, size: tl.constexpr,
):  # fmt: skip
    """out int32 [planes, 4 * blocks]; program axis 0: `size` blocks, axis 1: planes from `plane` on."""
    block = tl.program_id(0) * size + tl.arange(0, size)
    row = tl.program_id(1)
    w0, w1, w2, w3 = block_words(
        k0, k1, stream, layer, generation, plane + row, block0 + block, generator, rounds
    )
    _store(out + row.to(tl.int64) * 4 * blocks, block, blocks, w0, w1, w2, w3)


@triton.jit
def _compare(below, u, threshold_bit):
    """u < threshold with one more bit of u, least significant first: majority of below, ~u and the bit."""
    return _without(below | threshold_bit, u) | (below & threshold_bit)


@triton.jit
def _without(a, b):
    """The bits of a that b has not: the interpreter of Triton 3.6 cannot do ~ on uint32."""
    return a & (b ^ 0xFFFFFFFF)


@triton.jit
def _real_bits(column, fan_in):
    """Of the word that begins at `column` of its row: the bits before the padding."""
    real = fan_in - column
    some = (tl.full(column.shape, 1, tl.uint32) << (real & 31).to(tl.uint32)) - 1
    return tl.where(real >= 32, 0xFFFFFFFF, tl.where(real <= 0, 0, some))


@triton.jit
def _moved(w0, w1, w2, w3, g: tl.constexpr):
    """A block, its halves (w0, w1) and (w2, w3) swapped if g >= 64, each then rotated left by g mod 64."""
    if g >= 64:
        w0, w1, w2, w3 = w2, w3, w0, w1
    if g % 64 >= 32:
        w0, w1, w2, w3 = w1, w0, w3, w2
    s: tl.constexpr = g % 32
    if s != 0:
        w0, w1 = (w0 << s) | (w1 >> (32 - s)), (w1 << s) | (w0 >> (32 - s))
        w2, w3 = (w2 << s) | (w3 >> (32 - s)), (w3 << s) | (w2 >> (32 - s))
    return w0, w1, w2, w3


@triton.jit
def _both(x0, x1, x2, x3, y0, y1, y2, y3):
    return x0 ^ y0, x1 ^ y1, x2 ^ y2, x3 ^ y3


@triton.jit
def _sum(x0, x1, x2, x3, y0, y1, y2, y3, g: tl.constexpr, h: tl.constexpr):
    """X<g> ^ Y<h> of docs/format.md, section 3."""
    x0, x1, x2, x3 = _moved(x0, x1, x2, x3, g)
    y0, y1, y2, y3 = _moved(y0, y1, y2, y3, h)
    return _both(x0, x1, x2, x3, y0, y1, y2, y3)


@triton.jit
def mixed_plane(a0, a1, a2, a3, c0, c1, c2, c3, plane: tl.constexpr):
    """A freeze plane of the law `mixed`, four vectors of words, from those of planes 0 and 1."""
    g: tl.constexpr = (0, 0, 0, 56, 120, 8, 48, 16, 98, 45, 30, 57, 106, 85, 86, 29)[plane]
    h: tl.constexpr = (0, 0, 107, 8, 53, 25, 58, 101, 51, 98, 120, 58, 33, 97, 113, 70)[plane]
    if plane == 0:
        r0, r1, r2, r3 = a0, a1, a2, a3
    elif plane == 1:
        r0, r1, r2, r3 = c0, c1, c2, c3
    else:
        t0, t1, t2, t3 = _sum(c0, c1, c2, c3, a0, a1, a2, a3, 33, 38)
        t0, t1, t2, t3 = _both(t0, t1, t2, t3, a0, a1, a2, a3)
        u0, u1, u2, u3 = _sum(a0, a1, a2, a3, c0, c1, c2, c3, 95, 72)
        u0, u1, u2, u3 = _both(u0, u1, u2, u3, c0, c1, c2, c3)
        w0, w1, w2, w3 = _sum(a0, a1, a2, a3, c0, c1, c2, c3, 109, 52)
        w0, w1, w2, w3 = _both(w0, w1, w2, w3, a0, a1, a2, a3)
        if plane < 8:
            r0, r1, r2, r3 = _sum(t0, t1, t2, t3, u0, u1, u2, u3, g, h)
        elif plane < 12:
            r0, r1, r2, r3 = _sum(t0, t1, t2, t3, w0, w1, w2, w3, g, h)
        else:
            r0, r1, r2, r3 = _sum(u0, u1, u2, u3, w0, w1, w2, w3, g, h)
    return r0, r1, r2, r3


@triton.jit
def freeze_kernel(
    free, locked, k0, k1, layer, prune, lock, fan_in, row_blocks, block0, blocks,
    bits: tl.constexpr, law: tl.constexpr, generator: tl.constexpr, rounds: tl.constexpr, size: tl.constexpr,
):  # fmt: skip
    """free, locked int32 [4 * blocks]: the freeze pattern of blocks of whole rows, padding zero."""
    block = tl.program_id(0) * size + tl.arange(0, size)
    position = block0 + block
    zero = tl.full([size], 0, tl.uint32)
    every = zero - (prune == (1 << bits)).to(tl.uint32)  # 2^bits has no bit in any plane
    p0, p1, p2, p3 = every, every, every, every
    q0, q1, q2, q3 = zero, zero, zero, zero
    prune = tl.cast(prune, tl.uint32)
    lock = tl.cast(lock, tl.uint32)
    lock_from = (1 << bits) - lock
    if law == "mixed":
        a0, a1, a2, a3 = block_words(k0, k1, 1, layer, 0, 0, position, generator, rounds)
        c0, c1, c2, c3 = block_words(k0, k1, 1, layer, 0, 1, position, generator, rounds)
    for bit in tl.static_range(bits):
        if law == "mixed":  # the compiler sees that T, U and W are the same for all planes
            u0, u1, u2, u3 = mixed_plane(a0, a1, a2, a3, c0, c1, c2, c3, bits - 1 - bit)
        else:
            u0, u1, u2, u3 = block_words(k0, k1, 1, layer, 0, bits - 1 - bit, position, generator, rounds)
        prune_bit = zero - ((prune >> bit) & 1)
        lock_bit = zero - ((lock_from >> bit) & 1)
        p0, q0 = _compare(p0, u0, prune_bit), _compare(q0, u0, lock_bit)
        p1, q1 = _compare(p1, u1, prune_bit), _compare(q1, u1, lock_bit)
        p2, q2 = _compare(p2, u2, prune_bit), _compare(q2, u2, lock_bit)
        p3, q3 = _compare(p3, u3, prune_bit), _compare(q3, u3, lock_bit)
    # Without locks the threshold is 2^bits, which has no bit in any plane: nothing is locked.
    some = zero - (lock != 0).to(tl.uint32)
    column = (position % row_blocks) * 128
    real0, real1 = _real_bits(column, fan_in), _real_bits(column + 32, fan_in)
    real2, real3 = _real_bits(column + 64, fan_in), _real_bits(column + 96, fan_in)
    l0, l1 = _without(some & real0, q0), _without(some & real1, q1)
    l2, l3 = _without(some & real2, q2), _without(some & real3, q3)
    _store(locked, block, blocks, l0, l1, l2, l3)
    f0, f1 = _without(real0, p0 | l0), _without(real1, p1 | l1)
    f2, f3 = _without(real2, p2 | l2), _without(real3, p3 | l3)
    _store(free, block, blocks, f0, f1, f2, f3)


def random_words(generator: str, rounds: int, counters: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """int32 [n, 4]: words for counters and keys, both int32 [n, 4] (Philox uses two key words)."""
    _check(generator, rounds, 0, len(counters))
    if (
        counters.shape != keys.shape
        or counters.shape[1:] != (4,)
        or {counters.dtype, keys.dtype} != {torch.int32}
    ):
        raise ValueError("counters and keys must be int32 [n, 4]")
    out = torch.empty_like(counters)
    if len(out):
        words_kernel[(triton.cdiv(len(out), BLOCKS_PER_PROGRAM),)](
            out, counters.contiguous(), keys.contiguous(), len(out),
            generator=generator, rounds=rounds, size=BLOCKS_PER_PROGRAM,
        )  # fmt: skip
    return out


def planes(
    generator: str,
    rounds: int,
    seed: int,
    stream: int,
    layer: int,
    generation: int,
    first_plane: int,
    count: int,
    block0: int,
    blocks: int,
    device: torch.device | str,
) -> torch.Tensor:
    """int32 [count, 4 * blocks]: planes first_plane ... in index order; ValueError if out of range."""
    _check(generator, rounds, block0, blocks)
    if not (0 <= generation < 2**24 and 0 <= first_plane <= first_plane + count <= 256):
        raise ValueError("generation must be below 2^24 and planes below 256")
    out = torch.empty((count, 4 * blocks), dtype=torch.int32, device=device)
    if out.numel():
        plane_kernel[(triton.cdiv(blocks, BLOCKS_PER_PROGRAM), count)](
            out, seed % 2**32, seed // 2**32, stream, layer, generation, first_plane, block0, blocks,
            generator=generator, rounds=rounds, size=BLOCKS_PER_PROGRAM,
        )  # fmt: skip
    return out


def signs(
    generator: str,
    rounds: int,
    seed: int,
    layer: int,
    fan_in: int,
    first: int,
    count: int,
    device: torch.device | str,
) -> torch.Tensor:
    """int32 [count, P / 32]: sign bits (1 negative) of whole rows; bits of padding are random."""
    blocks = -(-fan_in // BLOCK)
    words = planes(generator, rounds, seed, 0, layer, 0, 0, 1, first * blocks, count * blocks, device)
    return words.view(count, 4 * blocks)


def freeze_rows(
    generator: str,
    rounds: int,
    seed: int,
    law: str,
    layer: int,
    fan_in: int,
    bits: int,
    prune: int,
    lock: int,
    first: int,
    count: int,
    device: torch.device | str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(free, locked), int32 [count, P / 32], padding zero. ValueError on thresholds over 2^bits or an
    unknown law.
    """
    row_blocks = -(-fan_in // BLOCK)
    blocks = count * row_blocks
    _check(generator, rounds, first * row_blocks, blocks)
    if law not in ("bernoulli", "mixed"):
        raise ValueError(f"there is no freeze law {law}")
    if not 0 <= bits <= 16 or prune < 0 or lock < 0 or prune + lock > 2**bits:
        raise ValueError("thresholds need 0 <= bits <= 16 and prune + lock <= 2^bits")
    free = torch.empty((count, 4 * row_blocks), dtype=torch.int32, device=device)
    locked = torch.empty_like(free)
    if blocks:
        freeze_kernel[(triton.cdiv(blocks, BLOCKS_PER_PROGRAM),)](
            free, locked, seed % 2**32, seed // 2**32, layer, prune, lock, fan_in, row_blocks,
            first * row_blocks, blocks,
            bits=bits, law=law, generator=generator, rounds=rounds, size=BLOCKS_PER_PROGRAM,
        )  # fmt: skip
    return free, locked


def score_planes(
    generator: str, rounds: int, seed: int, layer: int, free: int, device: torch.device | str
) -> torch.Tensor:
    """int32 [17, 4 * ceil(free / 128)]: planes of the initial scores by free ordinal, the last the sign."""
    return planes(generator, rounds, seed, 2, layer, 0, 0, SCORE_PLANES, 0, -(-free // BLOCK), device)


def _check(generator: str, rounds: int, block0: int, blocks: int) -> None:
    if rounds not in ROUNDS.get(generator, ()):
        raise ValueError(f"there is no {generator} of {rounds} rounds")
    # Offsets into a plane are 32 bits wide in the kernels.
    if block0 < 0 or blocks < 0 or block0 + blocks > 2**29:
        raise ValueError("blocks must be below 2^29")
