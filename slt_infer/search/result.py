"""What a search leaves for slt-export: masks and affines in result.npz, the rest in result.json. No torch."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from slt_infer import models
from slt_infer.errors import SltError
from slt_infer.files import write_atomically
from slt_infer.ticket import Freeze, Network, Preprocessing, Source

UNFINISHED = "no finished search (no result.json): give its slt-train command again, which goes on with it"
REQUESTED = ("method", "sparsity", "prune", "lock", "rule")  # settings that a packed ticket repeats


class LayerCounts(Struct, frozen=True):
    """Realised counts of weights."""

    name: str
    weights: int
    pruned: int
    locked: int
    free: int
    kept: int


class Summary(Struct, frozen=True, kw_only=True):
    """result.json. sparsity and density are realised ones and add up to 1."""

    network: str
    input: tuple[int, int, int]
    classes: int
    source: Source
    freezes: tuple[Freeze, ...]
    preprocessing: Preprocessing
    layers: tuple[LayerCounts, ...]
    method: str
    sparsity: float
    density: float
    val_accuracy: float
    test_accuracy: float
    epochs: float
    best_epoch: int
    iterations: int
    seconds: float
    data: str
    settings: dict[str, Any]
    provenance: dict[str, str]


@dataclass(frozen=True)
class Result:
    """A finished search.

    masks: per layer, booleans [free] by free ordinal. affines: per layer, float32 [2, out], scales then
    shifts of the sum of +-1 weights, or None where no batch norm follows.
    """

    summary: Summary
    masks: list[NDArray[np.bool_]]
    affines: list[NDArray[np.float32] | None]

    @property
    def network(self) -> Network:
        return models.network(self.summary.network, self.summary.input, self.summary.classes)

    def ticket_parts(self) -> dict[str, Any]:
        """The arguments of `codec.ticket_from_masks`; search knows no codec, so the caller calls it."""
        summary = self.summary
        requested = {key: str(summary.settings[key]) for key in REQUESTED}
        return {
            "network": self.network,
            "source": summary.source,
            "freezes": summary.freezes,
            "masks": self.masks,
            "affines": self.affines,
            "preprocessing": summary.preprocessing,
            "provenance": sorted({**summary.provenance, **requested}.items()),
        }


def save(folder: Path, result: Result) -> None:
    """Writes result.npz, then result.json: whoever finds the latter finds a whole result."""
    arrays: dict[str, NDArray[Any]] = {f"mask_{i}": mask for i, mask in enumerate(result.masks)}
    arrays |= {f"affine_{i}": affine for i, affine in enumerate(result.affines) if affine is not None}
    write_arrays(folder / "result.npz", arrays)
    write_json(folder / "result.json", result.summary)


def find(folder: Path) -> Path:
    """A run folder: this one, or the only finished run in it. Raises SltError (`no-result`)."""
    if (folder / "result.json").exists():
        return folder
    runs = sorted(path.parent for path in folder.glob("*/result.json"))
    if len(runs) == 1:
        return runs[0]
    if folder.is_file():
        message = "is a file, not a run folder: name the folder that slt-train wrote"
        if folder.suffix == ".slt":
            message = (
                "is a packed ticket: name the run folder that it was packed from; in Python, "
                "slt_infer.runtime.calibrated adds int8 scales to a packed one"
            )
        raise SltError("no-result", message, str(folder))
    if not folder.is_dir():
        message = "no such folder: slt-train names its run folder at its end"
        raise SltError("no-result", message, str(folder))
    names = ", ".join(path.name for path in runs[:5])
    found = f"{len(runs)} finished runs, name one: {names}" if runs else UNFINISHED
    raise SltError("no-result", f"holds {found}", str(folder))


def load(folder: Path) -> Result:
    """Reads what `save` wrote. Raises SltError: `no-result` if not finished, `bad-result` if damaged."""
    summary = load_summary(folder)
    try:
        with np.load(folder / "result.npz", allow_pickle=False) as arrays:
            masks = [arrays[f"mask_{i}"] for i in range(len(summary.layers))]
            names = [f"affine_{i}" for i in range(len(summary.layers))]
            affines = [arrays[name] if name in arrays.files else None for name in names]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise _damaged(folder / "result.npz", error) from error
    for layer, mask in zip(summary.layers, masks, strict=True):
        if mask.shape != (layer.free,) or mask.dtype != bool or layer.locked + mask.sum() != layer.kept:
            raise _damaged(folder / "result.npz", f"mask of layer {layer.name} does not fit")
    return Result(summary, masks, affines)


@dataclass(frozen=True)
class Predictions:
    """What the trainer predicted for its test images: classes int64 [N]; the two largest logits float32
    [N, 2]; the largest magnitude of a logit float32 [N]; the images' labels int64 [N].
    """

    classes: NDArray[np.int64]
    top2: NDArray[np.float32]
    largest: NDArray[np.float32]
    labels: NDArray[np.int64]


def load_predictions(folder: Path) -> Predictions:
    """predictions.npz of a run folder. Raises SltError (`no-predictions`)."""
    path = folder / "predictions.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            return Predictions(*(kept[name] for name in ("predictions", "top2", "largest", "labels")))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        message = f"cannot be read ({error}): delete the run folder and search again, or copy it again"
        raise SltError("no-predictions", message, str(path)) from error


def load_summary(folder: Path) -> Summary:
    """result.json alone. Raises as `load`."""
    path = folder / "result.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Summary)
    except OSError as error:
        raise SltError("no-result", f"holds {UNFINISHED}", str(folder)) from error
    except msgspec.DecodeError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: object) -> SltError:
    message = f"is damaged ({error}): delete the run folder and search again, or copy it again"
    return SltError("bad-result", message, str(path))


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, written atomically."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
    write_atomically(path, lambda file: file.write(text))


def write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """An .npz whose bytes depend on the arrays alone (members carry no time), written atomically."""

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                member = io.BytesIO()
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_DEFLATED)

    write_atomically(path, write)
