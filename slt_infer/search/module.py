"""A source network in torch: random constants, a mask chosen by scores, a straight-through gradient to the
scores.

Weights are never trained and never stored as such: a layer's weight is sign * c * mask. Scores exist for free
weights only, in one flat vector: layer after layer, by free ordinal.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from slt_infer.errors import SltError
from slt_infer.search.selection import kept_count, select
from slt_infer.search.source import initial_scores, source_layer
from slt_infer.ticket import (
    Add,
    AvgPool2d,
    Conv2d,
    Flatten,
    Freeze,
    GlobalAvgPool2d,
    LayerShape,
    Linear,
    MaxPool2d,
    Network,
    Node,
    Relu,
    Source,
    fold_batch_norm,
    inputs_of,
)

Method = Literal["edge-popup", "edge-popup-local", "rate-aware"]
NORM_EPSILON, NORM_MOMENTUM = 1e-5, 0.1


class _Weights(nn.Module):
    """One layer's weights in row-major order [out, fan_in]; its free weights are `span` of the flat vectors.

    That order is (row, kernel row, kernel column, channel), which is torch's channels-last form of [out,
    channels, rows, columns]: no permutation is ever computed.
    """

    free_signs: Tensor  # float32 [free], +1 or -1
    mean: Tensor  # running statistics of the batch norm, float32 [out], where there is one
    var: Tensor
    places: Tensor | None  # int64 [free], the row-major places of the free weights; None where all are free
    locked_signs: Tensor | None  # float32 [out * fan_in], +1 or -1 where locked, else 0; None likewise

    def __init__(self, shape: LayerShape, layer: int, freeze: Freeze, source: Source, start: int) -> None:
        super().__init__()
        made = source_layer(source, layer, shape, freeze)
        signs = np.where(made.negative, np.float32(-1), np.float32(1))
        self.shape, self.freeze = shape, freeze
        self.free, self.locked = int(made.free.sum()), int(made.locked.sum())
        self.pruned = shape.weights - self.free - self.locked
        self.span = slice(start, start + self.free)
        self.constant = math.nan  # c, set by MaskedNetwork.select
        whole = self.free == shape.weights
        places = None if whole else torch.from_numpy(np.flatnonzero(made.free))
        locked_signs = None if whole else torch.from_numpy(signs * made.locked)
        self.register_buffer("free_signs", torch.from_numpy(signs[made.free]), persistent=False)
        self.register_buffer("locked_signs", locked_signs, persistent=False)
        self.register_buffer("places", places, persistent=False)
        if shape.affine:
            self.register_buffer("mean", torch.zeros(shape.out))
            self.register_buffer("var", torch.ones(shape.out))

    def weight(self, mask: Tensor) -> Tensor:
        """float32 [out, fan_in]: sign * c where kept, else 0. mask: bool [free]."""
        signs = self.free_signs * mask
        if self.places is not None and self.locked_signs is not None:
            signs = self.locked_signs.index_copy(0, self.places, signs)
        return signs.mul_(self.constant).view(self.shape.out, self.shape.fan_in)

    def score_gradient(self, gradient: Tensor) -> Tensor:
        """Gradient with respect to the mask, [free], from that with respect to the weight."""
        flat = gradient.reshape(-1)
        if self.places is not None:
            flat = flat[self.places]
        return flat * self.free_signs * self.constant

    def normalise(self, x: Tensor, training: bool) -> Tensor:
        """Batch norm without learned parameters, where the layer has one."""
        if not self.shape.affine:
            return x
        return F.batch_norm(
            x, self.mean, self.var, training=training, momentum=NORM_MOMENTUM, eps=NORM_EPSILON
        )

    def affine(self) -> NDArray[np.float32] | None:
        """The batch norm's running statistics and c as one affine of the +-1 sum, where there is one."""
        if not self.shape.affine:
            return None
        mean, var = (t.detach().cpu().numpy() for t in (self.mean, self.var))
        return fold_batch_norm(self.constant, mean, var, NORM_EPSILON)


