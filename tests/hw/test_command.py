"""slt-sim: its answers, its refusals, its files."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slt_infer.format import save
from slt_infer.hw import SCHEMES, Result, closed_form, compare, load_hardware, simulate, workload_of
from slt_infer.hw.explain import explain
from slt_infer.hw.sweep import sweep
from slt_infer.hw.trace import requests
from slt_infer.tools import sim

from .workloads import ticket, workload


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        sim.main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def answer_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sim") / "net.slt"
    save(ticket("resnet18-cifar@0.25"), path)
    return path


def test_compare_has_the_keys_that_scripts_rely_on(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = answer_of(capsys, file, "--hw", "successor", "--compare")
    assert answer["hardware"]["name"] == "successor"
    assert answer["hardware"]["description"]["dram"]["bytes_per_cycle"] == 16
    assert {"pj", "source"} == set(answer["hardware"]["energies"]["dram_bit"])
    assert list(answer["schemes"]) == list(SCHEMES)
    assert set(answer["schemes"]["frozen-prior"]) == {"reason"}
    made = workload("resnet18-cifar@0.25")
    expected = simulate(made, load_hardware("successor"), "frozen")
    whole = answer["schemes"]["frozen"]
    assert {"cycles", "stall_cycles", "dram_bytes", "energy_pj", "seconds"} <= set(whole)
    assert whole["cycles"] == expected.cycles.total
    assert whole["dram_bytes"] == expected.dram_bytes
    assert [layer["name"] for layer in answer["layers"]] == [work.name for work in made.layers]
    for layer in answer["layers"]:
        assert {"cycles", "stall_cycles", "dram_bytes", "energy_pj", "seconds"} <= set(
            layer["schemes"]["int8"]
        )
        assert "frozen-prior" not in layer["schemes"]


def test_csv_sums(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file, "--hw", "edge-256", "--csv") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert rows[-1]["layer"] == "total"
    for key in ("cycles", "bytes_mask", "stall_fill", "macs"):
        assert sum(int(row[key]) for row in rows[:-1]) == int(rows[-1][key])


def test_a_person_reads_a_table(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file, "--hw", "hiddenite-like", "--compare") == 0
    text = capsys.readouterr().out
    assert "regenerates no freeze pattern" in text
    assert "TOPS/W" in text
    assert run(file, "--hw", "successor", "--set", "dram.bytes_per_cycle=4", "--model", "closed") == 0
    assert "stage4.block2.conv2" in capsys.readouterr().out


def test_presets(capsys: pytest.CaptureFixture[str]) -> None:
    names = [preset["name"] for preset in answer_of(capsys, "--presets")["presets"]]
    assert {"hiddenite-like", "successor", "edge-256"} <= set(names)


def test_a_machine_of_your_own_starts_from_a_preset(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--hw", "edge-256", "--toml") == 0
    mine = tmp_path / "mine.toml"
    mine.write_text(capsys.readouterr().out.replace('name = "edge-256"', 'name = "mine"'))
    theirs, ours = (answer_of(capsys, file, "--hw", machine) for machine in ("edge-256", mine))
    assert ours["hardware"]["name"] == "mine"
    assert ours["schemes"] == theirs["schemes"]


@pytest.mark.parametrize("command", [[], ["sweep"], ["explain"], ["trace"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*command, "--help") == 0
    assert "Example:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--hw", "no-such"], "no-hardware"),
        (["--hw", "successor", "--set", "dram.speed=3"], "bad-hardware"),
        (["--hw", "successor", "--set", "hz=fast"], "bad-hardware"),
        (["--hw", "hiddenite-like", "--scheme", "frozen"], "unsupported"),
        (
            ["--hw", "edge-256", "--set", "activations.bytes=1024", "--set", "activations.reserve=0"],
            "too-small",
        ),
    ],
)
def test_refusals(file: Path, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file, *arguments, "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == code
    assert error["where"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x.slt", "--set", "hz"],
        ["x.slt", "--compare", "--scheme", "int8"],
        ["sweep", "x.slt"],
        ["sweep", "x.slt", "--over", "volt=1", "--over", "volt=2"],
    ],
)
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2


def test_a_topology_has_dense_baselines_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gemm.csv"
    path.write_text("Layer,M,N,K,\nGEMM,256,128,256,\n")
    answer = answer_of(capsys, path, "--hw", "systolic-ws", "--compare")
    assert [name for name, result in answer["schemes"].items() if "reason" not in result] == [
        "fp32",
        "int8",
        "binary",
    ]
    assert answer["schemes"]["int8"]["compute_cycles"] == 11_199


@pytest.mark.parametrize(
    "command", [["--html"], ["trace", "-o"], ["sweep", "--over", "volt=0.6,0.9", "--html"]]
)
def test_a_file_is_not_written_over_itself(
    file: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = file.read_bytes()
    words, flag = command[:-1], command[-1]
    assert run(*words[:1], file, *words[1:], flag, file) == 2
    assert "is the file that is read" in " ".join(capsys.readouterr().err.split())
    assert file.read_bytes() == before


def test_a_layer_of_too_many_tiles_is_for_the_closed_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large.csv"
    path.write_text(f"Layer,M,N,K,\nlarge,{2**20},{2**18},{2**20},\n")
    assert run(path, "--hw", "tpu-like", "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["where"]) == ("limit", "layer large")
    assert "--model closed" in error["message"]
    assert answer_of(capsys, path, "--hw", "tpu-like", "--model", "closed")["macs"] == 2**58


def test_html_is_one_file_that_needs_nothing(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.html"
    assert run(file, "--hw", "successor", "--compare", "--html", path) == 0
    text = path.read_text("utf-8")
    assert not re.search(r"https?://|<script|src=|@import|url\(", text)
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)  # well formed
    assert text.count("<svg") == 7
    assert "no mask is coded by its initial scores" in text
    assert "Horowitz, ISSCC 2014: int16 add" in text
    assert "stage4.block2.conv2" in text
    for number in re.findall(r'(?:width|x|y|cx|cy)="(-?[\d.]+)"', text):
        assert -1 <= float(number) <= 1000


def test_strings_of_a_file_are_not_markup(tmp_path: Path) -> None:
    path = tmp_path / "net.csv"
    path.write_text("Layer,M,N,K,\n<script>alert(1)</script>,8,8,8,\n")
    assert run(path, "--hw", "systolic-ws", "--html", tmp_path / "r.html") == 0
    assert "<script" not in (tmp_path / "r.html").read_text("utf-8")


def test_sweep_is_the_closed_form_at_every_point(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = answer_of(
        capsys, "sweep", file, "--hw", "successor", "--over", "dram.bytes_per_cycle=2,16",
        "--over", "activations.bytes=262144,1048576,1", "--jobs", "2",
    )  # fmt: skip
    assert len(answer["points"]) == 6
    made = workload("resnet18-cifar@0.25")
    for point in answer["points"]:
        if point["parameters"]["activations.bytes"] == 1:
            continue
        machine = load_hardware("successor", point["parameters"])
        assert point["cycles"] == closed_form(made, machine, "frozen").cycles.total


def test_a_sweep_on_ray_finds_the_same() -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'slt-infer[ray]'")
    made, axes = workload("resnet18-cifar@0.25"), {"dram.bytes_per_cycle": [2, 16], "volt": [0.6, 0.9]}
    assert sweep(made, "successor", axes, ray="local") == sweep(made, "successor", axes, jobs=2)


@pytest.mark.parametrize("address", ["nowhere", "auto"])
def test_a_ray_that_is_not_there_is_refused(
    file: Path, address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert run("sweep", file, "--over", "volt=0.6,0.9", "--ray", address, "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "no-ray"
    assert "slt-infer[ray]" in error["message"] or "ray start" in error["message"]


def test_sweep_draws_its_points(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sweep.html"
    over = ["--over", "dram.bytes_per_cycle=2,16", "--over", "volt=0.6,0.9", "--jobs", "1"]
    assert answer_of(capsys, "sweep", file, *over, "--html", path)["report"] == str(path)
    (svg,) = re.findall(r"<svg.*?</svg>", path.read_text("utf-8"), re.DOTALL)
    assert len(ElementTree.fromstring(svg).findall("circle")) == 4


def test_sweep_refuses_what_no_point_can_be(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sweep", file, "--hw", "successor", "--over", "dram.speed=2", "--json") == 1
    assert "speed" in capsys.readouterr().out


def test_the_pareto_front_has_no_point_that_another_beats() -> None:
    axes = {"dram.bytes_per_cycle": [2, 8, 32], "volt": [0.6, 0.9], "array.height": [4, 8]}
    points = sweep(workload("resnet18-cifar@0.25"), "successor", axes, "frozen")
    front = [point for point in points if point["pareto"]]
    assert front
    for point in front:
        assert not any(
            other["cycles"] <= point["cycles"]
            and other["energy_pj"] <= point["energy_pj"]
            and (other["cycles"], other["energy_pj"]) != (point["cycles"], point["energy_pj"])
            for other in points
        )


def test_explain_names_the_bound_and_what_would_help(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = ("--set", "generator.rounds_per_cycle=0.5")
    answer = answer_of(capsys, "explain", file, "stage4.block2.conv2", "--hw", "successor", *slow)
    assert answer["bound"] == "generator"
    assert "generator.rounds_per_cycle" in answer["text"][-1]
    assert run("explain", file, "no-such", "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "no-layer"


def test_explain_of_pattern_and_mask_in_step(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is said to help does."""
    layer, machine = "stage4.block1.conv2", ["--hw", "rtl"]
    found = answer_of(capsys, "explain", file, layer, *machine)
    assert found["bound"] == "decoder"
    assert "generator.rounds_per_cycle" in found["text"][-1] + found["text"][-2]
    faster = answer_of(capsys, "explain", file, layer, *machine, "--set", "generator.rounds_per_cycle=20")
    assert faster["cycles"] < 0.8 * found["cycles"]


