"""slt-bench kernels: names of shapes, counts, bounds, the kernel table, keys, refusals; not speed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from rich.console import Group
from rich.table import Table

from slt_infer import SltError, _core
from slt_infer.tools import bench, bench_kernels, kernel_peers, kernel_report, kernel_shapes
from slt_infer.tools.bench import main

CONV, LINEAR = "8x4x4-16-3", "40-12"
KEYS = {
    "op",
    "shape",
    "density",
    "type",
    "mode",
    "kernel",
    "isa",
    "threads",
    "seconds",
    "macs",
    "macs_per_s",
    "adds_per_s",
    "operations",
    "bytes",
    "bound",
    "bound_seconds",
    "share_of_bound",
    "peer",
    "peer_seconds",
    "ratio",
}
RATES = ("add_f32", "add_i16", "add_load_f32", "add_load_i16", "dot", "l1", "l2", "memory")
PEAKS = dict.fromkeys(RATES, 1000000000.0)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["kernels", *arguments])
    assert isinstance(end.value.code, int)
    return end.value.code


def answer_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(*arguments, "--seconds", "0", "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "op", "size", "weights", "macs"),
    [
        ("3x224x224-64-7/2", "conv2d", (112, 112), 9408, 118_013_952),
        ("64x56x56-128-3/2", "conv2d", (28, 28), 73_728, 57_802_752),
        ("256x56x56-512-1/2", "conv2d", (28, 28), 131_072, 102_760_448),
        ("128x28x28-128-3g128", "conv2d", (28, 28), 1152, 903_168),
        ("64x28x28-64-5", "conv2d", (28, 28), 102_400, 80_281_600),
        ("512-1000", "linear", (1, 1), 512_000, 512_000),
    ],
)
def test_a_name_gives_a_shape(name: str, op: str, size: tuple[int, int], weights: int, macs: int) -> None:
    shape = kernel_shapes.shape_of(name)
    assert (shape.op, shape.size, shape.layer.weights, shape.macs) == (op, size, weights, macs)


@pytest.mark.parametrize(
    "name", ["", "64", "64x56x56", "64x56-64-3", "63x8x8-64-3g2", "8x8x8-8-3/0", "8x8x8-8-3g0", "0-4",
             "8x1x1-8-4/1-2", "99999x99999x99999-64-3"]
)  # fmt: skip
def test_names_of_no_shape_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--shape", name, "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bad-shape"


def test_default_shapes_are_of_every_sort() -> None:
    shapes = [kernel_shapes.shape_of(name) for name in bench_kernels.SHAPES]
    assert {shape.layer.kernel[0] for shape in shapes} == {1, 3, 5, 7}
    assert {shape.op for shape in shapes} == set(bench_kernels.OPS)
    assert any(shape.layer.groups == shape.image[0] > 1 for shape in shapes)
    assert {(shape.layer.kernel[0], shape.stride) for shape in shapes} >= {(1, 2), (3, 2), (7, 2)}


@pytest.mark.parametrize(
    ("kind", "dot", "threads", "peaks", "row", "wanted"),
    [
        ("f32", False, 1, {"add_load_f32": 4e9}, {"operations": 8e6, "bytes": 1e6}, ("add", 0.002)),
        ("f32", False, 2, {"add_load_f32": 4e9}, {"operations": 8e6, "bytes": 1e6}, ("add", 0.001)),
        ("f32", False, 1, {"l2": 5e8}, {"operations": 1e6, "bytes": 1e6}, ("l2", 0.002)),
        ("f32", False, 2, {"l2": 5e8}, {"operations": 1e6, "bytes": 1e6}, ("l2", 0.001)),
        ("f32", False, 2, {"memory": 1e8}, {"operations": 1e6, "bytes": 4e6}, ("memory", 0.04)),
        ("int8", False, 1, {"add_load_i16": 2e9}, {"operations": 8e6, "bytes": 1e6}, ("add", 0.004)),
        ("int8", True, 1, {"dot": 5e8}, {"operations": 8e6, "bytes": 1e6}, ("dot", 0.016)),
    ],
)
def test_the_bound_is_what_takes_longest(
    kind: str,
    dot: bool,
    threads: int,
    peaks: dict[str, float],
    row: dict[str, Any],
    wanted: tuple[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_kernels, "last_level_bytes", lambda: 2_000_000)
    found = bench_kernels.bound({"type": kind, **row}, PEAKS | peaks, threads, dot)
    assert (found["bound"], found["bound_seconds"]) == (wanted[0], pytest.approx(wanted[1]))


def test_the_higher_rate_counts() -> None:
    one, other = {"isa": "avx2", "add": 1.0, "dot": 5.0}, {"isa": "avx2", "add": 2.0, "dot": 4.0}
    assert bench_kernels.highest(one, other) == {"isa": "avx2", "add": 2.0, "dot": 5.0}
    assert bench_kernels.highest({}, other) == other


def test_json_has_its_keys_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--shape", CONV, "--shape", LINEAR, "--density", "0.5", "--density", "1.0", "--no-peers"]
    answer = answer_of(capsys, *flags)
    assert set(answer) == {"machine", "command", "clock", "peaks", "results"}
    assert answer["command"] == "slt-bench kernels " + " ".join([*flags, "--threads", "1", "--seconds", "0"])
    assert [peak["isa"] for peak in answer["peaks"]] == [_core.machine()["isa"]]
    rows = answer["results"]
    macs = {CONV: 16 * 8 * 9 * 16, LINEAR: 40 * 12}
    for row in rows:
        assert set(row) >= KEYS
        assert row["macs"] == macs[row["shape"]]
        assert row["operations"] == row["macs"] * (1 if row["kernel"] == "dot" else row["density"])
        assert row["macs_per_s"] == pytest.approx(row["macs"] / row["seconds"])
        assert row["adds_per_s"] == pytest.approx(row["macs"] * row["density"] / row["seconds"])
        assert row["share_of_bound"] == pytest.approx(row["bound_seconds"] / row["seconds"])
        assert row["peer"] is row["peer_seconds"] is row["ratio"] is None
    # with all weights kept there is no mask: what moves in stream mode is activations alone
    moved = {
        (row["shape"], row["type"]): row["bytes"]
        for row in rows
        if (row["mode"], row["density"]) == ("stream", 1)
    }
    activations = {CONV: 8 * 16 + 16 * 16, LINEAR: 40 + 12}
    assert moved == {
        (shape, kind): size * count
        for shape, count in activations.items()
        for kind, size in bench_kernels.SIZE.items()
    }
    planes = [
        row["bytes"] for row in rows if (row["shape"], row["mode"], row["type"]) == (CONV, "resident", "f32")
    ]
    assert set(planes) == {2 * 16 * 9 + 4 * activations[CONV]}  # two bits for each of 16 rows of 72 weights


def test_every_kernel_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--shape", CONV, "--shape", LINEAR, "--density", "0.05", "--no-peers"]
    found = {(r["op"], r["type"], r["mode"], r["kernel"]) for r in answer_of(capsys, *flags)["results"]}
    float_forms = {("stream", "planes"), ("resident", "lists"), ("resident", "planes")}
    dots = {("stream", "dot"), ("resident", "dot")}
    lanes = {("stream", "lanes"), ("resident", "lanes")}
    found.discard(("conv2d", "int8", "resident", "lists"))  # an int8 layer may keep planes instead
    assert found == (
        {("conv2d", "f32", *form) for form in float_forms}
        | {("conv2d", "int8", *form) for form in (float_forms - {("resident", "lists")}) | dots}
        | {("linear", "f32", *form) for form in lanes}
        | {("linear", "int8", *form) for form in lanes | dots}
    )


def test_flags_choose(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--shape", CONV, "--shape", LINEAR, "--op", "conv2d", "--type", "f32", "--mode", "resident"]
    answer = answer_of(capsys, *flags, "--density", "0.3", "--isa", "scalar", "--no-peers")
    rows = [(r["op"], r["type"], r["mode"], r["kernel"], r["isa"]) for r in answer["results"]]
    assert rows == [("conv2d", "f32", "resident", "planes", "scalar")]
    assert [peak["isa"] for peak in answer["peaks"]] == ["scalar"]


@pytest.mark.parametrize("kind", bench_kernels.TYPES)
@pytest.mark.parametrize("name", [CONV, "12x7x5-8-3/2g4", "6x9x9-4-7/2", "16x4x4-16-1", LINEAR])
def test_peers_compute_the_layer(kind: str, name: str) -> None:
    """Case compares them; here the comparison is shown to see the layer: it fails for another one."""
    for peer in kernel_peers.PEERS[kind]:
        pytest.importorskip(peer, reason="the engines to compare with are an extra: pip install '.[peers]'")
    shape = kernel_shapes.shape_of(name)
    isas = [_core.machine()["isa"]]
    case = bench_kernels.Case(shape, [0.5], [kind], bench_kernels.MODES, isas, 1, peers=True)
    assert list(case.peers) == [kind]
    x = bench_kernels._image(
        kind, np.random.Generator(np.random.PCG64(0)), (1, *shape.image)[: 4 if shape.op == "conv2d" else 2]
    )
    own = case._own(kind, kernel_shapes.layer_of(shape, 0.25), 0.25, ["stream"], isas, x)
    assert own.max() > own.min()
    _, dense = kernel_peers.dense(kind, shape, kernel_shapes.layer_of(shape, 0.5), x, 1)
    with pytest.raises(SltError) as caught:
        kernel_peers.compare(kind, name, own, dense)
    assert caught.value.code == "wrong-peer"


@pytest.mark.parametrize("kind", bench_kernels.TYPES)
def test_a_missing_peer_is_refused_before_anything_runs(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    *others, peer = kernel_peers.PEERS[kind]
    for name in others:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, peer, None)
    monkeypatch.setattr(bench_kernels, "Case", None)
    assert run("--type", kind, "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["where"]) == ("missing-peer", peer)
    assert "slt-infer[peers]" in error["message"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--net", "conv2/0.5/0-0"],
        ["--mask", "dense"],
        ["--op", "lstm"],
        ["--type", "f16"],
        ["--mode", "both"],
        ["--isa", "mmx"],
        ["--density", "0"],
        ["--density", "1.5"],
        ["--out", "table.json"],
    ],
)
def test_bad_usage_is_2(flags: list[str]) -> None:
    assert run(*flags) == 2


@pytest.mark.parametrize("flags", [["--shape", CONV], ["--tune"], ["--no-peers"], ["--density", "0.1"]])
@pytest.mark.parametrize("topic", ["codec", "networks"])
def test_flags_of_kernels_are_not_for_others(topic: str, flags: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([topic, *flags])
    assert end.value.code == 2


def rows_of(times: dict[str, dict[float, float]], shape: str = CONV) -> list[dict[str, Any]]:
    about = {"isa": "avx2", "op": "conv2d", "type": "int8", "mode": "resident", "shape": shape}
    return [
        about | {"kernel": kernel, "density": density, "seconds": seconds}
        for kernel, of_kernel in times.items()
        for density, seconds in of_kernel.items()
    ]


def test_kernels_cross_where_their_times_do() -> None:
    """One takes as long as its density, the other a tenth always: they cross at a tenth."""
    rows = rows_of({"planes": {0.01: 0.01, 1.0: 1.0}, "dot": {0.01: 0.1, 1.0: 0.1}})
    assert kernel_report.upto(rows) == [[0.1, "planes"], [1.0, "dot"]]


def test_a_kernel_that_wins_everywhere_is_alone() -> None:
    rows = rows_of({"planes": {0.1: 1.0, 0.5: 2.0}, "dot": {0.1: 3.0, 0.5: 3.0}})
    assert kernel_report.upto(rows) == [[1.0, "planes"]]


def test_unmeasured_crossings_are_in_the_middle() -> None:
    """No lists at 0.25: the step lies at the geometric mean."""
    rows = rows_of({"lists": {0.04: 1.0}, "planes": {0.04: 2.0, 0.25: 2.0}})
    assert kernel_report.upto(rows) == [[0.1, "lists"], [1.0, "planes"]]


def test_a_layer_without_lists_counts_with_planes() -> None:
    """One shape is slower by lists; the other, which is fast, has none and changes nothing. Nor has it dot
    products, which therefore take no part.
    """
    rows = rows_of({"lists": {0.1: 3.0}, "planes": {0.1: 2.0}, "dot": {0.1: 1.0}})
    rows += rows_of({"planes": {0.1: 0.001}}, "16x4x4-16-1")
    assert kernel_report.upto(rows) == [[1.0, "planes"]]
    rows[0]["seconds"] = 1.9
    assert kernel_report.upto(rows) == [[1.0, "lists"]]


def test_large_shapes_do_not_outweigh_small_ones() -> None:
    rows = rows_of({"planes": {0.5: 5.0}, "dot": {0.5: 4.0}})
    rows += rows_of({"planes": {0.5: 0.001}, "dot": {0.5: 0.002}}, "16x4x4-16-1")
    assert kernel_report.upto(rows) == [[1.0, "planes"]]


def test_the_table_has_a_row_for_each_choice() -> None:
    rows = rows_of({"planes": {0.01: 0.01, 1.0: 1.0}, "dot": {0.01: 0.1, 1.0: 0.1}})
    rows += rows_of({"planes": {0.01: 1.0, 1.0: 1.0}, "dot": {0.01: 2.0, 1.0: 2.0}}, "8x4x4-16-3g8")
    table = {(row["shapes"], row["multiplierless"]): row["upto"] for row in kernel_report.tuned(rows)}
    assert table[("few pixels", False)] == [[0.1, "planes"], [1.0, "dot"]]
    assert table[("few pixels", True)] == [[1.0, "planes"]]
    assert table[("grouped", False)] == [[1.0, "planes"]]
    assert set(table) == {(name, less) for name in ("all", "grouped", "few pixels") for less in (False, True)}


def test_tune_writes_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kernels.json"
    flags = ["--shape", CONV, "--density", "0.05", "--density", "0.9", "--no-peers", "--tune"]
    answer = answer_of(capsys, *flags, "--out", str(file))
    assert json.loads(file.read_text()) == answer["tune"]
    kinds = {(row["op"], row["type"], row["mode"]) for row in answer["tune"]}
    assert kinds == {("conv2d", kind, mode) for kind in ("f32", "int8") for mode in ("stream", "resident")}
    for row in answer["tune"]:
        densities = [density for density, _ in row["upto"]]
        assert densities == sorted(densities)
        assert densities[-1] == 1
        assert not (row["multiplierless"] and "dot" in [kernel for _, kernel in row["upto"]])


def test_plot_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "kernels.svg"
    flags = ["--shape", CONV, "--shape", LINEAR, "--density", "0.05", "--no-peers", "--plot", str(file)]
    rows = answer_of(capsys, *flags)["results"]
    text = file.read_text()
    assert text.startswith("<?xml")
    assert "roofline" in text
    for row in rows:
        assert f"{row['op']} {row['type']} {row['mode']} {row['kernel']}" in text


def test_without_matplotlib_a_plot_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(bench_kernels, "measure", None)
    assert run("--plot", "never.svg", "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "missing-plot"
    assert "slt-infer[plot]" in error["message"]


def test_the_ratio_is_to_peers_that_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    answer = answer_of(capsys, "--shape", LINEAR, "--density", "0.5", "--mode", "stream", "--no-peers")
    for row in answer["results"]:
        row |= {"peer": {"f32": "torch", "int8": "onnxruntime"}[row["type"]], "ratio": 2.0}
    page = bench.show(answer)
    assert isinstance(page, Group)
    (table,) = (shown for shown in page.renderables if isinstance(shown, Table))
    assert table.title == f"linear {LINEAR}; ratio to dense torch f32, onnxruntime int8"


def test_text_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--shape", CONV, "--density", "0.05", "--no-peers", "--tune", "--seconds", "0") == 0
    text = capsys.readouterr().out
    table = text[text.index("conv2d") :]
    assert max(map(len, table.splitlines())) <= 80
    assert "lists" in table
    assert "…" not in table


@pytest.mark.parametrize("isa", _core.machine()["isas"])
def test_every_isa_has_bounds(isa: str) -> None:
    peaks = _core.peaks(isa, 0)
    assert set(peaks) == {"isa", *RATES}
    assert peaks["isa"] == isa
    assert min(peaks[name] for name in RATES) > 0


def test_bounds_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="not available"):
        _core.peaks("mmx")
    for seconds in (-1, float("nan"), 1e9):
        with pytest.raises(ValueError, match="seconds"):
            _core.peaks(seconds=seconds)
