"""Areas: what is counted, how it scales, what is unknown; the counts themselves against Yosys."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from slt_infer.hw import load_hardware, preset_names
from slt_infer.hw.area import area, gates, parts_of
from slt_infer.hw.description import HardwareError
from slt_infer.hw.html import report
from slt_infer.tools import sim

RTL = Path(__file__).parents[2] / "rtl"
COUNTED = json.loads((resources.files("slt_infer.hw") / "gates.json").read_text("utf-8"))


def answer_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    with pytest.raises(SystemExit) as caught:
        sim.main([*map(str, arguments), "--json"])
    assert caught.value.code == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("preset", preset_names())
def test_known_parts_are_summed_and_unknown_ones_say_why(preset: str) -> None:
    machine = load_hardware(preset)
    told, parts = area(machine), parts_of(machine)
    known = {name: its for name, its in told["parts"].items() if "unknown" not in its}
    for key in ("gate_equivalents", "bits"):
        assert told[key] == pytest.approx(sum(its[key] or 0 for its in known.values()), abs=len(known))
    if machine.area:
        assert told["mm2"] == pytest.approx(sum(its["mm2"] for its in known.values()))
        assert all(len(its["source"]) > 10 for its in known.values())
    assert told["unknown"] == [name for name in parts if name not in known]
    assert all(len(told["parts"][name]["unknown"]) > 10 for name in told["unknown"])
    assert "control" in told["unknown"]


@pytest.mark.parametrize(
    "change",
    [
        {"activation_bits": 16},
        {"accumulator_bits": 16},
        {"accumulator_bits": 64},
        {"array.zero_skipping": True},
        {"array.adder_tree": False},
    ],
)
def test_adders_that_were_not_counted_are_unknown(change: dict[str, Any]) -> None:
    assert parts_of(load_hardware("successor"))["array"].known
    assert not parts_of(load_hardware("successor", change))["array"].known


def test_no_area_without_end_is_told() -> None:
    machine = load_hardware("successor", {"nm": 1e9, "area.gate.nm": 1e-150})
    with pytest.raises(HardwareError) as caught:
        area(machine)
    assert caught.value.code == "limit"


def test_a_ticket_machine_is_made_of_counted_units() -> None:
    parts = parts_of(load_hardware("successor"))
    assert parts["generator"].gates == gates("threefry", PER_CYCLE=20)
    assert parts["freeze"].gates == gates("pattern")
    assert parts["array"].gates == 64 * gates("adder_tile", ROWS=8, COLUMNS=8, ACC=24)
    assert parts["activations"].bits == 8 * 2**20
    ours = parts_of(load_hardware("rtl"))
    assert ours["decoder"].gates == gates("mask_decoder", WIDTH=1) + gates("kept", WIDTH=1) + gates(
        "threefry", PER_CYCLE=1
    )
    assert ours["rounding"].gates == gates("requantise", POW2=0)
    assert ours["windows"].gates == gates("windows", COLUMNS=8)


def test_what_is_not_in_rtl_is_unknown() -> None:
    unknown = {name: area(load_hardware(name))["unknown"] for name in preset_names()}
    assert {"generator", "run decoder", "multipliers"} <= set(unknown["hiddenite-like"])
    assert "array" in unknown["tpu-like"]
    assert "array" in unknown["systolic-os"]
    wide = load_hardware("successor", {"array.input_channels": 64, "array.height": 1})
    assert "array" in area(wide)["unknown"]


def test_areas_scale_with_the_machine() -> None:
    def gates_of(changes: dict[str, Any], part: str) -> float:
        count = parts_of(load_hardware("successor", changes))[part].gates
        assert count is not None
        return count

    assert gates_of({"array.width": 16}, "array") == 2 * gates_of({}, "array")
    assert gates_of({"generator.rounds_per_cycle": 40}, "generator") == 2 * gates_of({}, "generator")
    assert gates_of({"generator.rounds_per_cycle": 40}, "freeze") == 2 * gates_of({}, "freeze")
    lanes = [gates_of({"generator.rounds_per_cycle": count}, "generator") for count in range(1, 41)]
    assert lanes == sorted(lanes)
    one, four = (parts_of(load_hardware("successor", {"nm": nm}))["generator"] for nm in (40, 20))
    machines = [load_hardware("successor", {"nm": nm}) for nm in (40, 20)]
    assert one.mm2(machines[0]) == pytest.approx(4 * (four.mm2(machines[1]) or 0))


def test_gate_equivalents_are_weighed_cells() -> None:
    for its in [*COUNTED["units"], *COUNTED["checks"]]:
        sites = sum(COUNTED["sites"][kind] * count for kind, count in its["cells"].items())
        assert its["gate_equivalents"] == round(sites / COUNTED["sites"]["NAND"])


def test_between_counts_areas_are_right_within_three_percent() -> None:
    assert len(COUNTED["checks"]) == 3
    for its in COUNTED["checks"]:
        assert gates(its["unit"], **its["parameters"]) == pytest.approx(its["gate_equivalents"], rel=0.03)


@pytest.mark.parametrize("unit", ["freeze", "kept"])
def test_yosys_still_counts_the_same(unit: str) -> None:
    if shutil.which("yosys") is None:
        pytest.skip("yosys is not installed (Debian: apt-get install yosys)")
    version = subprocess.run(["yosys", "-V"], capture_output=True, text=True, check=True).stdout
    if not version.startswith(COUNTED["tool"] + " "):
        pytest.skip(f"counted with {COUNTED['tool']}; another Yosys counts other gates: {version.strip()}")
    spec = importlib.util.spec_from_file_location("area", RTL / "area.py")
    assert spec is not None
    assert spec.loader is not None
    counter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(counter)
    wanted = next(its for its in COUNTED["units"] if its["unit"] == unit)
    assert counter.count(unit, wanted["parameters"]) == wanted


def test_slt_sim_tells_areas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.csv"
    file.write_text("Layer,M,N,K,\nfc,16,16,16,\n")
    machine = load_hardware("successor")
    answer = answer_of(capsys, file, "--hw", "successor")
    assert answer["area"] == area(machine)
    html = report(answer)
    assert "<h2>Area</h2>" in html
    assert "Nangate" in html
    with pytest.raises(SystemExit):
        sim.main([str(file), "--hw", "successor", "--csv"])
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert int(rows[-1]["gates_generator"]) == gates("threefry", PER_CYCLE=20)
    assert float(rows[-1]["mm2_weights"]) == pytest.approx(answer["area"]["parts"]["weights"]["mm2"])
    assert rows[-1]["gates_multipliers"] == rows[0]["gates_generator"] == ""
    with pytest.raises(SystemExit):
        sim.main([str(file), "--hw", "successor"])
    text = capsys.readouterr().out
    assert "gate equivalents" in text
    assert "unknown" in text
