"""The engines that `slt-bench networks` runs next to ours: the same network with the same weights, dense.

Scales and shifts are folded into weights and biases, as an engine would do itself. torch runs the graph node
by node; ONNX Runtime and OpenVINO get it as an ONNX model. Their int8 model is one and the same, made by ONNX
Runtime's static quantisation: weights per channel, activations per tensor, ranges from seeded noise.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from slt_infer import reference
from slt_infer.errors import SltError
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Network,
    Node,
    Relu,
    Ticket,
    inputs_of,
)

Engine = Callable[[], np.ndarray]  # logits [1, classes] of the image that it was made with
Dense = list[tuple[np.ndarray, np.ndarray]]  # per layer: [out, inputs, rows, columns] or [out, K]; [out]

MODULES = ("torch", "onnx", "onnxruntime", "openvino")
OPSET, IR = 17, 8  # of the ONNX model: what older runtimes read too
CALIBRATION = 16  # images


def module(name: str) -> Any:
    """A peer's module; SltError (`missing-peer`) that names the remedy where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        remedy = "pip install 'slt-infer[peers]' installs the peers"
        raise SltError("missing-peer", f"cannot be imported ({error}); {remedy}", name) from error


def engines(ticket: Ticket, image: np.ndarray, threads: int) -> dict[tuple[str, str], Engine]:
    """(engine, type) and what runs it. image: float32 [1, C, H, W]."""
    dense = dense_layers(ticket)
    model = onnx_model(ticket.network, dense)
    small = quantised(model, ticket.network.input)
    return {
        ("torch", "f32"): torch_engine(ticket.network, dense, image, threads),
        ("onnxruntime", "f32"): onnxruntime_engine(model, image, threads),
        ("onnxruntime", "int8"): onnxruntime_engine(small, image, threads),
        ("openvino", "f32"): openvino_engine(model, image, threads),
        ("openvino", "int8"): openvino_engine(small, image, threads),
    }


def dense_layers(ticket: Ticket) -> Dense:
    """float32 weights, zeros included, and biases of each layer, its affine in both."""
    convolutions = {node.layer for node in ticket.network.nodes if isinstance(node, Conv2d)}
    dense = []
    for i, layer in enumerate(ticket.layers):
        shape, weights = layer.shape, reference.weights(ticket.source, layer)
        bias = np.zeros(shape.out, dtype=np.float32)
        if layer.affine is not None:
            weights, bias = weights * (layer.affine[0] / layer.constant)[:, None], layer.affine[1]
        if i in convolutions:
            weights = weights.reshape(shape.out, *shape.kernel, shape.inputs).transpose(0, 3, 1, 2)
        dense.append((np.ascontiguousarray(weights, dtype=np.float32), bias))
    return dense


def torch_engine(network: Network, dense: Dense, image: np.ndarray, threads: int) -> Engine:
    """Eager, in inference mode."""
    torch = module("torch")
    torch.set_num_threads(threads)  # of the whole process; only torch uses them
    functions = torch.nn.functional
    layers, x = [tuple(map(torch.from_numpy, pair)) for pair in dense], torch.from_numpy(image)

    def value_of(node: Node, given: list[Any]) -> Any:
        if isinstance(node, Conv2d):
            groups = network.layers[node.layer].groups
            return functions.conv2d(given[0], *layers[node.layer], node.stride, node.padding, 1, groups)
        if isinstance(node, Linear):
            return functions.linear(given[0], *layers[node.layer])
        if isinstance(node, Relu):
            return functions.relu(given[0])
        if isinstance(node, Add):
            return given[0] + given[1]
        if isinstance(node, MaxPool2d | AvgPool2d):
            pool = functions.max_pool2d if isinstance(node, MaxPool2d) else functions.avg_pool2d
            return pool(given[0], node.kernel, node.stride, node.padding)
        if isinstance(node, GlobalAvgPool2d):
            return given[0].mean(dim=(2, 3))
        assert isinstance(node, Flatten)
        return given[0].flatten(1)

    def run() -> np.ndarray:
        with torch.inference_mode():
            values = [x]
            for node in network.nodes:
                values.append(value_of(node, [values[value] for value in inputs_of(node)]))
            return values[-1].numpy()

    return run


