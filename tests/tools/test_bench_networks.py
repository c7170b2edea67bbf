"""slt-bench networks: names of tickets, the peers' graphs, keys, refusals; not speed."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from slt_infer import Plan, SltError, models, reference
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    LayerShape,
    Linear,
    MaxPool2d,
    Network,
    Relu,
    Source,
)
from slt_infer.tools import bench_networks, bench_peers
from slt_infer.tools.bench import main

SMALL = "resnet18-cifar@0.05/0.9/85-5"
KEYS = {
    "ticket",
    "network",
    "engine",
    "type",
    "mode",
    "multiplierless",
    "threads",
    "batch",
    "ms_median",
    "ms_min",
    "ms_max",
}
ENGINES = [
    ("slt", "f32", "stream", True),
    ("slt", "f32", "resident", True),
    ("slt", "int8", "stream", False),
    ("slt", "int8", "resident", False),
    ("slt", "int8", "stream", True),
    ("slt", "int8", "resident", True),
    ("torch", "f32", None, False),
    ("onnxruntime", "f32", None, False),
    ("onnxruntime", "int8", None, False),
    ("openvino", "f32", None, False),
    ("openvino", "int8", None, False),
]


def need(*modules: str) -> None:
    for name in modules:
        pytest.importorskip(name, reason="the engines to compare with are an extra: pip install '.[peers]'")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code


def every_operator() -> Network:
    """Both pools with padding, groups, strides, an oblong kernel, both ends of an image, with and without
    affine.
    """
    layers = (
        LayerShape("a", 8, 3, (3, 5), affine=True),
        LayerShape("b", 8, 4, (3, 3), groups=2, affine=True),
        LayerShape("c", 12, 32, affine=True),
        LayerShape("d", 12, 8, (1, 1), affine=True),
        LayerShape("e", 4, 12),
    )
    nodes = (
        Conv2d(0, 0, 1, 2),  # 3x15x13 to 8x17x13
        Relu(1),
        MaxPool2d(2, 3, 2, 1),  # 8x9x7
        Conv2d(3, 1, 1, 1),
        Add(4, 3),
        AvgPool2d(5, 3, 2, 1),  # 8x5x4
        AvgPool2d(6, 3, 2),  # 8x2x1
        MaxPool2d(6, 2, 2),  # 8x2x2
        Flatten(8),
        Linear(9, 2),
        Conv2d(7, 3),
        GlobalAvgPool2d(11),
        Add(10, 12),
        Linear(13, 4),
    )
    return Network("every operator", (3, 15, 13), layers, nodes)


@pytest.mark.parametrize("name", bench_networks.TICKETS)
def test_tickets_of_the_default_are_known_networks(name: str) -> None:
    form = bench_networks.NAME.fullmatch(name)
    assert form
    assert form.group(1) in models.NAMES


def test_a_name_gives_sparsity_and_frozen_shares() -> None:
    ticket = bench_networks.ticket_of("conv2@0.2/0.8/65-5")
    assert ticket.network.name == "conv2@0.2"
    assert ticket.density == pytest.approx(0.2, abs=1e-4)
    assert sum(layer.pruned for layer in ticket.layers) / ticket.weights == pytest.approx(0.65, abs=0.01)
    assert sum(layer.locked for layer in ticket.layers) / ticket.weights == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("resnet18", "bad-name"),
        ("resnet18/0.8", "bad-name"),
        ("resnet18/1.5/65-5", "bad-name"),
        ("resnet18/0.8/65", "bad-name"),
        ("resnet17/0.8/65-5", "bad-network"),
        ("conv2/0.5/65-5", "bad-ratio"),
    ],
)
def test_names_of_no_ticket_are_refused(name: str, code: str) -> None:
    with pytest.raises(SltError) as caught:
        bench_networks.ticket_of(name)
    assert caught.value.code == code


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["every operator", "mlp-40-12-5", "conv2@0.1", "resnet50@0.05"])
def test_peers_compute_the_ticket(engine: str, name: str) -> None:
    need(engine, *(() if engine == "torch" else ("onnx",)))
    graph = every_operator() if name == "every operator" else models.network(name)
    ticket = synthetic_ticket(graph, Source(seed=2), 0.5)
    image = np.random.default_rng(0).standard_normal((1, *graph.input), dtype=np.float32)
    dense = bench_peers.dense_layers(ticket)
    if engine == "torch":
        call = bench_peers.torch_engine(graph, dense, image, 1)
    else:
        made = getattr(bench_peers, f"{engine}_engine")
        call = made(bench_peers.onnx_model(graph, dense), image, 1)
    logits = Plan(ticket)(image)
    assert np.ptp(logits) > 0
    np.testing.assert_allclose(call(), logits, rtol=0, atol=1e-4 * np.abs(logits).max())


def test_dense_weights_are_the_tickets() -> None:
    ticket = synthetic_ticket(every_operator(), Source(seed=3), 0.5)
    for layer, (weights, bias) in zip(ticket.layers, bench_peers.dense_layers(ticket), strict=True):
        rows = weights.transpose(0, 2, 3, 1).reshape(len(bias), -1) if weights.ndim == 4 else weights
        scale = layer.constant if layer.affine is None else layer.affine[0][:, None]
        signs = np.sign(reference.weights(ticket.source, layer))
        np.testing.assert_allclose(rows, signs * scale, rtol=1e-6)
        np.testing.assert_array_equal(bias, 0 if layer.affine is None else layer.affine[1])


def test_json_has_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    need(*bench_peers.MODULES)
    assert run("networks", "--net", SMALL, "--seconds", "0", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["command"] == f"slt-bench networks --net {SMALL} --threads 1 --seconds 0"
    assert answer["clock"] == "process_time"
    assert set(answer["versions"]) == set(bench_peers.MODULES)
    assert answer["machine"]["isa"]
    rows = answer["results"]
    assert [(r["engine"], r["type"], r["mode"], r["multiplierless"]) for r in rows] == ENGINES
    for row in rows:
        assert set(row) >= KEYS
        assert (row["ticket"], row["network"]) == (SMALL, SMALL.partition("/")[0])
        assert (row["threads"], row["batch"], row["rounds"]) == (1, 1, 3)
        assert 0 < row["ms_min"] <= row["ms_median"] <= row["ms_max"]
        assert row["pow2"] == ((row["type"], row["multiplierless"]) == ("int8", True))
        assert row["error"] <= bench_networks.BOUNDS["pow2" if row["pow2"] else row["type"]]


def test_text_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    need(*bench_peers.MODULES)
    assert run("networks", "--net", SMALL, "--seconds", "0") == 0
    text = capsys.readouterr().out
    assert max(map(len, text[text.index(f"{SMALL}:") :].splitlines())) <= 80
    assert text.count("openvino") >= 3
    assert "off by" in text


@pytest.mark.parametrize("peer", bench_peers.MODULES)
def test_a_missing_peer_is_refused_before_anything_runs(
    peer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in bench_peers.MODULES:
        monkeypatch.setitem(sys.modules, name, None if name == peer else ModuleType(name))
    monkeypatch.setattr(bench_networks, "measure", None)
    assert run("networks", "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["where"]) == ("missing-peer", peer)
    assert "slt-infer[peers]" in error["message"]


@pytest.mark.parametrize("kind", ["f32", "int8"])
def test_a_peer_that_computes_something_else_is_refused_or_in_int8_marked(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = bench_networks.ticket_of(SMALL)
    bound = bench_networks.BOUNDS[kind]

    def off(by: float) -> None:
        def engines(ticket: Any, image: np.ndarray, threads: int) -> dict[tuple[str, str], Any]:
            logits = Plan(ticket)(image)
            return {("torch", kind): lambda: logits + by * np.abs(logits).max()}

        monkeypatch.setattr(bench_peers, "engines", engines)

    off(bound * 0.9)
    near = [row for row, _ in bench_networks.engines(ticket, 1)]
    assert [row["error"] for row in near][:2] == [0, 0]
    assert not any(row["far"] for row in near)
    off(bound * 1.1)
    if kind == "int8":
        rows = [row for row, _ in bench_networks.engines(ticket, 1)]
        assert [row["engine"] for row in rows if row["far"]] == ["torch"]
    for wrong in (np.nan, *([bound * 1.1] if kind == "f32" else [])):
        off(wrong)
        with pytest.raises(SltError) as caught:
            bench_networks.engines(ticket, 1)
        assert caught.value.code == "wrong-peer"


def test_rounds_call_all_in_turn_and_twice() -> None:
    calls: list[str] = []
    taken = bench_networks.rounds([lambda: calls.append("a"), lambda: calls.append("b")], 1, 0)
    assert calls == ["a", "a", "b", "b"] * 3
    assert [row["rounds"] for row in taken] == [3, 3]


@pytest.mark.parametrize("flags", [["--mask", "dense"], ["--isa", "scalar"]])
def test_flags_of_the_codec_are_bad_usage(flags: list[str]) -> None:
    assert run("networks", *flags) == 2
