"""slt-bench codec as scripts use it: keys, sizes that are the codec's own, missing peers; not speed."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest

from slt_infer import _core, models
from slt_infer.codec import core_layer, entropy_bits
from slt_infer.codec.masks import INDEX_ENTRY
from slt_infer.format.sizes import parts
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import Source
from slt_infer.tools import bench_codec
from slt_infer.tools.bench import main

FREE = 2**14
RESULT = {
    "mask",
    "mode",
    "isa",
    "threads",
    "peer",
    "decode_bits_per_s",
    "encode_bits_per_s",
    "positions_per_s",
    "deposit_positions_per_s",
    "writer_bits_per_s",
    "bits_per_free_weight",
    "entropy_bits_per_free_weight",
    "prior_entropy_bits_per_free_weight",
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(bench_codec, "FREE", FREE)


def workspace(isa: str, threads: int = 1) -> _core.Workspace:
    return _core.Workspace(_core.WeightMemory(), threads, isa)


def call(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 0
    return capsys.readouterr().out


def test_json_has_its_keys(capsys):
    flags = ["--mask", "65-5", "--mask", "dense+scores", "--isa", "scalar", "--seconds", "0"]
    answer = json.loads(call(capsys, "codec", *flags, "--threads", "2", "--json"))
    assert set(answer) == {"machine", "command", "clock", "results", "planes", "missing", "quoted"}
    assert answer["command"] == "slt-bench codec " + " ".join(
        ["--mask", "65-5", "--mask", "dense+scores", "--isa", "scalar", "--threads", "2", "--seconds", "0"]
    )
    for row in answer["results"]:
        assert set(row) >= RESULT
        assert row["threads"] == 2
        rates = [row["decode_bits_per_s"], row["encode_bits_per_s"], row["bits_per_free_weight"]]
        assert min(rates + ([] if row["peer"] else [row["positions_per_s"]])) > 0
    own = [(row["mask"], row["mode"]) for row in answer["results"] if row["isa"]]
    assert (
        own
        == [(m, mode) for m in ("65-5", "dense+scores") for mode in ("raw", "static")]
        + [("dense+scores", "prior")] * 2
    )
    default = _core.machine()["isa"]
    for row in answer["results"]:
        assert bool(row["writer_bits_per_s"]) == (row["mode"] == "raw" and row["isa"] == default)
    assert "xz" in {row["peer"] for row in answer["results"]}
    assert {row["plane"] for row in answer["planes"]} == {"signs", "freeze-8", "freeze-8-mixed"}
    assert all(row["weights_per_s"] > 0 for row in answer["planes"])


def test_text_fits_80_columns(capsys):
    text = call(capsys, "codec", "--mask", "dense+scores", "--isa", "scalar", "--seconds", "0")
    table = text[text.index("masks:") :]
    assert max(map(len, table.splitlines())) <= 80
    assert "prior 8" in table
    assert "…" not in table


@pytest.mark.parametrize(
    "flags",
    [
        ["speed"],
        ["codec", "--mask", "35-35"],
        ["codec", "--isa", "mmx"],
        ["codec", "--net", "conv2/0.5/0-0"],
    ],
)
def test_unknown_names_are_bad_usage(flags):
    with pytest.raises(SystemExit) as end:
        main(flags)
    assert end.value.code == 2


@pytest.mark.parametrize("name", bench_codec.MASKS)
def test_codes_are_the_codecs_own(name):
    """What is measured decodes to the mask, and is the file's where the writer chose that mode."""
    layer = bench_codec.layer_of(name, FREE)
    sparsity, _ = bench_codec.MASKS[name]
    assert layer.free == pytest.approx(FREE, rel=0.05)
    assert layer.kept == round((1 - sparsity) * layer.shape.weights)
    codes = bench_codec.codes(layer)
    assert ("prior" in {code.mode for code, _ in codes}) == name.endswith("+scores")
    for code, _ in codes:
        core = core_layer(bench_codec.SOURCE, layer.shape, 0, layer.freeze, code)
        for isa in _core.machine()["isas"]:
            assert np.array_equal(core.mask(workspace(isa)), layer.mask)
        if code.mode == layer.code.mode and code.intervals == layer.code.intervals:
            assert code.payload == layer.code.payload


