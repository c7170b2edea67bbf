"""What `slt-bench codec` measures: masks of about 2^20 free weights coded, decoded and made into rows; the
general-purpose coders next to them; and the random planes that all of it rests on.
"""

from __future__ import annotations

import importlib
import lzma
import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from slt_infer import _core
from slt_infer.codec import coded_layer, core_layer, entropy_bits
from slt_infer.codec.masks import INDEX_ENTRY, pattern
from slt_infer.codec.prior import Prior, cell_counts, cut
from slt_infer.codec.tickets import synthetic_mask
from slt_infer.freeze import placement, thresholds
from slt_infer.ticket import ROUNDS, Layer, LayerShape, MaskCode, Source, pack_bits, unpack_bits

Row = dict[str, Any]
# row[key] will be count / seconds of the call; if shared, it uses the threads itself, else each thread calls
Case = tuple[Row, str, int, Callable[[], object], bool]

# sparsity and share of frozen weights, placed around the sparsity; "+scores": the mask remembers them.
MASKS = {
    "dense": (0.5, 0.0),
    "dense-90": (0.9, 0.0),
    "25-25": (0.5, 0.5),
    "65-5": (0.8, 0.7),
    "85-5": (0.9, 0.9),
    "dense+scores": (0.5, 0.0),
    "65-5+scores": (0.8, 0.7),
}
PRIOR_PLANES = (4, 8)
PEERS = ("constriction", "zstd", "xz")
# Published or noted elsewhere, not run here.
QUOTED = [{"peer": "NNCodec (deepCABAC)", "decode_bits_per_s": 13e6, "size_over_entropy": 1.019}]
FREE, FAN_IN = 2**20, 1024
DEPOSIT_WORDS = 2**11  # 16 KiB of bitmap, as much of positions placed, and the mask
SCORE = 2  # stream of initial scores
NOISE = 0.25  # standard deviation, of scores in [0, 1): how far a search has moved them
SOURCE = Source(seed=1)
SAMPLE = 0.002  # seconds that a sample takes at least: short calls are repeated within it


def measure(
    masks: Sequence[str], isas: Sequence[str], threads: int, seconds: float, free: int
) -> tuple[list[Row], list[Row], list[str]]:
    """results and planes of the answer, and the peers that are not installed. free: weights of a mask."""
    results: list[Row] = []
    cases: list[Case] = []
    missing: dict[str, None] = {}
    for name in masks:
        layer = layer_of(name, free)
        for code, prior in codes(layer):
            for isa in isas:
                cases += _own(results, name, layer, code, prior, isa, threads)
        for peer in PEERS:
            made = _peer(results, name, layer, peer)
            cases += made
            missing |= {} if made else {peer: None}
    planes: list[Row] = []
    for isa in isas:
        for generator, rounds in ((g, r) for g, allowed in ROUNDS.items() for r in allowed):
            cases += _planes(planes, generator, rounds, isa, free)
    for row in (*results, *planes):
        row["threads"] = threads
    run(cases, threads, seconds)
    return results, planes, list(missing)


def clock_of(threads: int) -> Callable[[], float]:
    """CPU time of the one thread, which other work on the machine does not count into; else elapsed time."""
    return time.thread_time if threads == 1 else time.perf_counter


def run(cases: Sequence[Case], threads: int, seconds: float) -> None:
    """Medians over rounds of all cases in turn, for `seconds` and three rounds at least."""
    clock = clock_of(threads)
    with ThreadPoolExecutor(threads) as pool:

        def once(call: Callable[[], object], shared: bool, times: int) -> float:
            def repeat(_: int = 0) -> None:
                for _ in range(times):
                    call()

            start = clock()
            if shared or threads == 1:
                repeat()
            else:
                list(pool.map(repeat, range(threads)))
            return (clock() - start) / times

        for _, _, _, call, _ in cases:
            call()
        times = [math.ceil(SAMPLE / once(call, shared, 1)) for _, _, _, call, shared in cases]
        samples: list[list[float]] = [[] for _ in cases]
        end = time.perf_counter() + seconds
        while len(samples[-1]) < 3 or time.perf_counter() < end:
            for (_, _, _, call, shared), n, taken in zip(cases, times, samples, strict=True):
                taken.append(once(call, shared, n))
    for (row, key, count, _, shared), taken in zip(cases, samples, strict=True):
        row[key] = count * (1 if shared else threads) / statistics.median(taken)
        row["repeats"] = len(taken)


