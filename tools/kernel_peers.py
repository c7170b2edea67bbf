"""The dense products that `slt-bench kernels` runs next to ours: the same layer, zeros included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from slt_infer import reference
from slt_infer.errors import SltError
from slt_infer.ticket import Layer
from slt_infer.tools import bench_peers
from slt_infer.tools.kernel_shapes import SOURCE, Shape, multiplier

Run = Callable[[], object]

# The modules that a type needs; the last one runs it.
PEERS = {"f32": ("torch",), "int8": ("onnx", "onnxruntime")}
# How far a peer's output may be from ours: of the largest number of f32; steps of int8, which round apart.
BOUNDS = {"f32": 1e-4, "int8": 1}


def dense(kind: str, shape: Shape, layer: Layer, x: np.ndarray, threads: int) -> tuple[Run, np.ndarray]:
    """What runs the layer on x, and its output as ours would be. kind: f32 (torch) or int8 (ONNX Runtime)."""
    return (_torch if kind == "f32" else _onnxruntime)(shape, layer, x, threads)


def compare(kind: str, where: str, own: np.ndarray, other: np.ndarray) -> None:
    """Raises SltError (`wrong-peer`) where a peer's output is further from ours than BOUNDS."""
    error = float(np.abs(own.astype(np.float64) - other).max())
    if kind == "f32":
        error /= float(np.abs(own).max()) or 1.0
    if not error <= BOUNDS[kind]:
        peer = PEERS[kind][-1]
        raise SltError("wrong-peer", f"{peer} differs by {error:.3g}, over {BOUNDS[kind]:g}", where)


def _dense(shape: Shape, layer: Layer) -> np.ndarray:
    """Weights as the peers lay them out, float32 [out, inputs, rows, columns] or [out, K]."""
    weights = reference.weights(SOURCE, layer)
    if shape.op == "linear":
        return weights
    return np.ascontiguousarray(
        weights.reshape(shape.layer.out, *shape.layer.kernel, shape.layer.inputs).transpose(0, 3, 1, 2)
    )


def _torch(shape: Shape, layer: Layer, x: np.ndarray, threads: int) -> tuple[Run, np.ndarray]:
    torch = bench_peers.module("torch")
    torch.set_num_threads(threads)
    image, weights = torch.from_numpy(x), torch.from_numpy(_dense(shape, layer))
    functions = torch.nn.functional

    def run() -> Any:
        with torch.inference_mode():
            if shape.op == "linear":
                return functions.linear(image, weights)
            return functions.conv2d(image, weights, None, shape.stride, shape.padding, 1, shape.layer.groups)

    return run, run().numpy()


def _onnxruntime(shape: Shape, layer: Layer, x: np.ndarray, threads: int) -> tuple[Run, np.ndarray]:
    """One QLinearConv or QLinearMatMul, unsigned 8-bit activations with zero point 128 in and out."""
    onnx = bench_peers.module("onnx")
    make, tensor = onnx.helper, onnx.numpy_helper.from_array
    weights = np.sign(_dense(shape, layer)).astype(np.int8)
    m, s = multiplier(shape, layer)
    one, zero = np.float32(1), np.uint8(128)
    scales, zeros = np.full(shape.layer.out, m / 2**s, np.float32), np.zeros(shape.layer.out, np.int8)
    constants = {"one": one, "zero": zero, "scales": scales, "zeros": zeros}
    names = ["x", "one", "zero", "w", "scales", "zeros", "one", "zero"]
    if shape.op == "conv2d":
        pads, strides = [shape.padding] * 4, [shape.stride] * 2
        node = make.make_node(
            "QLinearConv",
            names,
            ["y"],
            group=shape.layer.groups,
            kernel_shape=shape.layer.kernel,
            pads=pads,
            strides=strides,
        )
        size: tuple[int, ...] = (1, shape.layer.out, *shape.size)
    else:
        weights, size = np.ascontiguousarray(weights.T), (1, shape.layer.out)
        node = make.make_node("QLinearMatMul", names, ["y"])
    ends = [
        make.make_tensor_value_info(name, onnx.TensorProto.UINT8, list(shape_))
        for name, shape_ in (("x", x.shape), ("y", size))
    ]
    values = [tensor(np.asarray(value), name) for name, value in {"w": weights, **constants}.items()]
    graph = make.make_graph([node], "layer", ends[:1], ends[1:], values)
    opset = [make.make_opsetid("", bench_peers.OPSET)]
    model = make.make_model(graph, opset_imports=opset, ir_version=bench_peers.IR).SerializeToString()
    runtime = bench_peers.module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = (x.astype(np.int16) + 128).astype(np.uint8)

    def run() -> Any:
        return session.run(None, {"x": image})[0]

    return run, run().astype(np.int16) - 128
