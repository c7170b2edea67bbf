"""What the array does for a tile: cycles, reads of its memories, cycles lost to banks. No waiting for others
here.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
from msgspec import Struct

from slt_infer.hw import systolic
from slt_infer.hw.description import Array, Hardware
from slt_infer.hw.tiling import Tiling
from slt_infer.hw.workload import Work


class Steps(Struct, frozen=True):
    """Of one block of rows at one position of the array over the pixels: cycles, windows read, and the bank
    cycles that each window takes beyond those that hide it.
    """

    cycles: int
    windows: int
    window_elements: int
    bank_stall: int


def lanes(array: Array, work: Work) -> tuple[int, int]:
    """Input channels and kernel rows side by side: elements over kernel rows that a small kernel leaves take
    input channels.
    """
    rows = min(array.kernel_rows, work.kernel[0])
    return array.input_channels * (array.kernel_rows // rows), rows


def tree(array: Array, work: Work) -> int:
    """Weights of a row that are added side by side."""
    if array.flat:
        return min(array.input_channels, work.fan_in)
    channels, kernel_rows = lanes(array, work)
    return min(channels, work.inputs) * kernel_rows


def steps(work: Work, machine: Hardware, rows: int, kept: int | None) -> Steps:
    """rows: of the block; kept: the most that one of its rows keeps, for an array that skips zeros."""
    array = machine.array
    gathered = 0
    if array.flat:  # as if each place in K were a channel
        if work.inputs % array.input_channels and work.kernel != (1, 1):
            gathered = work.fan_in  # an activation a cycle, as channels do not fill words
        work = replace(work, inputs=work.fan_in, kernel=(1, 1))
    channels, kernel_rows = lanes(array, work)
    channel_passes = -(-work.inputs // channels)
    kernel_passes = -(-work.kernel[0] // kernel_rows) * work.kernel[1]
    turns = -(-rows // array.output_channels)
    cycles = channel_passes * kernel_passes * turns
    if array.zero_skipping and kept is not None:
        cycles = min(cycles, max(1, -(-kept // (channels * kernel_rows))) * turns)
    height, width = min(array.height, work.out_height), min(array.width, work.out_width)
    if array.results_per_cycle is not None:
        cycles = max(cycles, -int(-rows * height * width // array.results_per_cycle))
    cycles = max(cycles, gathered)
    depth = min(channels, work.inputs)
    if array.window_registers:
        high = (height - 1) * work.stride + work.kernel[0]
        wide = (width - 1) * work.stride + work.kernel[1]
        windows, step = channel_passes, 1
    else:
        high, wide, step = height * kernel_rows, width, work.stride
        windows = channel_passes * kernel_passes * turns
    if work.kernel == (1, 1) and array.window_registers:  # what the stride leaves out is not read
        high, wide, step = height, width, work.stride
    busy = bank_cycles(machine, depth, high, wide, step)
    stall = max(0, windows * busy - cycles)
    return Steps(cycles, windows, depth * high * wide, stall)


def bank_cycles(machine: Hardware, depth: int, high: int, wide: int, step: int) -> int:
    """Cycles to read high x wide pixels of `depth` channels, `step` columns apart.

    A word holds channels of one pixel, or of neighbours in a row where they fit; words of a row lie in banks
    in turn, and the next row goes on where an array's width of pixels ends. The fullest bank decides.
    """
    memory = machine.activations
    words = -(-depth * machine.activation_bits // memory.port_bits)
    packed = max(1, memory.port_bits // (depth * machine.activation_bits))  # pixels in a word
    return words * _fullest(memory.banks, high, wide, step, packed)


@functools.lru_cache(maxsize=4096)
def _fullest(banks: int, high: int, wide: int, step: int, packed: int) -> int:
    columns = np.unique(np.arange(wide) * step // packed)
    pitch = -(-wide // packed)
    rows = np.arange(high) * pitch
    return int(np.bincount(((rows[:, None] + columns[None, :]) % banks).reshape(-1)).max())


def pipeline(work: Work, machine: Hardware, tiles: Tiling) -> int:
    """Cycles that no work of the layer hides: the array's pipeline and the last results' rounding."""
    array, rate = machine.array, machine.array.results_per_cycle
    if rate is None:
        return array.pipeline_cycles
    rows = (work.out // work.groups - 1) % tiles.rows + 1
    pixels = min(array.height, work.out_height) * min(array.width, work.out_width)
    return array.pipeline_cycles - int(-rows * pixels // rate)


def positions(patch: tuple[int, int], array: Array) -> int:
    """Positions of the array over a patch of pixels."""
    return -(-patch[0] // array.height) * -(-patch[1] // array.width)


def _runs(work: Work, tiles: Tiling) -> list[tuple[int, int]]:
    """Blocks in turn as (rows of a block, so many of them in a row); blocks do not cross groups."""
    whole, rest = divmod(work.out // work.groups, tiles.rows)
    return [(tiles.rows, whole), (rest, 1)] * work.groups if rest else [(tiles.rows, whole * work.groups)]


def block_sizes(work: Work, tiles: Tiling) -> list[int]:
    """Rows of each block."""
    return [size for size, count in _runs(work, tiles) for _ in range(count)]


def block_steps(work: Work, machine: Hardware, tiles: Tiling) -> list[tuple[Steps, int]]:
    """Blocks in turn as (what one takes, so many of them in a row)."""
    if not machine.array.zero_skipping or work.mask is None:
        return [(steps(work, machine, size, None), count) for size, count in _runs(work, tiles)]
    sizes = block_sizes(work, tiles)
    ends = np.cumsum(sizes)
    most = np.maximum.reduceat(work.mask.row_kept, ends - np.asarray(sizes))
    return [(steps(work, machine, size, int(kept)), 1) for size, kept in zip(sizes, most, strict=True)]


def systolic_cycles(work: Work, machine: Hardware, tiles: Tiling) -> int:
    """Of the whole layer. Weights that stay while patches stream by make one pass of all pixels; where
    weights come again for each patch, so do fill and drain.
    """
    array = machine.array
    of_group = work.out // work.groups
    if tiles.weight_passes == 1:
        return work.groups * systolic.cycles(array, work.pixels, work.fan_in, of_group)
    each = (systolic.cycles(array, rows * columns, work.fan_in, of_group) for rows, columns in tiles.patches)
    return work.groups * sum(each)
