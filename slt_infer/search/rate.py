"""Searches that pay for bits: what draws scores back to where they began, so that the seed predicts the mask.

A mask of scores that never moved costs nothing, as their start is regenerated from the seed. The start is not
part of a checkpoint for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Anchor:
    """Holds on to the initial scores of a search.

    start: initial scores, float32 [free weights of all layers]. layers: each layer's part of it, and the
    standard deviation of the law that it was drawn from. rate: in these deviations, per unit of learning
    rate. pull: decay toward the start, as weight decay is toward zero.
    """

    start: Tensor
    layers: Sequence[tuple[slice, float]]
    rate: float
    pull: float

    @torch.no_grad()
    def add_decay(self, scores: Tensor, gradient: Tensor) -> None:
        """Adds pull * (score - start) to the gradient, in place; before the optimizer's step."""
        if self.pull:
            gradient.add_(scores, alpha=self.pull).sub_(self.start, alpha=self.pull)

    @torch.no_grad()
    def draw_back(self, scores: Tensor, lr: float) -> None:
        """Soft threshold, in place, after the optimizer's step: every score moves by lr * rate * deviation
        toward its start, and not beyond it.
        """
        if not self.rate:
            return
        for span, deviation in self.layers:
            part, step = scores[span], lr * self.rate * deviation
            # the value nearest to the start within reach: exact at the start, where a difference would round
            part.copy_(self.start[span].clamp(part - step, part + step))
