"""Machines: the presets, and what is refused of a description, by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import msgspec
import pytest

from slt_infer.hw import HardwareError, load_hardware, preset_names

PRESETS = {"hiddenite-like": 4096, "successor": 4096, "edge-256": 256, "eyeriss-like": 168, "tpu-like": 1024}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_whole_and_every_energy_has_a_source(name: str) -> None:
    machine = load_hardware(name)
    assert machine.name == name
    for action in msgspec.structs.asdict(machine.energy).values():
        assert not hasattr(action, "source") or len(action.source) > 10


def test_elements() -> None:
    assert {name: load_hardware(name).array.elements for name in PRESETS} == PRESETS


def test_dotted_keys_change_a_machine() -> None:
    assert load_hardware("edge-256", {"dram.bytes_per_cycle": 8}).dram.bytes_per_cycle == 8
    with pytest.raises(HardwareError, match="is a value"):
        load_hardware("edge-256", {"hz.x": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dram.bytes_per_cycle": 0}, "bytes_per_cycle"),
        ({"dram.speed": 3}, "speed"),
        ({"array.kind": "ring"}, "kind"),
        ({"activations.reserve": 10**9}, "activations.reserve"),
        ({"generator.kind": "none"}, "generator.kind"),
        ({"energy.rans_bit": None}, "rans_bit"),
        ({"energy.add": {"pj": 1.0}}, "source"),
        ({"hz": float("inf")}, "hz"),
        ({"array.kind": "systolic", "array.zero_skipping": True}, "zero_skipping"),
    ],
)
def test_a_wrong_description_is_refused_by_the_key(changes: dict, message: str) -> None:
    with pytest.raises(HardwareError, match=message) as caught:
        load_hardware("successor", changes)
    assert caught.value.code == "bad-hardware"


def test_a_file_is_read_as_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((resources.files("slt_infer.hw") / "presets" / "edge-256.toml").read_text("utf-8"))
    assert load_hardware(path) == load_hardware("edge-256")


def test_no_such_machine_names_the_presets() -> None:
    with pytest.raises(HardwareError, match="hiddenite-like") as caught:
        load_hardware("no-such")
    assert caught.value.code == "no-hardware"


def test_not_toml(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("a = = 3")
    with pytest.raises(HardwareError, match="TOML"):
        load_hardware(tmp_path / "x.toml")


def test_energy_scales_with_node_and_supply() -> None:
    machine = load_hardware("hiddenite-like", {"nm": 20, "volt": 0.45})
    base = load_hardware("hiddenite-like")
    assert machine.prices["add"] == pytest.approx(base.prices["add"] / 8)
    assert machine.prices["dram_bit"] == 8.0