def onnx_model(network: Network, dense: Dense) -> bytes:
    """The graph as an ONNX model from `image` [1, C, H, W] to `logits` [1, classes], serialised."""
    onnx = module("onnx")
    helper, tensor = onnx.helper, onnx.numpy_helper.from_array
    tensors = [
        tensor(part, f"{kind}{i}")
        for i, pair in enumerate(dense)
        for kind, part in zip("wb", pair, strict=True)
    ]
    names = ["image", *(f"value{i}" for i in range(1, len(network.nodes))), "logits"]
    nodes = []
    for number, node in enumerate(network.nodes):
        given, made = [names[value] for value in inputs_of(node)], names[number + 1]
        if isinstance(node, Conv2d | Linear):
            given += [f"w{node.layer}", f"b{node.layer}"]
        if isinstance(node, GlobalAvgPool2d):  # keeps both sides of the image in ONNX, 1x1
            nodes.append(helper.make_node("GlobalAveragePool", given, [f"{made}.pooled"]))
            given = [f"{made}.pooled"]
        operator, attributes = _operator(network, node)
        nodes.append(helper.make_node(operator, given, [made], **attributes))
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, *shape])
        for name, shape in (("image", network.input), ("logits", (network.classes,)))
    ]
    graph = helper.make_graph(nodes, "ticket", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _operator(network: Network, node: Node) -> tuple[str, dict[str, Any]]:
    """ONNX's name of a node's operator, and its attributes."""
    if isinstance(node, Conv2d):
        shape = network.layers[node.layer]
        window = {"strides": [node.stride] * 2, "pads": [node.padding] * 4}
        return "Conv", {"kernel_shape": shape.kernel, "group": shape.groups, **window}
    if isinstance(node, MaxPool2d | AvgPool2d):
        window = {"strides": [node.stride] * 2, "pads": [node.padding] * 4}
        window["kernel_shape"] = [node.kernel] * 2
        if isinstance(node, MaxPool2d):
            return "MaxPool", window
        return "AveragePool", {**window, "count_include_pad": 1}
    if isinstance(node, Linear):
        return "Gemm", {"transB": 1}
    return {Relu: "Relu", Add: "Add", Flatten: "Flatten", GlobalAvgPool2d: "Flatten"}[type(node)], {}


def noise(input: tuple[int, int, int]) -> np.ndarray:
    """Images to calibrate with, float32 [CALIBRATION, C, H, W]."""
    random = np.random.Generator(np.random.PCG64(1))
    return random.standard_normal((CALIBRATION, *input), dtype=np.float32)


def quantised(model: bytes, input: tuple[int, int, int]) -> bytes:
    """The ONNX model with int8 weights and unsigned 8-bit activations.

    Weights have 7 of the 8 bits: without VNNI, x86 sums pairs of 8-bit products in 16 bits, which saturate.
    With 8 bits the engines here are as fast and wrong.
    """
    quantization = module("onnxruntime.quantization")
    images = iter(noise(input))

    class Noise(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(images, None)
            return None if image is None else {"image": image[None]}

    with tempfile.TemporaryDirectory() as folder:
        whole, small = f"{folder}/whole.onnx", f"{folder}/int8.onnx"
        proto = module("onnx").load_model_from_string(model)
        quantization.quant_pre_process(proto, whole, skip_symbolic_shape=True)
        quantization.quantize_static(
            whole,
            small,
            Noise(),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return Path(small).read_bytes()


def onnxruntime_engine(model: bytes, image: np.ndarray, threads: int) -> Engine:
    onnxruntime = module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # its threads would else go on spinning while the other engines run
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"image": image})[0]


def openvino_engine(model: bytes, image: np.ndarray, threads: int) -> Engine:
    openvino = module("openvino")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # what is not int8 stays float32
        "ENABLE_CPU_PINNING": False,  # the calling thread, which the other engines use too, would be pinned
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(model, b""), "CPU", settings).create_infer_request()
    return lambda: request.infer({0: image})[0]
