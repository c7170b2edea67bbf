"""Area by part: gate equivalents of the units of rtl/ that a machine needs, as Yosys counts them (gates.json,
made by rtl/area.py), and the bits of its memories.

What rtl/ does not have is unknown, with the reason, and in no sum. docs/rtl.md says what a gate equivalent
is.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import Any

from slt_infer.hw.description import Hardware, HardwareError, Size

MOST_ROUNDS = 20  # of one generator in a cycle; more are several generators
COLUMNS, ACC = (4, 32), (24, 32)  # least and most of what was counted


@dataclass(frozen=True)
class Part:
    """what: units and how many, or why the area is unknown, with gates and bits None. gates: gate
    equivalents; bits: of memory; size: of one of them on silicon, None if the machine does not say.
    """

    what: str
    gates: float | None = None
    bits: int | None = None
    size: Size | None = None

    @property
    def known(self) -> bool:
        return self.gates is not None or self.bits is not None

    def mm2(self, machine: Hardware) -> float | None:
        """Square millimetres at the machine's node, to first order: by its square."""
        many = self.gates if self.gates is not None else self.bits
        if many is None or self.size is None:
            return None
        scale = machine.nm / (self.size.nm or machine.nm)
        return many * self.size.um2 * (scale * scale) / 1e6


def area(machine: Hardware) -> dict[str, Any]:
    """For JSON: `parts` {name: {what, gate_equivalents, bits, mm2, source} or {unknown}}, the sums
    `gate_equivalents`, `bits` and `mm2` (None where the machine gives no sizes) of the known parts, and the
    `unknown` parts' names. Raises HardwareError (`limit`) where the machine's sizes give no finite area.
    """
    parts = parts_of(machine)
    known = {name: part for name, part in parts.items() if part.known}
    for name, part in known.items():
        if not math.isfinite(part.mm2(machine) or 0.0):
            raise HardwareError(
                "limit", f"the area of {name} is no finite number; see nm and [area]", machine.name
            )
    return {
        "parts": {name: _told(part, machine) for name, part in parts.items()},
        "gate_equivalents": round(sum(part.gates or 0 for part in known.values())),
        "bits": sum(part.bits or 0 for part in known.values()),
        "mm2": sum(part.mm2(machine) or 0.0 for part in known.values()) if machine.area else None,
        "unknown": [name for name in parts if name not in known],
    }


def _told(part: Part, machine: Hardware) -> dict[str, Any]:
    if not part.known:
        return {"unknown": part.what}
    return {
        "what": part.what,
        "gate_equivalents": None if part.gates is None else round(part.gates),
        "bits": part.bits,
        "mm2": part.mm2(machine),
        "source": part.size.source if part.size else None,
    }


def parts_of(machine: Hardware) -> dict[str, Part]:
    """Every part that the machine has, known or not."""
    generator, decoder, array = machine.generator, machine.decoder, machine.array
    adds = generator.kind != "none" and array.kind == "grid" and array.stationary == "output"
    parts = {
        "generator": _generator(machine) if generator.kind != "none" else None,
        "freeze": _freeze(machine) if generator.freeze_planes else None,
        "decoder": _decoder(machine) if "rans" in decoder.codes else None,
        "run decoder": _run_decoder(machine),
        "array": _adders(machine)
        if adds
        else Part("rtl/ has adders of ternary weights whose sums stay, alone"),
        "multipliers": None,
        "windows": _windows(machine) if adds and array.flat else None,
        "rounding": _rounding(machine),
        "activations": _memory(machine, machine.activations.bytes, "activation_bit"),
        "weights": _memory(machine, machine.weights.bytes, "weight_bit"),
        "buffer": _memory(machine, decoder.buffer_bytes, "buffer_bit") if decoder.codes else None,
        "control": Part("other loops and addresses, DRAM's interface and wiring are not counted"),
    }
    if adds and (machine.energy.int8_mac or machine.energy.fp32_mac):
        parts["multipliers"] = Part("not in rtl/; only weights that are stored need them")
    return {name: part for name, part in parts.items() if part is not None}


def _counted_part(machine: Hardware, what: str, count: float) -> Part:
    return Part(what, gates=count, size=machine.area.gate if machine.area else None)


def _threefry(machine: Hardware) -> float:
    """Of so many rounds a cycle; more than 20 are several generators."""
    whole, rest = divmod(math.ceil(machine.generator.rounds_per_cycle), MOST_ROUNDS)
    return whole * gates("threefry", PER_CYCLE=MOST_ROUNDS) + (
        gates("threefry", PER_CYCLE=rest) if rest else 0
    )


def _generator(machine: Hardware) -> Part:
    if machine.generator.kind == "own":
        return Part("the machine's own generator is not in rtl/")
    rounds = math.ceil(machine.generator.rounds_per_cycle)
    return _counted_part(machine, f"as Threefry, {rounds} rounds a cycle", _threefry(machine))


