"""Ways to store a network, side by side on one machine: bytes off chip, and what the chip must do for a
weight.

A scheme that a ticket or a machine cannot have is a reason, in words, instead of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from slt_infer.hw.description import Action, Hardware, HardwareError
from slt_infer.hw.masks import Mask, lanes_of
from slt_infer.hw.workload import Work, Workload

Operation = Literal["fp32_mac", "int8_mac", "add"]


class Storage(Struct, frozen=True):
    """How one layer is stored and what its weights cost on chip.

    weight_bytes, mask_bytes, index_bytes: off chip, fetched together. chip_bits: of a weight in the weight
    memory. active: share of the multiply-accumulates that are done, the others being gated. decoded: mask
    bits that the decoder gives; tokens: that it takes (zrl, rice), else 0; raw: decoded bits that are not
    coded; rans_tiles: tiles of a rans stream, of so many lanes; calls: generator calls of 128 bits (ticket),
    score_calls of them for initial scores; bits: of the machine's own.
    """

    operation: Operation
    weight_bytes: int
    chip_bits: float
    active: float = 1.0
    mask_bytes: int = 0
    index_bytes: int = 0
    decoded: int = 0
    raw: int = 0
    tokens: int = 0
    rans_tiles: int = 0
    lanes: int = 0
    calls: int = 0
    score_calls: int = 0
    bits: int = 0

    @property
    def bytes(self) -> int:
        return self.weight_bytes + self.mask_bytes + self.index_bytes


Scheme = Callable[[Work, Hardware], Storage]


def _dense(operation: Operation, bits: int) -> Scheme:
    def store(work: Work, machine: Hardware) -> Storage:
        return Storage(operation, math.ceil(work.weights * bits / 8), bits)

    return store


def _masked(work: Work) -> Mask:
    if work.mask is None:
        raise HardwareError(
            "no-mask", "the workload has no mask: shapes alone say nothing of what is kept", work.name
        )
    return work.mask


def _csr(work: Work, machine: Hardware) -> Storage:
    """A column number and an int8 value per kept weight, a row pointer of 32 bits per row and one more."""
    mask = _masked(work)
    column = max(1, math.ceil(math.log2(work.fan_in)))
    size = math.ceil(mask.kept * (8 + column) / 8) + 4 * (work.out + 1)
    return Storage("int8_mac", size, 8 * size / work.weights, mask.kept / mask.weights)


def _bitmap(work: Work, machine: Hardware) -> Storage:
    """A bit per weight and an int8 value per kept weight."""
    mask = _masked(work)
    size = math.ceil(work.weights / 8) + mask.kept
    return Storage("int8_mac", size, 8 * size / work.weights, mask.kept / mask.weights)


def _ternary(work: Work, machine: Hardware) -> Storage:
    mask = _masked(work)
    return Storage("add", math.ceil(work.weights / 4), 2, mask.kept / mask.weights)


def _raw_mask(work: Work, machine: Hardware) -> Storage:
    mask = _masked(work)
    bits = mask.weights
    calls, own = _signs(work, machine)
    return Storage(
        "add", 0, 2, mask.kept / bits, mask_bytes=-(-bits // 8), decoded=bits, raw=bits, calls=calls, bits=own
    )


def _coded_mask(work: Work, machine: Hardware) -> Storage:
    """The kept bit of every weight in the machine's own code, or a bit each where that is smaller."""
    mask, decoder = _masked(work), machine.decoder
    raw = _raw_mask(work, machine)
    options = [raw]
    if "zrl" in decoder.codes:
        size, tokens = mask.zero_run_bytes(decoder.run_bits), mask.zero_run_tokens(decoder.run_bits)
        options.append(replace(raw, mask_bytes=size, raw=0, tokens=tokens))
    if "rice" in decoder.codes:
        options.append(replace(raw, mask_bytes=mask.rice_bytes(decoder.run_bits), raw=0, tokens=mask.kept))
    if "rans" in decoder.codes:
        ours = not mask.frozen and mask.mode != "prior"  # then the file has these very bits
        size, index = (mask.bytes, mask.index_bytes) if ours else mask.whole_static_bytes
        options.append(
            replace(
                raw,
                mask_bytes=size,
                raw=0,
                index_bytes=index,
                rans_tiles=mask.tiles,
                lanes=lanes_of(raw.decoded),
            )
        )
    return min(options, key=lambda storage: storage.bytes)


