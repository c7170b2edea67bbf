"""Decoded images: 8-bit arrays, channels first, and the rules that bring them to one size."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from slt_infer.errors import DataError

SIDE = 2**14  # docs/format.md, section 6: height and width of an image
ELEMENTS = 2**28  # and the elements of any value
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}

Size = tuple[int, int, int]  # (channels, height, width)


@dataclass(frozen=True)
class Images:
    """A split of a data set.

    pixels: uint8 [N, C, H, W]; labels: int64 [N], indices into `classes`, or None where there are none.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    name: str

    def __len__(self) -> int:
        return len(self.pixels)

    def first(self, limit: int | None) -> Images:
        """The first `limit` images, all of them for None."""
        if limit is None or limit >= len(self):
            return self
        labels = None if self.labels is None else self.labels[:limit]
        return Images(self.pixels[:limit], labels, self.classes, self.name)


@dataclass(frozen=True)
class Fit:
    """What every image is brought to: `size` (None: all as the first one is) by the rule `resize`."""

    size: Size | None = None
    resize: str = "exact"

    def __call__(self, pixels: np.ndarray, where: str) -> np.ndarray:
        """One image, uint8 [C, H, W]: first its channels (grey or colour), then its height and width."""
        if self.size is None:
            return pixels
        return resized(_with_channels(pixels, self.size[0], where), self.size[1:], self.resize, where)

    def all(self, pixels: np.ndarray, where: str) -> np.ndarray:
        """Images of one size, uint8 [N, C, H, W]."""
        if self.size is None or pixels.shape[1:] == self.size:
            return pixels
        return stack(((one, f"{where}, image {i}") for i, one in enumerate(pixels)), self, where)


def _with_channels(pixels: np.ndarray, channels: int, where: str) -> np.ndarray:
    """Grey becomes colour by repetition, colour grey by Pillow's weights (ITU-R 601-2)."""
    if len(pixels) == channels:
        return pixels
    if (len(pixels), channels) == (1, 3):
        return np.repeat(pixels, 3, 0)
    if (len(pixels), channels) == (3, 1):
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).convert("L"))[None]
    raise DataError("bad-size", f"images of {len(pixels)} channels where {channels} are wanted", where)


def decode(source: Path | bytes, where: str) -> np.ndarray:
    """One image file, or its bytes, as uint8 [C, H, W], grey or RGB; an alpha channel is dropped.

    Raises DataError for what is no image, is damaged, larger than 2^14 a side, or has more than 8 bits per
    channel.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if max(image.size) > SIDE or image.width * image.height * 3 > ELEMENTS:
                raise DataError(
                    "limit", f"image of {image.width}x{image.height} pixels; at most {SIDE} a side", where
                )
            if image.mode.startswith(("I", "F")):
                raise DataError("bad-image", f"mode {image.mode}: only 8 bits per channel are read", where)
            pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError("limit", str(error), where) from None
    except FileNotFoundError:
        raise DataError("missing-data", "no such file", where) from None
    except Exception as error:  # decoders raise many kinds for a damaged file
        raise DataError("bad-image", f"cannot be decoded: {error}", where) from error
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def resized(pixels: np.ndarray, size: tuple[int, int], rule: str, where: str) -> np.ndarray:
    """uint8 [C, H, W] brought to `size` (height, width) by a resize rule of docs/format.md, section 4.

    Bilinear is Pillow's (area-aware when shrinking, 8-bit result). `crop`: the longer side becomes
    floor(longer * wanted shorter / shorter), then the middle is cut out, the odd row or column staying at
    the end. Raises DataError for another size under `exact`, an image too narrow for a crop, and an unknown
    rule.
    """
    height, width = pixels.shape[1:]
    if (height, width) == size:
        return pixels
    if rule == "stretch":
        return _bilinear(pixels, size)
    if rule == "crop":
        short, wanted = min(height, width), min(size)
        pixels = _bilinear(pixels, (height * wanted // short, width * wanted // short))
        top, left = (pixels.shape[1] - size[0]) // 2, (pixels.shape[2] - size[1]) // 2
        if top < 0 or left < 0:
            raise DataError(
                "bad-size", f"{height}x{width} is too narrow to crop to {size[0]}x{size[1]}", where
            )
        return np.ascontiguousarray(pixels[:, top : top + size[0], left : left + size[1]])
    if rule == "exact":
        raise DataError("bad-size", f"image of {height}x{width} where {size[0]}x{size[1]} is wanted", where)
    raise DataError("bad-size", f"unknown resize rule {rule!r}", where)


def _bilinear(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Channels are resized one by one, which gives the bits that Pillow gives for the whole image."""
    wanted = (size[1], size[0])
    channels = [Image.fromarray(channel).resize(wanted, Image.Resampling.BILINEAR) for channel in pixels]
    return np.stack([np.asarray(channel) for channel in channels])


def stack(decoded: Iterable[tuple[np.ndarray, str]], fit: Fit, source: str) -> np.ndarray:
    """Images [C, H, W] with their places, brought to one size: uint8 [N, C, H, W].

    Grey images among coloured ones become coloured. Raises DataError where sizes differ and `fit` names none.
    """
    images: list[np.ndarray] = []
    for pixels, where in decoded:
        pixels = fit(pixels, where)
        if images and pixels.shape[1:] != images[0].shape[1:]:
            first, this = ("x".join(map(str, shape)) for shape in (images[0].shape[1:], pixels.shape[1:]))
            message = f"image of {this}, the ones before are {first}: name a size and a resize rule"
            raise DataError("bad-size", message, where)
        images.append(pixels)
    if not images:
        raise DataError("missing-data", "no images", source)
    channels = max(len(pixels) for pixels in images)
    return np.stack(
        [pixels if len(pixels) == channels else np.repeat(pixels, channels, 0) for pixels in images]
    )


def load_files(paths: Sequence[str | Path], size: Size | None = None, resize: str = "exact") -> Images:
    """Single image files, without labels. Arguments and errors as in `load`."""
    fit = Fit(size, resize)
    decoded = ((decode(Path(path), str(path)), str(path)) for path in paths)
    return Images(stack(decoded, fit, "images"), None, (), "images")
