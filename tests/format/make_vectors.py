"""Makes tests/vectors/version-1: files that every later program must read, and what it must read from them.

    python -m tests.format.make_vectors FOLDER

from the repository's root writes the files and expected.json. Files are built by tests/hostile/sound.py and
the weights worked out by tests/independent/decoder.py, both from docs/format.md and without code of the
package; slt_infer/reference.py gives the logits.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from slt_infer import reference
from slt_infer.format import loads

from ..hostile import sound
from ..independent import decoder

FOLDER = Path(__file__).parents[1] / "vectors" / "version-1"


def files() -> dict[str, bytes]:
    """Every mode, generator, freeze law, number of lanes and width of an affine; tasks, coats, flips, shared
    layers.
    """
    return {
        "modes-philox-10": sound.base("philox4x32", 10).build(),
        "modes-philox-7": sound.base("philox4x32", 7).build(),
        "modes-threefry-20": sound.base("threefry4x32", 20).build(),
        "modes-mixed-threefry-13": sound.base("threefry4x32", 13, "mixed").build(),
        "tasks-philox-10": sound.rich("philox4x32", 10).build(),
        "tasks-mixed-threefry-12": sound.rich("threefry4x32", 12, "mixed").build(),
        "lanes-32-static": sound.wide(0).build(),
        "lanes-32-prior": sound.wide(3).build(),
    }


def image(shape: tuple[int, ...]) -> np.ndarray:
    """float32 [1, C, H, W], exact in few bits."""
    size = int(np.prod(shape))
    return ((np.arange(size) * 37 % 64 - 32) / 16).astype(np.float32).reshape(1, *shape)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def numbers(matrix: np.ndarray) -> str:
    """Of weights by their number of coats and sign, integers [out, K]."""
    return digest(matrix.astype(np.int8).tobytes())


def affine_digest(affine: Any) -> str | None:
    """Of [2, out] numbers, or nothing."""
    return None if affine is None else digest(np.asarray(affine, dtype="<f4").tobytes())


def weights(layer: decoder.Layer) -> np.ndarray:
    """int64 [out, K]: coats that a weight is in, negative where it is."""
    columns = decoder.columns_of(layer.fields)

    def bits(rows: list[int]) -> np.ndarray:
        return np.array([[row >> k & 1 for k in range(columns)] for row in rows])

    return sum(bits(coat) for coat in layer.coats) * (1 - 2 * bits(layer.negative))


def expected(data: bytes) -> dict[str, Any]:
    ticket = loads(data)
    tasks = []
    for number, layers in enumerate(decoder.decode(data).tasks):
        logits = reference.run(ticket.task(number), image(ticket.network.input))[0]
        described = [
            {
                "name": layer.fields["name"],
                "free": sum(map(int.bit_count, layer.free)),
                "locked": sum(map(int.bit_count, layer.locked)),
                "kept": sum(map(int.bit_count, layer.kept)),
                "weights": numbers(weights(layer)),
                "constant": layer.constant,
                "affine": affine_digest(layer.affine),
            }
            for layer in layers
        ]
        tasks.append({"logits": [float(value) for value in logits], "layers": described})
    return {"bytes": len(data), "sha256": digest(data), "tasks": tasks}


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    made = files()
    for name, data in made.items():
        (folder / f"{name}.slt").write_bytes(data)
    text = json.dumps({name: expected(data) for name, data in made.items()}, indent=1)
    (folder / "expected.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