@pytest.mark.parametrize("preset", ["edge-256", "hiddenite-like", "systolic-os"])
def test_every_layer_can_be_explained(preset: str) -> None:
    made = workload("resnet18-cifar@0.25")
    for result in compare(made, load_hardware(preset)).values():
        if isinstance(result, Result):
            for layer in result.layers:
                assert len(explain(result, layer.name)["text"]) >= 5


@pytest.mark.parametrize("preset", ["edge-256", "successor", "eyeriss-like"])
def test_a_trace_has_every_byte(preset: str) -> None:
    machine = load_hardware(preset)
    result, trace = requests(workload("resnet18-cifar@0.25"), machine, "int8")
    moved, burst = result.dram_bytes, machine.dram.burst_bytes
    written = burst * sum(request.write for request in trace)
    read = burst * sum(not request.write for request in trace)
    bursts_of_layers = 3 * burst * len(result.layers)  # each stream of a layer ends in a burst of its own
    assert written == pytest.approx(moved["activations_out"], abs=bursts_of_layers)
    assert read == pytest.approx(sum(moved.values()) - moved["activations_out"], abs=bursts_of_layers)
    assert all(request.address % burst == 0 for request in trace)


def test_trace_files(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "trace"
    patterns = {"ramulator": r"(LD|ST) 0x[0-9a-f]+", "dramsim3": r"0x[0-9a-f]+ (READ|WRITE) \d+"}
    for form, pattern in patterns.items():
        answer = answer_of(capsys, "trace", file, "--form", form, "-o", out)
        lines = out.read_text().splitlines()
        assert len(lines) == answer["lines"]
        assert all(re.fullmatch(pattern, line) for line in lines)
    cycles = [int(line.split()[2]) for line in lines]
    assert cycles == sorted(cycles)


def test_layers_of_a_trace_are_read_back(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.csv"
    answer_of(capsys, "trace", file, "--form", "layers", "-o", out)
    answer = answer_of(capsys, out, "--hw", "systolic-ws")
    made = workload("resnet18-cifar@0.25")
    assert (answer["macs"], answer["weights"]) == (made.macs, made.weights)


def test_what_a_ticket_cannot_be_is_a_reason() -> None:
    machine = load_hardware("successor")
    dense = compare(workload_of(ticket("conv2", 0.5, 0.0, 0.0)), machine)
    assert "no frozen weights" in str(dense["frozen"])
    assert isinstance(dense["coded-mask"], Result)
    made = workload("conv2")
    first = replace(made.layers[0], mask=replace(made.layers[0].mask, coats=2))
    coated = compare(replace(made, layers=(first, *made.layers[1:])), machine)
    assert "several coats" in str(coated["ternary"])
    assert "several coats" in str(coated["frozen"])
    assert isinstance(coated["bitmap"], Result)
    first = replace(made.layers[0], mask=replace(made.layers[0].mask, flips=True))
    flipped = compare(replace(made, layers=(first, *made.layers[1:])), machine)
    assert "flips" in str(flipped["frozen"])
    assert isinstance(flipped["ternary"], Result)
