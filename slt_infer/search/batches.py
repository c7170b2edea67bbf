"""Images on a device: the validation split, the order of batches, augmentation and preprocessing.

Everything random is NumPy's PCG64 under (data_seed, purpose, epoch), so that any epoch's order and
augmentation can be made again without the epochs before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slt_infer.errors import DataError
from slt_infer.ticket import Preprocessing

SPLIT, ORDER = 0, 1  # purposes
CROP = 4  # pixels of black padding on each side


@dataclass(frozen=True)
class Examples:
    """pixels: uint8 [N, C, H, W]; labels: int64 [N]. Both on one device."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: NDArray[np.int64]) -> Examples:
        index = torch.from_numpy(places).to(self.labels.device)
        return Examples(self.pixels[index], self.labels[index])


def examples(
    pixels: NDArray[np.uint8], labels: NDArray[np.int64] | None, name: str, device: str = "cpu"
) -> Examples:
    """Raises DataError (`no-labels`) where there is nothing to learn from."""
    if labels is None or not len(labels):
        raise DataError("no-labels", "a search needs labelled images", name)
    # copies, as what is read from a file may not be writable, which torch warns of
    return Examples(torch.tensor(pixels, device=device), torch.tensor(labels, device=device))


def split(count: int, share: float, data_seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the training and of the validation images, each ascending; at least one of both."""
    validation = min(max(int(count * share), 1), count - 1)
    order = _random(data_seed, SPLIT).permutation(count)
    return np.sort(order[validation:]), np.sort(order[:validation])


def channel_statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of v / 255, to four decimals; deviation 0 becomes 1."""
    counts = [torch.bincount(channel.flatten(), minlength=256) for channel in pixels.transpose(0, 1)]
    values = np.arange(256) / 255
    means, deviations = [], []
    for count in counts:
        share = count.cpu().numpy() / int(count.sum())
        mean = float((share * values).sum())
        means.append(round(mean, 4))
        deviations.append(round(float(np.sqrt((share * (values - mean) ** 2).sum())), 4) or 1.0)
    return tuple(means), tuple(deviations)


class Normaliser:
    """uint8 [N, C, H, W] to float32 (docs/format.md, section 4): (v / 255 - mean) / std, each rounded."""

    def __init__(self, preprocessing: Preprocessing, device: str) -> None:
        # tensors, not Python numbers: torch multiplies by the reciprocal of a number on a GPU
        self.whole = torch.tensor([255.0], device=device)
        self.mean = torch.tensor(preprocessing.mean, device=device).view(-1, 1, 1)
        self.std = torch.tensor(preprocessing.std, device=device).view(-1, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels.float().div_(self.whole).sub_(self.mean).div_(self.std)


def training_batches(
    data: Examples, batch: int, epoch: int, first: int, data_seed: int, augment: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches `first`, `first` + 1, ... of an epoch: uint8 pixels, labels. A smaller last one is left out."""
    random = _random(data_seed, ORDER, epoch)
    order = random.permutation(len(data))
    shifts = random.integers(0, 2 * CROP + 1, (len(data), 2)) if augment else None
    flips = random.integers(0, 2, len(data)).astype(bool) if augment else None
    for step in range(first, batches_per_epoch(len(data), batch)):
        part = slice(step * batch, (step + 1) * batch)
        taken = data.take(order[part])
        pixels = taken.pixels
        if shifts is not None and flips is not None:
            pixels = crop_flip(pixels, shifts[part], flips[part])
        yield pixels, taken.labels


def batches_per_epoch(count: int, batch: int) -> int:
    """At least one: a set smaller than a batch is one batch."""
    return max(count // batch, 1)


def crop_flip(pixels: Tensor, shifts: NDArray[np.int64], flips: NDArray[np.bool_]) -> Tensor:
    """Images padded with black by CROP, cut at (row, column) `shifts` in [0, 2 CROP], mirrored by `flips`."""
    _, _, height, width = pixels.shape
    padded = torch.nn.functional.pad(pixels, (CROP, CROP, CROP, CROP))
    rows = shifts[:, :1] + np.arange(height)
    columns = shifts[:, 1:] + np.arange(width)
    columns[flips] = columns[flips, ::-1]
    at = [torch.from_numpy(index).to(pixels.device) for index in (np.arange(len(rows)), rows, columns)]
    cut = padded.permute(0, 2, 3, 1)[at[0][:, None, None], at[1][:, :, None], at[2][:, None, :]]
    return cut.permute(0, 3, 1, 2)


def _random(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
