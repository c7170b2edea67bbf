"""Makes tests/vectors/version-1: files that every later program must read, and what it must read from them.

    python -m tests.format.make_vectors FOLDER

from the repository's root writes the files and expected.json. Files are built by tests/hostile/sound.py and
the weights worked out by tests/independent/decoder.py, both from docs/format.md and without code of the
package; slt_infer/reference.py and reference_int8.py give the logits.
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
from slt_infer.reference_int8 import run_int8

from ..hostile import sound
from ..hostile.pieces import Pieces
from ..independent import decoder

FOLDER = Path(__file__).parents[1] / "vectors" / "version-1"


def files() -> dict[str, bytes]:
    """Every mode, generator, freeze law, number of lanes and width of an affine; tasks, coats, flips, shared
    layers; int8.
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
        "streams-mixed-philox-7": streams("philox4x32", 7, "mixed").build(),
        "streams-threefry-13": streams("threefry4x32", 13, "bernoulli").build(),
        "int8-philox-10": sound.quantised().build(),
        "int8-pow2-threefry-20": sound.quantised(True, 17, False, "threefry4x32", 20).build(),
        "int8-coats-mixed-philox-7": sound.quantised(False, 18, True, "philox4x32", 7, "mixed").build(),
    }


def streams(generator: str, rounds: int, freeze: str) -> Pieces:
    """Freeze patterns of 16 planes; streams of other lanes than their mask's, all with a raw tile.

    many: 2^18 positions, so that the last planes decide some. fewer: over 2^15 free weights, which is so by
    its raw tile alone, and further streams of under 2^15 bits. more: further streams of over 2^15 bits too.
    """

    def static(density: int) -> list[Any]:
        return ["static", density, 0, False, []]

    const = ["const", 4096, 0, False, []]
    prior = ["prior", 0, 2, True, [[0, 4060], [5, 4000]]]
    fewer = [[1, [static(3900), static(40)], [static(50)]]]
    more = [[1, [prior, static(4040), static(40)], [static(50)]]]
    layers = [
        ["many", 0, 128, 2048, 1, 1, 1, 16, 21001, 13107, 128, 0, 0, [[1, [const], []]]],
        ["fewer", 1, 300, 128, 1, 1, 1, 16, 6001, 3241, 141, 0, 0, fewer],
        ["more", 2, 128, 300, 1, 1, 1, 16, 401, 303, 60, 0, 0, more],
        ["head", 3, 4, 128, 1, 1, 1, 0, 0, 0, 4, 0, 0, [[1, [const], []]]],
    ]
    nodes = [["flatten", 0], *(["linear", i + 1, i] for i in range(len(layers)))]
    image = [32, 8, 8, [], [], "exact", []]
    source = [generator, rounds, 2**64 - 59, freeze, *sound.LAWS[1:]]
    return sound.fill(["streams", image, source, layers, nodes, [], []], 3, raw_tiles=1)


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
    if ticket.quantisation is not None:
        tasks[0]["int8_logits"] = run_int8(ticket, image(ticket.network.input))[0].tolist()
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
