"""ONNX files: the same work as the network they were made from, refusals by name, hostile files."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slt_infer import models
from slt_infer.hw import HardwareError, Workload, closed_form, load_hardware, load_onnx, workload_of_network
from slt_infer.hw.onnx_file import read_onnx
from slt_infer.ticket import Network
from slt_infer.tools import bench_peers, sim

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'slt-infer[onnx]'")
make = onnx.helper


def exported(network: Network) -> bytes:
    """As an exporter writes it, weights and all."""
    convolutions = {node.layer for node in network.nodes if isinstance(node, bench_peers.Conv2d)}
    dense = []
    for i, layer in enumerate(network.layers):
        shape = (layer.out, layer.inputs, *layer.kernel) if i in convolutions else (layer.out, layer.fan_in)
        dense.append((np.zeros(shape, np.float32), np.zeros(layer.out, np.float32)))
    return bench_peers.onnx_model(network, dense)


def unnamed(made: Workload) -> Workload:
    return replace(made, name="", layers=tuple(replace(work, name="") for work in made.layers))


def model(
    nodes: list[Any],
    weights: dict[str, tuple[int, ...]],
    image: tuple[Any, ...] = (1, 4, 8, 8),
    end: str = "y",
) -> bytes:
    floats = onnx.TensorProto.FLOAT
    tensors = [make.make_tensor(name, floats, shape, np.zeros(shape)) for name, shape in weights.items()]
    ends = [make.make_tensor_value_info("x", floats, image), make.make_tensor_value_info(end, floats, None)]
    graph = make.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 17)]).SerializeToString()


def conv(given: str, made: str, weights: str, **attributes: Any) -> Any:
    return make.make_node("Conv", [given, weights], [made], name=f"conv-{made}", **attributes)


@pytest.mark.parametrize("network", ["resnet18", "resnet18-cifar@0.25", "conv2", "mlp-64-32-10"])
def test_the_same_network_as_a_ticket_has(network: str) -> None:
    graph = models.network(network)
    made = read_onnx(exported(graph), "net")
    assert unnamed(made) == unnamed(workload_of_network(graph))


def test_resnet18_file_has_the_published_totals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SCALE-Sim's table of ResNet-18 has 11,678,912 weights; ZigZag counts 1,814,073,344 products."""
    path = tmp_path / "resnet18.onnx"
    path.write_bytes(exported(models.network("resnet18")))
    with pytest.raises(SystemExit) as caught:
        sim.main([str(path), "--hw", "tpu-like", "--compare", "--model", "closed", "--json"])
    assert caught.value.code == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["weights"], answer["macs"]) == (11_678_912, 1_814_073_344)
    found = [name for name, result in answer["schemes"].items() if "reason" not in result]
    assert found == ["fp32", "int8", "binary"]
    same = closed_form(workload_of_network(models.network("resnet18")), load_hardware("tpu-like"), "int8")
    assert answer["schemes"]["int8"]["cycles"] == same.cycles.total
    assert answer["schemes"]["int8"]["energy_pj_total"] == pytest.approx(sum(same.energy_pj.values()))


def test_every_operator_by_hand() -> None:
    """Depthwise, strides, SAME padding, batch norm, a residual, pools, a product with a bias apart."""
    nodes = [
        make.make_node("Constant", [], ["six"], value=make.make_tensor("v", 1, (), [6.0])),
        conv("x", "a", "w1", group=4, auto_pad="SAME_UPPER", strides=[2, 2]),  # 8x8 -> 4x4
        make.make_node("BatchNormalization", ["a", "s", "s", "s", "s"], ["b"]),
        make.make_node("Clip", ["b", "", "six"], ["c"]),
        conv("c", "d", "w2"),
        make.make_node("Add", ["d", "c"], ["e"]),
        make.make_node("Relu", ["e"], ["f"]),
        make.make_node("AveragePool", ["f"], ["g"], kernel_shape=[2, 2], strides=[2, 2]),
        make.make_node("Dropout", ["g"], ["h"]),
        make.make_node("Constant", [], ["flat"], value=make.make_tensor("v", 7, (2,), [1, -1])),
        make.make_node("Reshape", ["h", "flat"], ["i"]),
        make.make_node("MatMul", ["i", "w3"], ["j"]),
        make.make_node("Add", ["j", "bias"], ["y"]),
    ]
    weights = {"w1": (4, 1, 3, 3), "w2": (4, 4, 1, 1), "w3": (16, 5), "bias": (5,), "s": (4,)}
    made = read_onnx(model(nodes, weights, image=("batch", 4, 8, 8)), "net")
    first, second, last = made.layers
    assert (first.inputs, first.out, first.groups, first.stride, first.padding) == (1, 4, 4, 2, 0)
    assert (first.macs, second.macs, last.macs) == (4 * 9 * 16, 16 * 16, 16 * 5)
    assert (first.stored, second.stored, last.stored) == (4 * 16, 4 * 4, 5)
    assert (first.name, last.name) == ("conv-a", "j")
    assert second.residual == first.result
    assert made.elements == (256, 64, 16, 5)
    assert closed_form(made, load_hardware("tpu-like"), "int8").cycles.compute > 0


