"""What a machine is: a typed description, read from TOML. docs/accelerator.md says how each field is used.

Sizes are in bytes, times in clock cycles, energies in picojoules, unless the field's comment says else. A
number that no source gives is a parameter; the presets say so beside it.
"""

from __future__ import annotations

import tomllib
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from slt_infer.errors import SltError

Count = Annotated[int, Meta(ge=1, le=2**40)]
Cycles = Annotated[int, Meta(ge=0, le=2**31)]
Rate = Annotated[float, Meta(gt=0, le=1e9)]
Amount = Annotated[float, Meta(ge=0, le=1e12)]
Share = Annotated[float, Meta(ge=0, le=1)]
Code = Literal["raw", "zrl", "rice", "rans"]


class HardwareError(SltError):
    """A machine that is described wrongly, or that cannot run a layer; the message says what to change."""


class _Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Array(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The processing elements: a grid over dimensions of the layer, or a systolic array."""

    kind: Literal["grid", "systolic"]
    # grid: elements side by side over each dimension; their product is the number of elements
    input_channels: Count = 1
    output_channels: Count = 1
    height: Count = 1
    width: Count = 1
    kernel_rows: Count = (
        1  # elements over kernel rows; those that a smaller kernel leaves take input channels
    )
    stationary: Literal["output", "weight"] = "output"  # what stays in the elements while the others move
    window_registers: bool = True  # a window of activations is read once and shifted under the kernel
    adder_tree: bool = (
        True  # input channels and kernel rows side by side make one sum; false: each element writes its own
    )
    zero_skipping: bool = False  # kept weights alone take cycles; the rows side by side wait for the fullest
    # systolic: rows x columns, and what stays
    rows: Count = 1
    columns: Count = 1
    dataflow: Literal["ws", "os", "is"] = "ws"
    flat: bool = False  # grid: K is cut as the matrix has it, kernel positions and all
    block_rows: Annotated[int, Meta(ge=0)] = 0  # rows of the weight matrix in a tile; 0: output_channels
    results_per_cycle: Rate | None = (
        None  # outputs scaled and rounded in a cycle; None: as many as leave; grid
    )
    pipeline_cycles: Cycles = 0  # from the last operands of a layer to its last sum; grid alone

    @property
    def elements(self) -> int:
        if self.kind == "systolic":
            return self.rows * self.columns
        return self.input_channels * self.output_channels * self.height * self.width * self.kernel_rows


class Activations(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The memory of values between layers, and of patches of those that lie off chip."""

    bytes: Count
    banks: Count = 1
    port_bits: Count = 64  # read by one bank in a cycle
    reserve: Annotated[int, Meta(ge=0)] = 0  # bytes that no value is kept in: room for patches


class Weights(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The memory of decoded weights: two halves, one fills while the other is read."""

    bytes: Count


class Generator(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Regenerates weights. `ticket`: runs the ticket's own generator; `own`: another that a search would
    have used instead, as Hiddenite's; `none`.
    """

    kind: Literal["none", "own", "ticket"] = "none"
    bits_per_cycle: Rate = 1.0  # own
    rounds_per_cycle: Rate = 1.0  # ticket: rounds of Philox or Threefry; a call of R rounds gives 128 bits
    whole_calls: bool = False  # ticket: a call takes whole cycles
    block_cycles: Cycles = 0  # beyond the calls, for each block of 128 positions
    mixed_plane_cycles: Cycles = 0  # for each freeze plane by the law `mixed` but the two that are drawn
    freeze_planes: Annotated[int, Meta(ge=0, le=16)] = 0  # of a freeze pattern, at most; 0: it makes none
    score_planes: Annotated[int, Meta(ge=0, le=9)] = 0  # of initial scores, at most; 0: no prior masks


class Decoder(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Expands coded masks. codes: those that it knows; `rans` is that of docs/format.md, section 5."""

    codes: tuple[Code, ...] = ()
    run_bits: Annotated[int, Meta(ge=1, le=16)] = 4  # zrl: bits of a token; rice: bits of a remainder
    tokens_per_cycle: Rate = 1.0  # zrl, rice
    bits_per_cycle: Rate = 1.0  # rans: mask bits
    raw_bits_per_cycle: Rate = 64.0
    tile_cycles: Cycles = 0  # rans: for each tile of the file, states in and compared
    lane_cycles: Amount = 0  # and for each state of it
    state_cycles: Cycles = 0  # rans: from reading a state to its next reading
    in_step: bool = False
    """Mask bits are put into a block of 128 positions while the generator makes the next one, and the
    decoder has a generator of its own for scores; false: each makes a tile at its own pace, with one
    generator."""
    block_cycles: Cycles = 0  # in_step: beyond the bits, for each block
    buffer_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 4096
    """Coded stream on chip: two halves, a tile's bytes fit into one; 0: words are taken as they come."""


class Dram(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bytes_per_cycle: Rate
    burst_bytes: Count = 32  # a transfer takes whole bursts
    latency_cycles: Cycles = 0  # from request to first byte; hidden by prefetch but at a layer's start


class Schedule(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    order: Literal["auto", "weights-first", "activations-first"] = "auto"
    """Which loop is outside. weights-first: weights are fetched once, activations that lie off chip again for
    each block of rows; activations-first the other way round; auto: fewer bytes from DRAM."""
    prefetch_layers: bool = True  # the next layer's first tile of weights is loaded during this layer
    double_buffer: bool = True  # false: a tile is loaded, decoded and computed before the next one starts
    decode_per: Literal["block", "pass"] = "block"
    """block: decoded weights lie in the weight memory while the pixels pass; pass: they are made anew for
    each position of the array over the pixels."""
    fuse_chains: bool = (
        True  # two layers in a row work strip by strip where what lies between would be spilled
    )


class Action(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Energy of one action, as a source gives it."""

    pj: Amount
    source: str
    nm: Rate | None = None  # node and supply of the source; None: as the machine's
    volt: Rate | None = None


class Energy(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Actions in pJ. Those left out are what the machine cannot do (fp32_mac, int8_mac, …)."""

    add: Action | None = None  # an activation into a sum
    int8_mac: Action | None = None
    fp32_mac: Action | None = None
    accumulator_bit: Action  # a bit of a partial sum written
    register_bit: Action  # a bit of an activation into a register of the array
    activation_read_bit: Action
    activation_write_bit: Action
    weight_read_bit: Action
    weight_write_bit: Action
    affine: Action  # scale and shift of one output
    dram_bit: Action
    dram_write_bit: Action | None = None  # None: as dram_bit
    generator_bit: Action | None = None  # own generator
    philox_round: Action | None = None  # of one call, 128 bits
    threefry_round: Action | None = None
    run_bit: Action | None = None  # mask bit out of a zrl, rice or raw decoder
    rans_bit: Action | None = None  # mask bit out of the rans decoder
    clock: Action | None = None  # per cycle, whatever the array does
    leakage_mw: Amount = 0.0
    gated_share: Share = 1.0  # of an operation's energy where the weight is removed
    idle_share: Share = 0.0  # of an operation's energy in an element that has nothing to do


# The fields of Energy that are actions.
ACTIONS = tuple(field for field in Energy.__struct_fields__ if not field.endswith(("_mw", "_share")))


class Size(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Area of a gate or of a bit of memory, in square micrometres, as a source gives it."""

    um2: Amount
    source: str
    nm: Rate | None = None  # node of the source; None: the machine's


class Area(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What gates and bits take on silicon. Without it areas are gate equivalents and bits alone."""

    gate: Size  # the smallest NAND of two inputs
    activation_bit: Size | None = None
    weight_bit: Size | None = None
    buffer_bit: Size | None = None


class Hardware(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A machine. hz: clock; volt: supply; nm: node. Bits are those of an activation and of a partial sum."""

    name: str
    summary: str
    hz: Rate
    volt: Rate
    nm: Rate
    activation_bits: Annotated[int, Meta(ge=1, le=32)] = 8
    accumulator_bits: Annotated[int, Meta(ge=1, le=64)] = 32
    array: Array
    activations: Activations
    weights: Weights
    generator: Generator = Generator()
    decoder: Decoder = Decoder()
    dram: Dram
    schedule: Schedule = Schedule()
    energy: Energy
    area: Area | None = None

    @cached_property
    def prices(self) -> dict[str, float]:
        """Energy of each action on this machine, pJ: its source's, times node / its node and (volt / its
        volt)^2. First order: capacitance falls with length. 0 for what the machine cannot do.
        """
        return {name: self._price(getattr(self.energy, name)) for name in ACTIONS}

    def _price(self, action: Action | None) -> float:
        if action is None:
            return 0.0
        return action.pj * self.nm / (action.nm or self.nm) * (self.volt / (action.volt or self.volt)) ** 2


def described(machine: Hardware) -> dict[str, Any]:
    """For JSON: everything that the machine is, and of each action its pJ on this machine and its source."""
    energies = {
        name: {"pj": price, "source": action.source}
        for name, price in machine.prices.items()
        if (action := getattr(machine.energy, name))
    }
    return {
        "name": machine.name,
        "summary": machine.summary,
        "hz": machine.hz,
        "elements": machine.array.elements,
        "energies": energies,
        "description": msgspec.to_builtins(machine),
    }


def preset_names() -> list[str]:
    return sorted(
        entry.name.removesuffix(".toml") for entry in _presets().iterdir() if entry.name.endswith(".toml")
    )


def hardware_text(name: str | Path) -> str:
    """The TOML of a preset, or of a file. Raises HardwareError (`no-hardware`)."""
    try:
        if str(name) in preset_names():
            return str((_presets() / f"{name}.toml").read_text("utf-8"))
        return Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(preset_names())
        raise HardwareError("no-hardware", f"no such file, nor a preset: {known}", str(name)) from error


def read_hardware(name: str | Path) -> dict[str, Any]:
    """The table of a preset, or of a file, not yet checked. Raises HardwareError."""
    try:
        return tomllib.loads(hardware_text(name))
    except tomllib.TOMLDecodeError as error:
        raise HardwareError("bad-hardware", f"is not TOML: {error}", str(name)) from error


def load_hardware(name: str | Path, changes: dict[str, Any] | None = None) -> Hardware:
    """A machine by the name of a preset or the path of a TOML file.

    changes: values over those of the file by dotted key, {"dram.bytes_per_cycle": 8}. Raises HardwareError
    (`no-hardware`, `bad-hardware`) that names the key and what it wants.
    """
    return hardware_of(read_hardware(name), changes or {}, str(name))


def hardware_of(table: dict[str, Any], changes: dict[str, Any], where: str) -> Hardware:
    """As load_hardware, of a table that is read already; it is not changed."""
    for key, value in changes.items():
        table = _with(table, key.split("."), value, key)
    try:
        hardware = msgspec.convert(table, Hardware)
    except msgspec.ValidationError as error:
        raise HardwareError("bad-hardware", str(error), where) from error
    _check(hardware)
    return hardware


def _with(table: dict[str, Any], path: list[str], value: Any, key: str) -> dict[str, Any]:
    """A table with one value changed."""
    first, *rest = path
    if rest:
        inner = table.get(first, {})
        if not isinstance(inner, dict):
            raise HardwareError("bad-hardware", f"{first} is a value, not a table", key)
        value = _with(inner, rest, value, key)
    return {**table, first: value}


def _check(hardware: Hardware) -> None:
    def refuse(message: str, where: str) -> HardwareError:
        return HardwareError("bad-hardware", message, f"{hardware.name}, {where}")

    generator, decoder, energy = hardware.generator, hardware.decoder, hardware.energy
    if hardware.array.kind == "systolic" and hardware.array.zero_skipping:
        raise refuse(
            "a systolic array skips no zeros: remove it or make the array a grid", "array.zero_skipping"
        )
    if hardware.activations.reserve > hardware.activations.bytes:
        raise refuse("is more than the memory has", "activations.reserve")
    if generator.kind == "own" and (generator.freeze_planes or generator.score_planes):
        raise refuse(
            "freeze patterns and scores are the ticket's own generator's: kind = \"ticket\"", "generator"
        )
    if generator.kind == "own" and energy.generator_bit is None:
        raise refuse("the machine has its own generator: give its energy", "energy.generator_bit")
    if generator.kind == "ticket" and energy.threefry_round is None and energy.philox_round is None:
        raise refuse("the generator runs neither Philox nor Threefry: give one's energy", "energy")
    if "rans" in decoder.codes and energy.rans_bit is None:
        raise refuse("the decoder knows rans: give its energy", "energy.rans_bit")
    if {"raw", "zrl", "rice"} & set(decoder.codes) and energy.run_bit is None:
        raise refuse("the decoder knows raw, zrl or rice: give its energy", "energy.run_bit")
    if decoder.codes and generator.kind == "none":
        raise refuse(
            "masks are decoded but weights are not regenerated: give it a generator", "generator.kind"
        )


def _presets() -> Any:
    return resources.files("slt_infer.hw") / "presets"