def _frozen(work: Work, machine: Hardware) -> Storage:
    """The file, with masks coded by one density per layer at most."""
    mask = _masked(work)
    if mask.mode != "prior":
        return _file(work, machine)
    size, index = mask.static_bytes
    raw = mask.free if size == -(-mask.free // 8) else 0
    tiles = 0 if raw else mask.tiles
    return _from_file(work, machine, mask, size, index, raw, tiles, score_planes=0)


def _file(work: Work, machine: Hardware) -> Storage:
    """The file as it is."""
    mask = _masked(work)
    raw = mask.free if mask.mode == "raw" else mask.raw_tiles * mask.free // max(mask.tiles, 1)
    tiles = mask.tiles - mask.raw_tiles if mask.mode in ("static", "prior") else 0
    return _from_file(work, machine, mask, mask.bytes, mask.index_bytes, raw, tiles, mask.score_planes)


def _from_file(
    work: Work, machine: Hardware, mask: Mask, size: int, index: int, raw: int, tiles: int, score_planes: int
) -> Storage:
    signs, own = _signs(work, machine)
    freeze = mask.freeze_calls * work.out * -(-work.fan_in // 128)
    scores = score_planes * -(-mask.free // 128)
    return Storage(
        "add", 0, 2, mask.kept / mask.weights, size, index,
        decoded=0 if mask.mode == "const" else mask.free, raw=raw, rans_tiles=tiles, lanes=mask.lanes,
        calls=signs + freeze + scores, score_calls=scores, bits=own,
    )  # fmt: skip


def _signs(work: Work, machine: Hardware) -> tuple[int, int]:
    """Generator calls, and bits of the machine's own generator, for the signs; rows are padded to 128."""
    if machine.generator.kind == "own":
        return 0, work.weights
    return work.out * -(-work.fan_in // 128), 0


SCHEMES: dict[str, tuple[str, Scheme]] = {
    "fp32": ("32-bit weights", _dense("fp32_mac", 32)),
    "int8": ("8-bit weights", _dense("int8_mac", 8)),
    "binary": ("one bit per weight, none removed", _dense("add", 1)),
    "csr": ("kept weights as column and int8 value", _csr),
    "bitmap": ("a bit per weight, int8 values of the kept", _bitmap),
    "ternary": ("the ticket's weights, two bits each", _ternary),
    "raw-mask": ("seed, one mask bit per weight", _raw_mask),
    "coded-mask": ("seed, coded mask of all weights (Hiddenite)", _coded_mask),
    "frozen": ("seed, mask of the free weights, one density a layer", _frozen),
    "frozen-prior": ("seed, mask of the free weights under the initial scores", _file),
}
_SEEDED = ("raw-mask", "coded-mask", "frozen", "frozen-prior")
_OF_TICKETS = ("ternary", *_SEEDED)


def why_not(name: str, workload: Workload, machine: Hardware) -> str | None:
    """Why this machine cannot run this workload under a scheme; None if it can."""
    masks = [work.mask for work in workload.layers]
    if name not in ("fp32", "int8", "binary") and None in masks:
        return "the workload has no mask: shapes alone do not say what is kept"
    reason = _no_unit(name, machine)
    if reason or name not in _OF_TICKETS:
        return reason
    known = [mask for mask in masks if mask is not None]
    if any(mask.coats > 1 for mask in known):
        return "the ticket has several coats: its weights are not ternary, and the array adds each once"
    if any(mask.flips for mask in known) and name in _SEEDED:
        return "the ticket has flips: the machine has no unit that turns regenerated signs"
    if name in _SEEDED:
        return _no_decoder(name, known, workload, machine)
    return None


def _no_unit(name: str, machine: Hardware) -> str | None:
    operation: Operation = "add"
    if name == "fp32":
        operation = "fp32_mac"
    elif name in ("int8", "csr", "bitmap"):
        operation = "int8_mac"
    action: Action | None = getattr(machine.energy, operation)
    return None if action else f"{machine.name} gives no energy for {operation}: add energy.{operation}"


def _no_decoder(name: str, masks: list[Mask], workload: Workload, machine: Hardware) -> str | None:
    generator, codes = machine.generator, machine.decoder.codes
    if generator.kind == "none":
        return f"{machine.name} has no weight generator"
    if generator.kind == "ticket" and workload.generator:
        kind = workload.generator[0].removesuffix("4x32")
        if getattr(machine.energy, f"{kind}_round") is None:
            return f"{machine.name} does not run {kind}: give energy.{kind}_round"
    if name == "raw-mask":
        return None if "raw" in codes else f"{machine.name} takes no raw masks"
    if name == "coded-mask":
        return None if set(codes) - {"raw"} else f"{machine.name} has no mask decoder"
    if name == "frozen" and not any(mask.frozen for mask in masks):
        return "the ticket has no frozen weights: as coded-mask"
    if name == "frozen-prior" and not any(mask.mode == "prior" for mask in masks):
        return "no mask is coded by its initial scores: the search forgot them, or the ticket is synthetic"
    needed = {"rans" if mask.mode in ("static", "prior") else mask.mode for mask in masks} - {"const"}
    if not needed <= set(codes):
        known, wanted = ", ".join(codes) or "nothing", ", ".join(sorted(needed))
        return f"{machine.name} decodes {known}; the file has {wanted}"
    planes = max(mask.freeze_bits for mask in masks)
    if planes > generator.freeze_planes:
        made = f"freeze patterns of {generator.freeze_planes} planes"
        made = made if generator.freeze_planes else "no freeze pattern"
        return f"{machine.name} regenerates {made}, the ticket has {planes} planes"
    scores = max(mask.score_planes for mask in masks)
    if name == "frozen-prior" and scores > generator.score_planes:
        return f"{machine.name} regenerates {generator.score_planes} score planes, the ticket has {scores}"
    return None


def best_scheme(workload: Workload, machine: Hardware) -> str:
    """What the machine was made for: the last seed scheme that ticket and machine allow, else int8."""
    for name in (*reversed(_SEEDED), "int8", *reversed(SCHEMES)):
        if why_not(name, workload, machine) is None:
            return name
    raise HardwareError("bad-hardware", "gives no energy for any operation", machine.name)