class _StraightThrough(torch.autograd.Function):
    """All layers' weights from the scores; backward as if mask = |score|: all free scores get a gradient."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, network: MaskedNetwork) -> tuple[Tensor, ...]:
        ctx.network = network
        ctx.save_for_backward(scores)
        return tuple(network.weights())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (scores,) = ctx.saved_tensors
        gradient = torch.empty_like(scores)
        for layer, of_weight in zip(ctx.network.each(), gradients, strict=True):
            gradient[layer.span] = layer.score_gradient(of_weight)
        return gradient.mul_(torch.sgn(scores)), None


class MaskedNetwork(nn.Module):
    """Executes a `ticket.Network` with the weights that its scores keep.

    sparsity: share of weights removed; of each layer's own weights (`edge-popup-local`) or of all
    together (the other methods). score_scale: see `source.initial_scores`. Raises SltError if the seed or
    the ratios are unusable.
    """

    def __init__(
        self,
        network: Network,
        source: Source,
        freezes: list[Freeze],
        sparsity: float,
        method: Method = "edge-popup",
        score_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.network, self.method = network, method
        self.last_use = {value: i for i, node in enumerate(network.nodes) for value in inputs_of(node)}
        self.layers = nn.ModuleList()
        scores, start = [], 0
        for number, (shape, freeze) in enumerate(zip(network.layers, freezes, strict=True)):
            layer = _Weights(shape, number, freeze, source, start)
            scores.append(initial_scores(source, number, shape, layer.free, score_scale))
            self.layers.append(layer)
            start += layer.free
        self.scores = nn.Parameter(torch.from_numpy(np.concatenate(scores)))
        self.mask = torch.zeros(start, dtype=torch.bool)
        self.spans = self._spans(sparsity)

    def _spans(self, sparsity: float) -> list[tuple[slice, int]]:
        """Parts of the scores that are selected from alone, and how many of each are kept."""
        spans = []
        whole = self.method != "edge-popup-local"
        for group in [self.each()] if whole else [[layer] for layer in self.each()]:
            weights = sum(layer.shape.weights for layer in group)
            pruned = sum(layer.pruned for layer in group)
            locked = sum(layer.locked for layer in group)
            where = "the network" if whole else f"layer {group[0].shape.name}"
            kept = kept_count(weights, pruned, locked, sparsity, where)
            spans.append((slice(group[0].span.start, group[-1].span.stop), kept - locked))
        return spans

    def each(self) -> list[_Weights]:
        """The layers, in the graph's order."""
        return cast(list[_Weights], list(self.layers))

    def select(self) -> None:
        """Chooses the mask from the scores and sets each layer's c by what it now keeps (the dynamic scale).

        Raises SltError: `nan-score`, or `empty-layer` if a layer keeps nothing.
        """
        parts = [select(self.scores[span], count) for span, count in self.spans]
        self.use(parts[0] if len(parts) == 1 else torch.cat(parts))

    def use(self, mask: Tensor) -> None:
        """Takes a mask, bool [free weights of all layers], as if it had been selected."""
        self.mask = mask
        for layer, kept in zip(self.each(), self.kept(), strict=True):
            if not kept:
                raise SltError(
                    "empty-layer",
                    "keeps no weight; lower the sparsity, or lock some of it",
                    f"layer {layer.shape.name}",
                )
            shape = layer.shape
            layer.constant = float(np.float32(math.sqrt(2 / shape.fan_in) / math.sqrt(kept / shape.weights)))

    def kept(self) -> list[int]:
        """Kept weights of each layer, locked ones among them."""
        counts = torch.stack([torch.count_nonzero(self.mask[layer.span]) for layer in self.each()])
        return [layer.locked + count for layer, count in zip(self.each(), counts.tolist(), strict=True)]

    def weights(self) -> list[Tensor]:
        """Each layer's weight, float32 [out, fan_in], under the present mask."""
        return [layer.weight(self.mask[layer.span]) for layer in self.each()]

    def masks(self) -> list[NDArray[np.bool_]]:
        """The present mask of each layer by free ordinal."""
        return [self.mask[layer.span].cpu().numpy() for layer in self.each()]

    def forward(self, images: Tensor, weights: list[Tensor] | None = None) -> Tensor:
        """Logits [N, classes] of preprocessed images float32 [N, C, H, W].

        Training mode selects the mask anew and gives gradients to the scores. In evaluation mode the present
        mask is used; `weights` (of `weights()`) saves building them for each batch.
        """
        if self.training:
            self.select()
            weights = list(_StraightThrough.apply(self.scores, self))
        elif weights is None:
            weights = self.weights()
        values: dict[int, Tensor] = {0: images}
        for i, node in enumerate(self.network.nodes):
            values[i + 1] = self._run(node, values, weights)
            for value in set(inputs_of(node)):
                if self.last_use[value] == i:
                    del values[value]
        return values[len(self.network.nodes)]

    def _run(self, node: Node, values: dict[int, Tensor], weights: list[Tensor]) -> Tensor:
        if isinstance(node, Add):
            return values[node.left] + values[node.right]
        x = values[node.value]
        if isinstance(node, Conv2d):
            layer, shape = self.each()[node.layer], self.network.layers[node.layer]
            kernel = weights[node.layer].view(shape.out, *shape.kernel, shape.inputs).permute(0, 3, 1, 2)
            stride = node.stride
            if shape.kernel == (1, 1) and node.padding == 0:
                # torch 2.13's backward of a strided 1x1 convolution writes out of bounds on AVX2 machines
                # where channels are no multiple of 8; the pixels it reads are these.
                x, stride = x[:, :, ::stride, ::stride], 1
            y = F.conv2d(x, kernel, stride=stride, padding=node.padding, groups=shape.groups)
            return layer.normalise(y, self.training)
        if isinstance(node, Linear):
            return self.each()[node.layer].normalise(F.linear(x, weights[node.layer]), self.training)
        if isinstance(node, Relu):
            return F.relu(x)
        if isinstance(node, MaxPool2d):
            return F.max_pool2d(x, node.kernel, node.stride, node.padding)
        if isinstance(node, AvgPool2d):
            return F.avg_pool2d(x, node.kernel, node.stride, node.padding)
        if isinstance(node, GlobalAvgPool2d):
            return x.mean((2, 3))
        assert isinstance(node, Flatten)
        return x.flatten(1)
