"""SCALE-Sim's topology files: CSV, a layer a line, for dense baselines.

Two forms, told apart by their headings: `Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width,
Channels, Num Filter, Strides` and `Layer, M, N, K`. As SCALE-Sim does, the input is not padded and the output
has ceil((H - R + S) / S) rows; further columns (sparsity) are refused unless empty. Layers are taken one by
one: the file does not say who reads whom.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from slt_infer.hw.description import HardwareError
from slt_infer.hw.workload import Work, Workload, finished

CONVOLUTION, PRODUCT = 8, 4  # columns


def load_topology(path: str | Path) -> Workload:
    """A workload without masks. Raises HardwareError (`bad-topology`) that names the line."""
    try:
        text = Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise HardwareError("bad-topology", "is not a text file", str(path)) from error
    return read_topology(text, Path(path).stem, str(path))


def read_topology(text: str, name: str, where: str = "topology") -> Workload:
    rows = [
        (number, [cell.strip() for cell in row])
        for number, row in enumerate(csv.reader(text.splitlines()), 1)
    ]
    rows = [(number, row) for number, row in rows if any(row)]
    if len(rows) < 2:
        raise HardwareError("bad-topology", "wants a line of headings and a layer", where)
    product = rows[0][1][1:4] == ["M", "N", "K"]
    layers: list[Work] = []
    for number, row in rows[1:]:
        numbers = _numbers(row, PRODUCT if product else CONVOLUTION, f"{where}, line {number}")
        layers.append(
            (_product if product else _convolution)(row[0], numbers, len(layers), f"{where}, line {number}")
        )
    # Who reads whom is not known: every layer reads the image's place, DRAM, and its output goes there.
    first = layers[0]
    return finished(name, layers, first.inputs * first.height * first.width)


def _numbers(row: list[str], columns: int, where: str) -> list[int]:
    while row and not row[-1]:
        row.pop()
    if len(row) != columns or not all(re.fullmatch("0*[1-9][0-9]{0,9}", cell) for cell in row[1:]):
        raise HardwareError(
            "bad-topology",
            f"wants a name and {columns - 1} numbers from 1 to 9999999999, not {', '.join(row)!r}",
            where,
        )
    return [int(cell) for cell in row[1:]]


def _convolution(name: str, numbers: list[int], index: int, where: str) -> Work:
    height, width, rows, columns, channels, filters, stride = numbers
    if rows > height or columns > width:
        raise HardwareError(
            "bad-topology", f"kernel {rows}x{columns} is larger than the input {height}x{width}", where
        )
    # ceil((H - R + S) / S) is the number of windows that begin inside, the last one perhaps cut off
    out_height, out_width = (-(-(n - k + stride) // stride) for n, k in ((height, rows), (width, columns)))
    return Work(
        name, channels, filters, (rows, columns), stride, 0, 1, height, width, out_height, out_width,
        stored=filters * out_height * out_width, value=0, result=index + 1,
    )  # fmt: skip


def _product(name: str, numbers: list[int], index: int, where: str) -> Work:
    m, n, k = numbers
    return Work(name, k, n, (1, 1), 1, 0, 1, m, 1, m, 1, stored=m * n, value=0, result=index + 1)
