"""How a layer is cut to fit the memories: blocks of rows of the weight matrix, parts of K, tiles of pixels.

A tile is one block and one part of K over one patch of output pixels. Two loop orders: weights-first fetches
each block once and runs it over all patches, so activations that lie off chip come again for each block;
activations-first the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import Struct

from slt_infer.hw.description import Hardware, HardwareError
from slt_infer.hw.schemes import Storage
from slt_infer.hw.workload import Work


class Tiling(Struct, frozen=True):
    """blocks x parts x patches tiles. rows: of a block. patch: output rows and columns of a patch.

    weight_passes, input_passes: how often all weights, and all activations that lie off chip, are fetched.
    input_bytes: of one pass, what neighbouring patches both read counted for each; residual_bytes likewise.
    """

    rows: int
    blocks: int
    parts: int
    patch: tuple[int, int]
    patches: tuple[tuple[int, int], ...]
    order: str
    weight_passes: int
    input_passes: int
    input_bytes: int
    residual_bytes: int

    @property
    def tiles(self) -> int:
        return self.blocks * self.parts * len(self.patches)


def tiling(
    work: Work,
    storage: Storage,
    machine: Hardware,
    held: int,
    input_off: bool,
    residual_off: bool,
    pinned: tuple[int, int] | None = None,
) -> Tiling:
    """held: bytes of the activation memory that other values take. input_off, residual_off: they lie off
    chip. pinned: the output rows and columns of a patch, for a chain whose layers share them.

    Raises HardwareError (`too-small`) where not even the smallest tile fits.
    """
    rows, blocks, parts = _blocks(work, storage, machine)
    patch = pinned or _patch(work, machine, machine.activations.bytes - held, input_off, residual_off)
    patches = _patches(work, patch)
    input_bytes = _input_bytes(work, machine, patch) if input_off else 0
    residual_bytes = _result_bytes(work, machine) if residual_off else 0
    weights = storage.bytes
    once = len(patches) == 1
    fits = work.weights * storage.chip_bits <= 8 * machine.weights.bytes
    again = 1 if once or fits else len(patches)  # passes over the weights, activations-first
    blocks_of_input = -(-blocks // work.groups)
    passes = 1 if once else blocks_of_input  # over the input, weights-first
    order = machine.schedule.order
    if order == "auto":
        first = weights + passes * input_bytes <= again * weights + input_bytes
        order = "weights-first" if first else "activations-first"
    if pinned:
        order = "activations-first"
    by_weights = order == "weights-first"
    return Tiling(
        rows,
        blocks,
        parts,
        patch,
        patches,
        order,
        weight_passes=1 if by_weights else again,
        input_passes=passes if by_weights else 1,
        input_bytes=input_bytes,
        residual_bytes=residual_bytes,
    )


def block_rows(machine: Hardware) -> int:
    array = machine.array
    if array.block_rows:
        return array.block_rows
    return array.columns if array.kind == "systolic" else array.output_channels


def _blocks(work: Work, storage: Storage, machine: Hardware) -> tuple[int, int, int]:
    """Rows of a block, blocks, and parts that K is cut into so that a block fits into half of the memory."""
    of_group = work.out // work.groups
    rows = min(block_rows(machine), of_group)
    half = max(1, machine.weights.bytes // (2 if machine.schedule.double_buffer else 1))
    parts = -(-int(rows * work.fan_in * storage.chip_bits) // (8 * half))
    if (
        storage.mask_bytes and machine.decoder.buffer_bytes
    ):  # coded bytes wait for the decoder in a buffer of their own
        coded = -(-storage.bytes * rows // work.out)
        parts = max(parts, -(-coded // max(1, machine.decoder.buffer_bytes // 2)))
    if parts > work.fan_in:
        raise HardwareError(
            "too-small",
            f"not even one column of a block of {rows} rows fits: raise weights.bytes "
            f"({machine.weights.bytes}) "
            f"or decoder.buffer_bytes ({machine.decoder.buffer_bytes}), or lower array.block_rows",
            f"{machine.name}, layer {work.name}",
        )
    return rows, work.groups * -(-of_group // rows), max(1, parts)


def _patch(work: Work, machine: Hardware, room: int, input_off: bool, residual_off: bool) -> tuple[int, int]:
    """The largest patch of output pixels of which two fit into the room: whole rows, down to the array's
    height, then fewer columns, down to its width, then less.
    """
    if not (input_off or residual_off):
        return work.out_height, work.out_width
    copies = 2 if machine.schedule.double_buffer else 1
    per_pixel = work.inputs * work.groups * machine.activation_bits / 8
    of_result = _result_bytes(work, machine) / work.pixels if residual_off else 0.0

    def size(rows: int, columns: int) -> float:
        read = _span(rows, work.kernel[0], work.stride, work.height) * _span(
            columns, work.kernel[1], work.stride, work.width
        )
        return (read * per_pixel if input_off else 0.0) + rows * columns * of_result

    if size(work.out_height, work.out_width) <= room:  # one patch: nothing to double
        return work.out_height, work.out_width
    rows, columns = work.out_height, work.out_width
    for least_rows, least_columns in ((machine.array.height, machine.array.width), (1, 1)):
        rows = _shrunk(rows, least_rows, room / copies, partial(size, columns=columns))
        columns = _shrunk(columns, least_columns, room / copies, partial(size, rows))
    if copies * size(rows, columns) > room:
        raise HardwareError(
            "too-small",
            f"its smallest patch of pixels takes {copies * size(rows, columns):.0f} bytes, {room} are left: "
            "raise activations.bytes or activations.reserve",
            f"{machine.name}, layer {work.name}",
        )
    return rows, columns


def strips(
    first: Work, second: Work, machine: Hardware, room: int, input_off: bool, residual_off: bool
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Patches (of the first, of the second layer) of a chain: whole rows, as many as fit, in multiples of the
    array's height. The first makes the rows that the second's next patch needs beyond those that are there.
    None if no such strip fits.
    """
    bits, copies = machine.activation_bits / 8, 2 if machine.schedule.double_buffer else 1
    row = second.width * second.inputs * second.groups * bits  # of the value between them
    least = min(machine.array.height, second.out_height)
    for rows in range(second.out_height // least * least, 0, -least):
        made = min(rows * second.stride, first.out_height)
        between = (_span(rows, second.kernel[0], second.stride, second.height) + made) * row
        read = _span(made, first.kernel[0], first.stride, first.height) * first.width
        taken = read * first.inputs * first.groups * bits if input_off else 0.0
        if residual_off:
            taken += _result_bytes(second, machine) * rows / second.out_height
        if between + copies * taken <= room:
            return (made, first.out_width), (rows, second.out_width)
    return None


def _shrunk(size: int, least: int, room: float, takes: Callable[[int], float]) -> int:
    """The largest multiple of `least` up to size that takes no more than the room, else `least`; size if it
    is smaller or fits.
    """
    if size <= least or takes(size) <= room:
        return size
    steps = range((size - 1) // least, 1, -1)
    return next((least * n for n in steps if takes(least * n) <= room), least)


def _patches(work: Work, patch: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    def cut(size: int, step: int) -> list[int]:
        return [min(step, size - at) for at in range(0, size, step)]

    return tuple((r, c) for r in cut(work.out_height, patch[0]) for c in cut(work.out_width, patch[1]))


def _span(outputs: int, kernel: int, stride: int, size: int) -> int:
    """Input rows (columns) under so many neighbouring output rows; none that a stride steps over."""
    return min(size, (outputs - 1) * min(stride, kernel) + kernel)


def _input_bytes(work: Work, machine: Hardware, patch: tuple[int, int]) -> int:
    """What all patches read, padding left out."""

    def read(out: int, step: int, kernel: int, size: int) -> int:
        if work.stride > kernel:  # pixels between the windows are not read
            starts = (at * work.stride - work.padding for at in range(out))
            return sum(max(0, min(low + kernel, size) - max(low, 0)) for low in starts)
        total = 0
        for at in range(0, out, step):
            low = at * work.stride - work.padding
            high = (min(at + step, out) - 1) * work.stride - work.padding + kernel
            total += max(0, min(high, size) - max(low, 0))
        return total

    rows = read(work.out_height, patch[0], work.kernel[0], work.height)
    columns = read(work.out_width, patch[1], work.kernel[1], work.width)
    return -(-rows * columns * work.inputs * work.groups * machine.activation_bits // 8)


def _result_bytes(work: Work, machine: Hardware) -> int:
    return -(-work.stored * machine.activation_bits // 8)
