"""Cycles in which a layer's weights are made: its mask decoded, its signs and freeze pattern regenerated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slt_infer.hw.description import Hardware
from slt_infer.hw.masks import Mask
from slt_infer.hw.schemes import Storage
from slt_infer.hw.workload import Work


@dataclass(frozen=True)
class Making:
    """Of all weights of a layer, once. decode, generate: cycles of each unit; where they go in step, decode
    is of both. lead: cycles by which filling ends after making, in step. shares: each row's part of decode,
    float64; None: as its coded weights.
    """

    decode: int
    generate: int
    lead: int = 0
    shares: np.ndarray | None = None


def making_of(work: Work, storage: Storage, machine: Hardware, source: tuple[str, int] | None) -> Making:
    """source: the ticket's generator and its rounds."""
    call = 0.0
    if source is not None:
        call = source[1] / machine.generator.rounds_per_cycle
        call = math.ceil(call) if machine.generator.whole_calls else call
    if machine.decoder.in_step and storage.calls and work.mask is not None:
        return _in_step(work.mask, storage, machine, call)
    own = storage.bits / machine.generator.bits_per_cycle
    return Making(math.ceil(_decode(storage, machine)), math.ceil(own + storage.calls * call))


def _decode(storage: Storage, machine: Hardware) -> float:
    if storage.tokens:
        return storage.tokens / machine.decoder.tokens_per_cycle
    decoder, rate = machine.decoder, machine.decoder.bits_per_cycle
    if storage.lanes and decoder.state_cycles:
        rate = min(rate, storage.lanes / decoder.state_cycles)
    bits = (storage.decoded - storage.raw) / rate + storage.raw / decoder.raw_bits_per_cycle
    return bits + storage.rans_tiles * _start(storage, machine)


def _start(storage: Storage, machine: Hardware) -> float:
    """Of each coded tile."""
    return machine.decoder.tile_cycles + storage.lanes * machine.decoder.lane_cycles


def _in_step(mask: Mask, storage: Storage, machine: Hardware, call: float) -> Making:
    """A block of 128 positions waits for its pattern or for the bits of the block before."""
    generator, decoder = machine.generator, machine.decoder
    rows, across = mask.block_free.shape
    calls = (storage.calls - storage.score_calls) // (rows * across)
    mixed = mask.freeze_bits - mask.freeze_calls if calls > 1 else 0
    make = calls * call + generator.block_cycles + mixed * generator.mixed_plane_cycles
    bits = (mask.block_free if storage.decoded == mask.free else mask.block_sizes).astype(np.int64)
    if not storage.decoded:
        bits = np.zeros_like(bits)
    raw = storage.raw / max(storage.decoded, 1)
    start = _start(storage, machine) if storage.rans_tiles else 0.0
    least = decoder.state_cycles / storage.lanes if storage.lanes else 0.0  # between coded bits
    if storage.score_calls:
        planes = storage.score_calls // -(-mask.free // 128) * call + generator.block_cycles
        least, start = max(least, planes / 128), max(start, planes)
    fill = raw * _raw_cycles(bits, machine) + np.ceil(bits * (1 - raw) / decoder.bits_per_cycle)
    fill = np.maximum(fill + decoder.block_cycles, bits * (1 - raw) * least)
    ends = np.arange(mask.tile_rows, rows, mask.tile_rows) - 1  # of every tile but the last
    fill[ends, -1] += start
    taken = np.maximum(make, fill)
    lead = min(make, float(fill.mean())) + max(0.0, start - make)  # the first bits are there after `start`
    return Making(math.ceil(taken.sum()), math.ceil(make * rows * across), math.ceil(lead), taken.sum(axis=1))


def _raw_cycles(bits: np.ndarray, machine: Hardware) -> np.ndarray:
    """Of each block's raw bits: at the rate of coded ones, with pauses of a cycle that make up for what is
    slower. A pause between two blocks costs nothing: nobody takes bits there.
    """
    raw = machine.decoder.raw_bits_per_cycle
    rate = max(raw, machine.decoder.bits_per_cycle)
    pause, group = 1 / raw - 1 / rate, max(1, int(rate))  # of a bit; bits that come together
    ends = np.cumsum(bits).reshape(bits.shape)
    first = -((bits - ends) // group) * group  # that is not there already
    pauses = np.floor((ends - 1) * pause + 1e-6) - np.floor(first * pause + 1e-6)
    return bits / rate + np.maximum(pauses, 0)