def layer_of(name: str, free: int) -> Layer:
    """A layer with about `free` free weights: half of all, or a tenth, kept as the name says; seeded."""
    sparsity, frozen = MASKS[name]
    shape = LayerShape(name, round(free / (1 - frozen) / FAN_IN), FAN_IN, affine=False)
    freeze = thresholds([shape], *placement(sparsity, frozen))[0]
    _, locked, free, _ = pattern(SOURCE, shape, 0, freeze).counts()
    keep = round((1 - sparsity) * shape.weights) - locked
    remembers = name.endswith("+scores")
    mask = remembering_mask(free, keep) if remembers else synthetic_mask(SOURCE, 0, free, keep)
    return coded_layer(SOURCE, shape, 0, freeze, mask)


def remembering_mask(free: int, keep: int) -> np.ndarray:
    """Packed mask of the `keep` largest |initial score| + noise: what a search that moved little finds."""
    score = np.zeros(free)
    for plane in range(8):
        words = _core.plane(
            SOURCE.generator, SOURCE.rounds, SOURCE.seed, SCORE, 0, 0, plane, 0, -(-free // 128)
        )
        score += unpack_bits(words, free) * 2.0 ** -(plane + 1)
    score += NOISE * np.random.Generator(np.random.PCG64(SOURCE.seed)).standard_normal(free)
    mask = np.zeros(free, dtype=bool)
    mask[np.argpartition(score, free - keep)[free - keep :]] = True
    return pack_bits(mask)


def codes(layer: Layer) -> list[tuple[MaskCode, Prior | None]]:
    """The mask in every mode, no tile replaced by a raw one; prior only where the scores say something
    of it, and with exactly PRIOR_PLANES planes, where the writer would take fewer if as good.
    """
    density = min(max(round(4096 * (layer.kept - layer.locked) / layer.free), 1), 4095)
    empty = replace(layer.code, mode="raw", density=0, planes=0, sign=False, intervals=(), candidates={})
    made: list[tuple[MaskCode, Prior | None]] = [
        (empty, None),
        (replace(empty, mode="static", density=density), None),
    ]
    for planes in PRIOR_PLANES:
        counts = cell_counts(SOURCE, layer.id, layer.free, layer.mask, planes)
        prior = cut(counts.reshape(-1, 2, 2).sum(axis=1), planes, sign=False)
        if len(prior.intervals) > 1:
            code = replace(empty, mode="prior", planes=planes, intervals=prior.intervals)
            made.append((code, prior))
    return [(_filled(layer, code), prior) for code, prior in made]


def _filled(layer: Layer, code: MaskCode) -> MaskCode:
    tiles = encode(layer.mask, layer, code)
    words = np.array([len(tile) // 2 for tile in tiles], dtype=np.uint32)
    return replace(code, words=words, payload=b"".join(tile + bytes(-len(tile) % 4) for tile in tiles))


def encode(mask: np.ndarray, layer: Layer, code: MaskCode, isa: str = "") -> list[bytes]:
    """The tiles of the layer's mask, of which the density, or the intervals, are known."""
    ends = np.cumsum(code.free, dtype=np.int64)
    spans = list(zip((ends - code.free).tolist(), ends.tolist(), strict=True))
    if code.mode == "raw":
        return [_core.encode_raw(mask, *span) for span in spans]
    lanes = _core.lanes_of(layer.free)
    if code.mode == "static":
        return [_core.encode_static(mask, *span, lanes, code.density) for span in spans]
    law: tuple[Any, ...] = (lanes, SOURCE.generator, SOURCE.rounds, SOURCE.seed, layer.id)
    law += (code.planes, code.sign, code.intervals, isa)
    return [_core.encode_prior(mask, *span, *law) for span in spans]


def _row(name: str, layer: Layer, size: int) -> Row:
    ones = layer.kept - layer.locked
    return {
        "mask": name,
        "mode": None,
        "isa": None,
        "peer": None,
        "free_weights": layer.free,
        "bits_per_free_weight": 8 * size / layer.free,
        "entropy_bits_per_free_weight": entropy_bits(layer.free, ones) / layer.free,
        "prior_entropy_bits_per_free_weight": None,
        "positions_per_s": None,
        "deposit_positions_per_s": None,
        "writer_bits_per_s": None,
    }


def _own(
    results: list[Row], name: str, layer: Layer, code: MaskCode, prior: Prior | None, isa: str, threads: int
) -> list[Case]:
    row = _row(name, layer, len(code.payload) + INDEX_ENTRY * len(code.free))
    row |= {"mode": code.mode, "isa": isa, "planes": code.planes, "tiles": len(code.free)}
    if prior is not None:
        row["prior_entropy_bits_per_free_weight"] = prior.bits / layer.free  # intervals included
    results.append(row)
    core = core_layer(SOURCE, layer.shape, layer.id, layer.freeze, code)
    work = _core.Workspace(_core.WeightMemory(), threads, isa)
    mask = layer.mask  # decoded once: every use decodes
    cases: list[Case] = [
        (row, "decode_bits_per_s", layer.free, lambda: core.mask(work), True),
        (row, "encode_bits_per_s", layer.free, lambda: encode(mask, layer, code, isa), False),
        (row, "positions_per_s", layer.shape.weights, lambda: core.rows(0, layer.shape.out, isa), False),
    ]
    if code.mode == "raw":
        cases.append(_deposit(row, layer, isa))
        if isa == _core.machine()["isa"]:

            def write() -> Layer:
                return coded_layer(SOURCE, layer.shape, layer.id, layer.freeze, mask)

            cases.append((row, "writer_bits_per_s", layer.free, write, False))
    return cases


def _deposit(row: Row, layer: Layer, isa: str) -> Case:
    """Mask bits put in place by a free bitmap that is given: DEPOSIT_WORDS of it, which a cache holds."""
    source = (SOURCE.generator, SOURCE.rounds, SOURCE.seed, SOURCE.freeze)
    pattern = (layer.id, layer.shape.fan_in, layer.freeze.bits, layer.freeze.prune, layer.freeze.lock)
    rows = min(layer.shape.out, DEPOSIT_WORDS * 64 // layer.shape.row_positions)
    free, _ = _core.freeze_rows(*source, *pattern, 0, rows)
    mask = np.resize(layer.mask, 2 * free.size + 3)
    flat = free.ravel()
    return row, "deposit_positions_per_s", 64 * free.size, lambda: _core.deposit(flat, mask, isa), False


def _peer(results: list[Row], name: str, layer: Layer, peer: str) -> list[Case]:
    """A peer on the same bits, in one piece; no case where it is not installed."""
    try:
        compress, decompress = _coder(peer, layer)
    except ImportError:
        return []
    packed = compress()
    row = _row(name, layer, memoryview(packed).nbytes) | {"peer": peer}
    results.append(row)
    return [
        (row, "decode_bits_per_s", layer.free, lambda: decompress(packed), False),
        (row, "encode_bits_per_s", layer.free, compress, False),
    ]


def _coder(peer: str, layer: Layer) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    words = layer.mask.tobytes()
    if peer == "xz":
        return lambda: lzma.compress(words, preset=9 | lzma.PRESET_EXTREME), lzma.decompress
    if peer == "zstd":
        zstd = importlib.import_module("zstandard")
        # one object a call: threads must not share them
        return (
            lambda: zstd.ZstdCompressor(level=19).compress(words),
            lambda packed: zstd.ZstdDecompressor().decompress(packed),
        )
    stream = importlib.import_module("constriction").stream
    bits = unpack_bits(layer.mask, layer.free).astype(np.int32)
    model = stream.model.Bernoulli((layer.kept - layer.locked) / layer.free, perfect=False)

    def range_encode() -> np.ndarray:
        encoder = stream.queue.RangeEncoder()
        encoder.encode(bits, model)
        return encoder.get_compressed()

    return range_encode, lambda packed: stream.queue.RangeDecoder(packed).decode(model, layer.free)


def _planes(planes: list[Row], generator: str, rounds: int, isa: str, weights: int) -> list[Case]:
    """Signs, and by each law a pattern that takes all of 8 freeze planes, of `weights` weights."""
    out = max(1, weights // FAN_IN)
    args = (generator, rounds, SOURCE.seed)
    freeze = (0, FAN_IN, 8, 127, 1, 0, out)
    made: list[Row] = [
        {"plane": plane, "generator": f"{generator}-{rounds}", "isa": isa}
        for plane in ("signs", "freeze-8", "freeze-8-mixed")
    ]
    planes += made
    calls = [
        lambda: _core.signs(*args, 0, FAN_IN, 0, out, isa),
        lambda: _core.freeze_rows(*args, "bernoulli", *freeze, isa=isa),
        lambda: _core.freeze_rows(*args, "mixed", *freeze, isa=isa),
    ]
    return [(row, "weights_per_s", out * FAN_IN, call, False) for row, call in zip(made, calls, strict=True)]