def test_a_product_of_many_rows() -> None:
    nodes = [make.make_node("MatMul", ["x", "w"], ["y"])]
    (work,) = read_onnx(model(nodes, {"w": (64, 32)}, image=(1, 10, 64)), "net").layers
    assert (work.pixels, work.fan_in, work.out) == (10, 64, 32)


W = {"w": (4, 4, 3, 3)}


@pytest.mark.parametrize(
    ("content", "code", "what"),
    [
        (lambda: model([make.make_node("Softmax", ["x"], ["y"])], {}), "unsupported", "node 0 (Softmax)"),
        (lambda: model([conv("x", "y", "w", domain="com.microsoft")], W), "unsupported", "conv-y (Conv)"),
        (lambda: model([conv("x", "y", "w")], W, (2, 4, 8, 8)), "unsupported", "a batch of 2"),
        (lambda: model([conv("x", "y", "w")], W, (1, 4, "h", 8)), "unsupported", "fixed sizes"),
        (lambda: model([conv("x", "y", "w", dilations=[2, 2])], W), "unsupported", "dilations"),
        (lambda: model([conv("x", "y", "w", strides=[2, 1])], W), "unsupported", "strides"),
        (lambda: model([conv("x", "y", "w", pads=[1, 0, 1, 0])], W), "unsupported", "padding"),
        (lambda: model([conv("x", "y", "x")], {}), "unsupported", "weights must be in the file"),
        (lambda: model([make.make_node("Relu", ["x"], ["y"])], {}), "unsupported", "wants layers"),
        (lambda: model([conv("no", "y", "w")], W), "bad-onnx", "no"),
        (lambda: model([conv("x", "y", "w")], {"w": (4, 3, 3, 3)}), "bad-onnx", ""),
        (lambda: model([conv("x", "y", "w")], W)[:-20], "bad-onnx", "not a"),
        (lambda: b"\x00" * 100, "bad-onnx", "not a"),
        (lambda: model([conv("x", "y", "w")], W).replace(b"conv-y", b"con\xff\xfey"), "bad-onnx", "UTF-8"),
        (lambda: b"", "unsupported", "one input"),
        (lambda: model([conv("x", "y", "w")], W, (1, 4, 2**21, 8)), "limit", "2097152"),
    ],
)  # fmt: skip
def test_refusals(content: Callable[[], bytes], code: str, what: str) -> None:
    with pytest.raises(HardwareError) as caught:
        read_onnx(content(), "net", "net.onnx")
    assert caught.value.code == code
    assert what in str(caught.value)
    assert "net" in caught.value.where


def test_data_outside_the_file_is_not_read(tmp_path: Path) -> None:
    made = onnx.load_model_from_string(model([conv("x", "y", "w")], W))
    (tensor,) = made.graph.initializer
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/no-such-file")
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString())
    assert load_onnx(path).weights == 144


def test_without_onnx_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(HardwareError, match=r"slt-infer\[onnx\]") as caught:
        read_onnx(b"", "net")
    assert caught.value.code == "no-onnx"


def test_a_file_over_the_bound_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with path.open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(HardwareError, match="over 1073741824"):
        load_onnx(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_files_are_refused_or_read(damage: list[tuple[int, int]]) -> None:
    nodes = [
        conv("x", "a", "w", pads=[1, 1, 1, 1]),
        make.make_node("Add", ["a", "a2"], ["b"]),
        make.make_node("GlobalAveragePool", ["b"], ["c"]),
        make.make_node("Flatten", ["c"], ["d"]),
        make.make_node("Gemm", ["d", "m"], ["y"], transB=1),
    ]
    content = bytearray(model(nodes, {"w": (2, 4, 3, 3), "a2": (2, 1, 1), "m": (3, 2)}))
    for at, value in damage:
        content[at % len(content)] = value
    with contextlib.suppress(HardwareError):
        read_onnx(bytes(content), "net")
