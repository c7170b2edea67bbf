"""ONNX files as workloads, for dense baselines: shapes alone count, weights are not looked at.

Layers are Conv, Gemm and MatMul with weights that the file has; all else is done on a layer's results, as
for tickets. onnx itself infers the shapes, for one image. Data outside the file are not read.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from slt_infer.hw.description import HardwareError
from slt_infer.hw.workload import Step, Work, Workload, folded

MOST_BYTES = 2**30
MOST_NODES = 2**16
MOST_DIMENSIONS, MOST_ELEMENTS = 8, 2**40  # of a value
LAYERS = ("Conv", "Gemm", "MatMul")
RENAMES = ("Flatten", "Reshape", "Identity", "Dropout")
POOLS = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
KNOWN = (*LAYERS, "Add", "Relu", "Clip", "BatchNormalization", *POOLS, *RENAMES, "Constant")

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


def load_onnx(path: str | Path) -> Workload:
    """A workload without masks. Raises HardwareError: `no-onnx` where onnx is not installed, `bad-onnx` for
    what is no valid model, `unsupported` for a node that the accelerator model has no unit for, `limit`.
    """
    size = Path(path).stat().st_size
    if size > MOST_BYTES:
        raise HardwareError("limit", f"has {size} bytes, over {MOST_BYTES}", str(path))
    return read_onnx(Path(path).read_bytes(), Path(path).stem, str(path))


def read_onnx(content: bytes, name: str, where: str = "model") -> Workload:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise HardwareError(
            "no-onnx", f"cannot be imported ({error}); pip install 'slt-infer[onnx]' installs it", "onnx"
        ) from error
    try:
        model = onnx.load_model_from_string(content)
        _check_operators(model, where)
        constants = _constants(model.graph)
        image = _image(model.graph, constants, where)
        shapes = _shapes(onnx.shape_inference.infer_shapes(_bare(model), strict_mode=True).graph)
    except (onnx.shape_inference.InferenceError, DecodeError, RuntimeError, ValueError, TypeError) as error:
        raise HardwareError("bad-onnx", f"is not a valid ONNX model: {error}", where) from error
    steps = _steps(model.graph, image, constants, shapes, where)
    return folded(name, math.prod(shapes[image]), steps)


def _check_operators(model: Any, where: str) -> None:
    graph, nodes = model.graph, model.graph.node
    if len(nodes) > MOST_NODES:
        raise HardwareError("limit", f"has {len(nodes)} nodes, over {MOST_NODES}", where)
    words = [(node.name, node.op_type, node.domain, *node.input, *node.output) for node in nodes]
    words.append(tuple(part.name for part in (*graph.initializer, *graph.input, *graph.output)))
    if not all(isinstance(word, str) for some in words for word in some):
        raise HardwareError("bad-onnx", "a name is not UTF-8", where)
    for number, node in enumerate(nodes):
        if node.op_type not in KNOWN or node.domain not in ("", "ai.onnx"):
            raise _unsupported(
                f"the model has no unit for it; it knows {', '.join(KNOWN)}. Export without it, or cut the "
                "graph before it (onnx.utils.extract_model)",
                _place(where, number, node),
            )


def _constants(graph: Any) -> Shapes:
    """Shapes of what the file has the values of."""
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            tensors = [attribute.t for attribute in node.attribute if attribute.name == "value"]
            constants[_made(node)] = tuple(tensors[0].dims) if tensors else ()
        elif node.op_type == "Identity" and list(node.input)[:1] and node.input[0] in constants:
            constants[_made(node)] = constants[node.input[0]]
    return constants


def _image(graph: Any, constants: Shapes, where: str) -> str:
    """The input's name; a batch of any size becomes one."""
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        names = ", ".join(value.name[:80] for value in (*inputs[:8], *graph.output[:8]))
        raise _unsupported(f"wants one input and one output, not {names or 'none'}", where)
    dims = inputs[0].type.tensor_type.shape.dim
    if dims and not dims[0].HasField("dim_value"):
        dims[0].dim_value = 1
    sizes = [dim.dim_value for dim in dims]
    if not 2 <= len(sizes) <= MOST_DIMENSIONS or min(sizes) < 1:
        shown = [dim.dim_param[:80] or dim.dim_value for dim in dims]
        raise _unsupported(
            f"shape {shown[:MOST_DIMENSIONS]} is not known: export with fixed sizes",
            f"{where}, {inputs[0].name}",
        )
    if sizes[0] != 1:
        raise _unsupported(
            f"a batch of {sizes[0]}; the model takes one image: export with a batch of 1", where
        )
    return str(inputs[0].name)


def _bare(model: Any) -> Any:
    """The model without what inference does not need, or would believe though the batch has changed."""
    graph = model.graph
    del model.functions[:]
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    for tensor in graph.initializer:
        if len(tensor.dims) == 1 and tensor.dims[0] <= 8:  # perhaps a shape to give something
            continue
        dims, kind, name = list(tensor.dims), tensor.data_type, tensor.name
        tensor.Clear()
        tensor.name, tensor.data_type = name, kind
        tensor.dims.extend(dims)
    return model