def _freeze(machine: Hardware) -> Part:
    units = math.ceil(machine.generator.rounds_per_cycle / MOST_ROUNDS)
    return _counted_part(machine, f"{units} x pattern, of 128 positions", units * gates("pattern"))


def _decoder(machine: Hardware) -> Part:
    """The widest units that were counted, side by side on tiles of their own, each with what puts its bits
    into blocks.
    """
    bits = machine.decoder.bits_per_cycle
    widths = sorted(its["WIDTH"] for its, _ in _counted()["mask_decoder"])
    width = next((width for width in widths if width >= bits), widths[-1])
    units = math.ceil(bits / width)
    count = units * (gates("mask_decoder", WIDTH=width) + gates("kept", WIDTH=width))
    what = f"{units} x mask_decoder and kept, {width} mask bits a cycle"
    if machine.decoder.in_step and machine.generator.score_planes:
        return _counted_part(machine, f"{what}, and a generator of scores", count + _threefry(machine))
    return _counted_part(machine, what, count)


def _run_decoder(machine: Hardware) -> Part | None:
    codes = [code for code in machine.decoder.codes if code != "rans"]
    if "rans" in machine.decoder.codes and "raw" in codes:
        codes.remove("raw")  # mask_decoder takes it too
    return Part(f"decoders of {', '.join(codes)} alone are not in rtl/") if codes else None


def _adders(machine: Hardware) -> Part:
    array = machine.array
    tiles, rows, columns = (
        array.height * array.width,
        array.output_channels,
        array.input_channels * array.kernel_rows,
    )
    if not COLUMNS[0] <= columns <= COLUMNS[1]:
        return Part(f"adder_tile was counted for {COLUMNS[0]} to {COLUMNS[1]} activations, not {columns}")
    if machine.activation_bits != 8 or not ACC[0] <= machine.accumulator_bits <= ACC[1]:
        return Part(f"adder_tile was counted for activations of 8 bits and sums of {ACC[0]} to {ACC[1]}")
    if array.zero_skipping or not array.adder_tree:
        return Part("rtl/ has adder trees that skip nothing, alone")
    count = tiles * gates("adder_tile", ROWS=rows, COLUMNS=columns, ACC=machine.accumulator_bits)
    return _counted_part(machine, f"{tiles} x adder_tile of {rows} x {columns}", count)


def _windows(machine: Hardware) -> Part:
    """Addresses of the activations, and those that wait for a step."""
    columns = machine.array.input_channels
    if not COLUMNS[0] <= columns <= COLUMNS[1]:
        return Part(f"windows was counted for {COLUMNS[0]} to {COLUMNS[1]} activations, not {columns}")
    return _counted_part(machine, f"windows of {columns}", gates("windows", COLUMNS=columns))


def _rounding(machine: Hardware) -> Part:
    if machine.array.results_per_cycle is None:
        return Part("array.results_per_cycle is not given")
    units = math.ceil(machine.array.results_per_cycle)
    return _counted_part(machine, f"{units} x requantise", units * gates("requantise", POW2=0))


def _memory(machine: Hardware, size: int, bit: str) -> Part | None:
    if not size:
        return None
    if machine.area is None:
        return Part(f"{size:,} bytes", bits=8 * size)
    one: Size | None = getattr(machine.area, bit)
    return Part(f"{size:,} bytes", bits=8 * size, size=one) if one else Part(f"area.{bit} is not given")


def gates(unit: str, **parameters: int) -> float:
    """Gate equivalents of a unit: as counted, or on the line through the two nearest counts of each
    parameter.
    """
    points = _counted()[unit]
    return _at(
        {tuple(its[key] for key in parameters): count for its, count in points}, tuple(parameters.values())
    )


def _at(points: dict[tuple[int, ...], float], wanted: tuple[int, ...]) -> float:
    if not wanted:
        return points[()]

    def there(value: int) -> float:
        return _at({key[1:]: count for key, count in points.items() if key[0] == value}, wanted[1:])

    values, value = sorted({key[0] for key in points}), wanted[0]
    if value in values:
        return there(value)
    high = next((i for i in range(1, len(values)) if values[i] > value), len(values) - 1)
    low, high = values[high - 1], values[high]
    return there(low) + (there(high) - there(low)) * (value - low) / (high - low)


@functools.cache
def _counted() -> dict[str, list[tuple[dict[str, int], int]]]:
    text = (resources.files("slt_infer.hw") / "gates.json").read_text("utf-8")
    found: dict[str, list[tuple[dict[str, int], int]]] = {}
    for its in json.loads(text)["units"]:
        found.setdefault(its["unit"], []).append((its["parameters"], its["gate_equivalents"]))
    return found
