"""The networks that the commands know by name, as graphs: `network("resnet18-cifar@0.5")`. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from slt_infer.errors import SltError
from slt_infer.models.convnet import convnet
from slt_infer.models.mlp import mlp
from slt_infer.models.resnet import cifar_resnet, imagenet_resnet
from slt_infer.ticket import Network

__all__ = ["NAMES", "network"]

Image = tuple[int, int, int]
Builder = Callable[[str, Image, int, float], Network]

_CIFAR: tuple[Image, int] = ((3, 32, 32), 10)
_IMAGENET: tuple[Image, int] = ((3, 224, 224), 1000)
_BUILDERS: dict[str, tuple[Builder, tuple[Image, int]]] = {
    "conv2": (convnet(2), _CIFAR),
    "conv4": (convnet(4), _CIFAR),
    "conv6": (convnet(6), _CIFAR),
    "resnet18-cifar": (cifar_resnet((2, 2, 2, 2)), _CIFAR),
    "resnet34-cifar": (cifar_resnet((3, 4, 6, 3)), _CIFAR),
    "resnet18": (imagenet_resnet((2, 2, 2, 2), bottleneck=False), _IMAGENET),
    "resnet34": (imagenet_resnet((3, 4, 6, 3), bottleneck=False), _IMAGENET),
    "resnet50": (imagenet_resnet((3, 4, 6, 3), bottleneck=True), _IMAGENET),
    "resnet101": (imagenet_resnet((3, 4, 23, 3), bottleneck=True), _IMAGENET),
    "wide_resnet50_2": (imagenet_resnet((3, 4, 6, 3), bottleneck=True, wide=2), _IMAGENET),
}

NAMES: tuple[str, ...] = ("mlp-784-300-100-10", *_BUILDERS)
"""Known names. The MLP is an example: any widths `mlp-A-B-...-C` are known."""


def network(name: str, input: Image | None = None, classes: int | None = None) -> Network:
    """The graph of a network, all of its weight tensors masked, without biases.

    name: one of NAMES, or an MLP of any widths; `@0.5` after it multiplies the widths (the number of inputs
    and of classes stay). input: (channels, height, width), the network's usual one if None. classes:
    likewise. `LayerShape.affine` marks the layers that a batch norm without learned parameters follows: every
    hidden layer of an MLP, every convolution of a ResNet, none of Conv2/4/6 (Frankle & Carbin 2019).

    Raises SltError: `bad-network` for an unknown name or sizes that do not fit it, `bad-graph` (TicketError)
    where an input is too small for the pools.
    """
    base, factor = _width_factor(name)
    if base.startswith("mlp-"):
        graph = mlp(name, base, input, classes, factor)
    else:
        if base not in _BUILDERS:
            raise SltError(
                "bad-network", f"no network {base!r}; known: mlp-A-B-C, {', '.join(_BUILDERS)}", name
            )
        build, (usual_input, usual_classes) = _BUILDERS[base]
        graph = build(name, input or usual_input, classes or usual_classes, factor)
    graph.shapes()
    return graph


def _width_factor(name: str) -> tuple[str, float]:
    base, at, text = name.partition("@")
    if not at:
        return base, 1.0
    if not re.fullmatch(r"\d*\.?\d+", text) or not 0 < float(text) <= 64 or not math.isfinite(float(text)):
        raise SltError("bad-network", f"width factor {text!r} is not a number in (0, 64]", name)
    return base, float(text)