def _shapes(graph: Any) -> Shapes:
    """Of every value, of which all sizes are known."""
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        sizes = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        if 0 < len(sizes) <= MOST_DIMENSIONS and min(sizes) > 0 and math.prod(sizes) <= MOST_ELEMENTS:
            found[value.name] = sizes
    return found


def _steps(graph: Any, image: str, constants: Shapes, shapes: Shapes, where: str) -> list[Step]:
    numbers, names = {image: 0}, set()
    steps: list[Step] = []
    for at, node in enumerate(graph.node):
        made, place = _made(node), _place(where, at, node)
        if made in constants:
            continue
        reads = [name for name in node.input if name and name not in constants]
        missing = [name for name in (made, *reads) if name not in shapes]
        if missing or any(name not in numbers for name in reads):
            raise HardwareError(
                "bad-onnx",
                f"shapes of what it reads and makes cannot be inferred: {', '.join(missing or reads)[:200]}",
                place,
            )
        if not 1 <= len(reads) <= (2 if node.op_type == "Add" else 1):
            raise _unsupported(
                f"takes {len(reads)} values that the network computes; weights must be in the file", place
            )
        if any(shapes[name] != shapes[made] for name in reads) and node.op_type == "Add":
            raise _unsupported(f"adds {shapes[reads[0]]} and {shapes[reads[-1]]}: make them alike", place)
        work = None
        if node.op_type in LAYERS:
            label = node.name if node.name and node.name not in names else made
            names.add(label)
            work = _layer(node, label, constants, shapes, place)
        numbers[made] = len(steps) + 1
        inputs = tuple(numbers[name] for name in reads)
        steps.append(Step(inputs, math.prod(shapes[made]), work, node.op_type in RENAMES, place))
    if not any(step.work for step in steps) or numbers.get(graph.output[0].name) != len(steps):
        raise _unsupported("wants layers, and the last node to make the output", where)
    return steps


def _layer(node: Any, label: str, constants: Shapes, shapes: Shapes, place: str) -> Work:
    if len(node.input) < 2 or node.input[0] not in shapes or node.input[1] not in constants:
        raise _unsupported("its second input must be weights that the file has", place)
    given, weights, made = shapes[node.input[0]], constants[node.input[1]], shapes[_made(node)]
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Conv":
        return _convolution(label, attributes, given, weights, made, place)
    transposed = node.op_type == "Gemm" and "transB" in attributes and attributes["transB"].i
    if node.op_type == "Gemm" and "transA" in attributes and attributes["transA"].i:
        raise _unsupported("transA: transpose before the product", place)
    if len(weights) != 2:
        raise _unsupported(f"weights of shape {weights}: one matrix is wanted", place)
    k, n = reversed(weights) if transposed else weights
    rows = math.prod(made) // max(n, 1)
    if k < 1 or n < 1 or rows * k != math.prod(given):
        raise HardwareError("bad-onnx", f"{given} and weights {weights} do not fit each other", place)
    return Work(label, k, n, (1, 1), 1, 0, 1, rows, 1, rows, 1, stored=rows * n, value=0, result=0)


def _convolution(
    label: str, attributes: dict[str, Any], given: Shape, weights: Shape, made: Shape, place: str
) -> Work:
    def numbers(name: str, otherwise: Shape) -> Shape:
        found = tuple(attributes[name].ints) if name in attributes else otherwise
        if len(found) != len(otherwise) or min(found) < 0:
            raise HardwareError("bad-onnx", f"{name} {found}", place)
        return found

    if not len(given) == len(weights) == len(made) == 4 or min(weights) < 1:
        raise _unsupported(f"input {given}, weights {weights}: images of two sides are wanted", place)
    groups = attributes["group"].i if "group" in attributes else 1
    strides = numbers("strides", (1, 1))
    pads = numbers("pads", (0, 0, 0, 0))[:2]
    automatic = attributes["auto_pad"].s if "auto_pad" in attributes else b"NOTSET"
    kernel = (weights[2], weights[3])
    if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
        whole = [
            max(0, (out - 1) * s + k - size)
            for out, s, k, size in zip(made[2:], strides, kernel, given[2:], strict=True)
        ]
        pads = tuple(total // 2 if automatic == b"SAME_UPPER" else total - total // 2 for total in whole)
    if len(set(strides)) > 1 or strides[0] < 1 or set(numbers("dilations", (1, 1))) != {1}:
        raise _unsupported("strides must be alike and dilations 1", place)
    if len(set(pads)) > 1:
        raise _unsupported(f"padding {pads} before rows and columns must be alike", place)
    fits = groups >= 1 and weights[0] % groups == 0 and given[1] == groups * weights[1]
    if not fits or made[:2] != (1, weights[0]) or given[0] != 1:
        raise HardwareError("bad-onnx", f"{given}, weights {weights} and {groups} groups do not fit", place)
    return Work(
        label, weights[1], weights[0], kernel, strides[0], pads[0], groups,
        given[2], given[3], made[2], made[3], stored=math.prod(made), value=0, result=0,
    )  # fmt: skip


def _made(node: Any) -> str:
    return str(node.output[0]) if node.output else ""


def _place(where: str, number: int, node: Any) -> str:
    return f"{where}, node {node.name[:80] or number} ({node.op_type[:80]})"


def _unsupported(message: str, where: str) -> HardwareError:
    return HardwareError("unsupported", message, where)