@pytest.mark.parametrize("name", bench_codec.MASKS)
def test_sizes_are_within_their_bound(name):
    """The model's entropy, 1.5 kbit a tile and 0.1 %, index included; the model of static is the i.i.d. one
    with a density in 4096ths.
    """
    layer = bench_codec.layer_of(name, 2**17)
    ones = layer.kept - layer.locked
    written = (layer.code, None)  # what the writer chose is within the i.i.d. bound, whatever it is
    for code, prior in [*bench_codec.codes(layer), written]:
        model = layer.free if code.mode == "raw" else entropy_bits(layer.free, ones)
        if prior is not None:
            model = prior.bits
        size = 8 * (len(code.payload) + INDEX_ENTRY * len(code.free))
        assert size <= 1.001 * model + 1500 * len(code.free), code.mode


@pytest.mark.parametrize(("sparsity", "prune", "lock"), [(0.5, 0, 0), (0.5, 0.25, 0.25), (0.8, 0.65, 0.05),
                                                         (0.9, 0.85, 0.05)])  # fmt: skip
def test_the_index_is_a_small_part_of_large_files(sparsity, prune, lock):
    for network in ("resnet18-cifar", "resnet18"):
        ticket = synthetic_ticket(models.network(network), Source(seed=2), sparsity, prune, lock)
        sizes = parts(ticket)
        assert sizes.total > 100_000
        assert sizes.index <= 0.015 * sizes.total


@pytest.mark.parametrize("isa", _core.machine()["isas"])
def test_threads_share_a_decoding(isa):
    """Tiles that begin and end inside a word of the mask, more and fewer threads than tiles."""
    layer = bench_codec.layer_of("65-5", 2**18)
    for code, _ in bench_codec.codes(layer):
        core = core_layer(bench_codec.SOURCE, layer.shape, 0, layer.freeze, code)
        assert len(code.free) > 1
        assert (np.cumsum(code.free)[:-1] % 32).any()
        for threads in (1, 2, 3, 40):
            assert np.array_equal(core.mask(workspace(isa, threads)), layer.mask)
        broken = replace(code, payload=code.payload[:-8] + bytes(8))
        if code.mode != "raw":
            core = core_layer(bench_codec.SOURCE, layer.shape, 0, layer.freeze, broken)
            with pytest.raises(ValueError, match=f"tile {len(code.free) - 1}"):
                core.mask(workspace(isa, 2))


@pytest.mark.parametrize("isa", _core.machine()["isas"])
def test_mask_bits_are_put_in_place(isa):
    free = np.array([0b1011, 0, 2**64 - 1, 1 << 63], np.uint64)
    mask = np.zeros(2 * len(free) + 3, np.uint32)
    mask[:2] = 0b101, 0xFFFFFFFF
    before = free.copy()
    placed = _core.deposit(free, mask, isa)
    # bits 0 to 2 of the mask, then 3 to 66, then bit 67
    wanted = [0b1001, 0, (0b101 | 0xFFFFFFFF << 32) >> 3, 0]
    assert placed.tolist() == wanted
    assert np.array_equal(free, before)
    with pytest.raises(ValueError, match="the mask must have"):
        _core.deposit(free, mask[:-1], isa)


def test_sizes_are_payload_and_index():
    results, _, _ = bench_codec.measure(["dense-90"], ["scalar"], 1, 0, FREE)
    layer = bench_codec.layer_of("dense-90", FREE)
    static = next(row for row in results if row["mode"] == "static")
    size = len(layer.code.payload) + INDEX_ENTRY * len(layer.code.free)
    assert layer.code.mode == "static"
    assert static["bits_per_free_weight"] == 8 * size / layer.free
    assert static["entropy_bits_per_free_weight"] == pytest.approx(0.469, abs=0.001)


def test_a_missing_peer_is_named(monkeypatch):
    def imported(name, *args):
        if name in ("constriction", "zstandard"):
            raise ImportError(name)
        return real(name, *args)

    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", imported)
    results, _, missing = bench_codec.measure(["dense"], ["scalar"], 1, 0, FREE)
    assert missing == ["constriction", "zstd"]
    assert {row["peer"] for row in results} == {None, "xz"}
