"""slt-inspect from its command line, and what it prints of files that mean harm."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from slt_infer import load, models, reference, save
from slt_infer.codec import coded_layer
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import Preprocessing, Source, Ticket, unpack_bits
from slt_infer.tools import tables
from slt_infer.tools.inspect import main as inspect
from slt_infer.tools.run import main as slt_run

from .conftest import SIZES

VECTORS = Path(__file__).parents[1] / "vectors" / "version-1"


LAYER = {
    "name",
    "shape",
    "weights",
    "pruned",
    "locked",
    "free",
    "kept",
    "macs",
    "mac_density",
    "mode",
    "mask_bits",
}


def test_inspect_answers_what_scripts_rely_on(call, packed):
    path, exported = packed
    code, out, _ = call(inspect, path, "--json")
    answer = json.loads(out)
    assert code == 0
    assert {key: answer[key] for key in SIZES} == {key: exported[key] for key in SIZES}
    assert answer["layers"]
    assert all(layer.keys() >= LAYER for layer in answer["layers"])
    assert answer["density"] == pytest.approx(1 - answer["sparsity"])
    assert answer["source"] == {"generator": "philox4x32", "rounds": 10, "seed": 5, "freeze": "bernoulli"}
    assert answer["format"] == 1
    assert answer["preprocessing"] == {"mean": [], "std": [], "resize": "exact", "classes": []}
    assert answer["provenance"]["method"] == "synthetic"


def test_inspect_prints_a_page_for_a_person(call, packed):
    code, out, _ = call(inspect, packed[0])
    assert code == 0
    for text in (
        "asked for 0.7",
        "all checksums right",
        "1 bit per free weight",
        "whole file",
        "dense int8",
        "SYNTHETIC",
    ):
        assert text in " ".join(out.split())


@pytest.mark.parametrize(
    ("name", "quantisation", "line"),
    [
        ("modes-philox-10", None, "runs in f32; no scales for int8"),
        ("int8-philox-10", {"type": "int8", "pow2": False, "scales": 12}, "f32 and int8 (12 scales)"),
        (
            "int8-pow2-threefry-20",
            {"type": "int8", "pow2": True, "scales": 11},
            "f32 and int8 (11 scales, powers of two: with --multiplierless no multiplications)",
        ),
    ],
)
def test_inspect_tells_whether_a_ticket_is_quantised(call, name, quantisation, line):
    path = VECTORS / f"{name}.slt"
    _, out, _ = call(inspect, path, "--json")
    assert json.loads(out)["quantisation"] == quantisation
    _, out, _ = call(inspect, path)
    assert line in " ".join(out.split())


def test_inspect_regenerates_a_layer_as_the_reference_does(call, packed):
    ticket = load(packed[0])
    layer = ticket.layers[0]
    code, out, _ = call(inspect, packed[0], "--weights", layer.shape.name, "--json")
    assert code == 0
    values = np.array(json.loads(out)["values"], dtype=np.float32)
    assert np.array_equal(values, reference.weights(ticket.source, layer))
    _, out, _ = call(inspect, packed[0], "--weights", layer.shape.name)
    signs = ["".join(".+-"[int(np.sign(value))] for value in row) for row in values]
    assert [line.replace(" ", "") for line in out.splitlines()[1:]] == signs


def test_inspect_tells_the_machine(call):
    code, out, _ = call(inspect, "--machine", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["isa"] in answer["isas"]
    assert answer["why"]


def test_inspect_refuses_a_damaged_file(call, packed):
    path, _ = packed
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    code, out, _ = call(inspect, path, "--json")
    error = json.loads(out)["error"]
    assert code == 1
    assert error["code"] in ("bad-checksum", "bad-padding")
    assert str(path) in error["where"]
    assert "at byte" in error["where"]
    code, out, err = call(inspect, path)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")


@pytest.fixture
def two_tasks(tmp_path):
    """A file of two tasks that the fast paths can run, and its ticket."""
    network, source = models.network("mlp-64-20-10"), Source(seed=3)
    one, other = (synthetic_ticket(network, source, sparsity) for sparsity in (0.5, 0.8))
    ticket = replace(one, others=(other.layers,))
    save(ticket, tmp_path / "two.slt")
    return tmp_path / "two.slt", ticket


def test_one_task_of_several(call, two_tasks):
    path, ticket = two_tasks
    picture = path.parent / "picture.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).save(picture)
    answers = []
    for flags, kept in (([], 0), (["--task", "0"], 0), (["--task", "1"], 1)):
        code, out, _ = call(inspect, path, *flags, "--json")
        answer = json.loads(out)
        assert (code, answer["tasks"], answer["task"]) == (0, 2, kept)
        assert answer["kept"] == ticket.task(kept).kept
        assert answer["file_bytes"] == path.stat().st_size
        code, out, _ = call(slt_run, path, picture, *flags, "--json")
        answers.append(json.loads(out)["results"])
        _, out, _ = call(inspect, path, "--weights", "fc2", *flags, "--json")
        wanted = reference.weights(ticket.source, ticket.task(kept).layers[1])
        assert np.array_equal(np.array(json.loads(out)["values"], np.float32), wanted)
    assert answers[0] == answers[1] != answers[2]
    for command in (inspect, slt_run):
        images = [] if command is inspect else [picture]
        code, out, _ = call(command, path, *images, "--task", "2", "--json")
        assert (code, json.loads(out)["error"]["code"]) == (1, "bad-task")
    assert "task 1 of 2" in call(inspect, path, "--task", "1")[1]


def test_weights_under_coats_are_printed(call, tmp_path):
    network, source = models.network("mlp-20-6"), Source(seed=4)
    (layer,) = synthetic_ticket(network, source, 0.5).layers
    mask = unpack_bits(layer.mask, layer.free)
    coat = mask & (np.arange(layer.free) % 3 == 0)
    coated = coded_layer(source, layer.shape, 0, layer.freeze, layer.mask, coats=[coat])
    ticket = Ticket(network, source, (coated,))
    save(ticket, tmp_path / "coats.slt")
    code, out, _ = call(inspect, tmp_path / "coats.slt", "--weights", layer.shape.name, "--json")
    values = np.array(json.loads(out)["values"], np.float32)
    assert code == 0
    assert np.array_equal(values, reference.weights(source, coated))
    assert len(np.unique(np.abs(values))) == 3


HOSTILE = ["[/foo]", "[red]b", "\x1b]0;pwn\x07\x1b[2J", "\x9b2J\r\n", "\u202egpj"]


SHOWN = ["[/foo]", "[red]b", r"\x1b]0;pwn\x07\x1b[2J", r"\x9b2J\r\n", r"\u202egpj"]


@pytest.fixture(params=range(len(HOSTILE)), ids=("tag", "style", "escape", "c1", "override"))
def hostile(request, tmp_path):
    """A file all of whose names are one string that a terminal or rich would obey, and how it is shown."""
    name = HOSTILE[request.param]
    made = synthetic_ticket(models.network("mlp-64-20-10"), Source(seed=3), 0.5)
    first, *others = (layer.shape for layer in made.layers)
    shapes = (msgspec.structs.replace(first, name=name), *others)
    layers = tuple(replace(layer, shape=shape) for layer, shape in zip(made.layers, shapes, strict=True))
    network = replace(made.network, name=name, layers=shapes)
    rules = Preprocessing(classes=tuple(f"{name}{i}" for i in range(10)))
    provenance = tuple((key, name) for key in ("data", "lock", "method", "prune", "run", "sparsity"))
    save(Ticket(network, made.source, layers, rules, provenance), tmp_path / "hostile.slt")
    return tmp_path / "hostile.slt", name, SHOWN[request.param]


def harmless(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


def test_strings_of_a_file_are_printed_as_they_are(call, hostile):
    path, name, shown = hostile
    code, out, _ = call(inspect, path)
    assert code == 0
    assert harmless(out)
    lines = [line.strip() for line in out.splitlines()]
    for text in (
        f"{path}: {shown}, input",
        f"searched: method {shown}, data {shown}, run {shown}",
        f"class names: {shown}0, {shown}1",
        f"{shown} ",  # the layer's row
    ):
        assert any(line.startswith(text) for line in lines)
    assert out.count(f"(asked for {shown})") == 3
    code, out, _ = call(inspect, path, "--json")
    answer = json.loads(out)
    assert (code, answer["network"], answer["layers"][0]["name"]) == (0, name, name)
    code, out, _ = call(inspect, path, "--weights", name)
    assert (code, harmless(out), out.startswith(f"{shown}: [20, 64]")) == (0, True, True)


def test_strings_of_a_file_are_harmless_in_errors(call, hostile):
    path, _, shown = hostile
    code, out, err = call(inspect, path, "--weights", "none")
    assert (code, out, harmless(err)) == (1, "", True)
    assert f"there are: {shown}, fc2" in err
    data = bytearray(path.read_bytes())
    for at in range(len(data) - 1, 0, -1):  # whichever segment names its layer
        data[at] ^= 1
        path.write_bytes(data)
        code, out, err = call(inspect, path)
        assert (code, out, harmless(err)) == (1, "", True)
        if shown in err:
            break
        data[at] ^= 1
    assert f"layer {shown}" in err


def test_a_terminal_is_never_told_by_a_file():
    """Rich writes escapes of its own there: none but those."""
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, color_system="standard", width=100)
    for name in HOSTILE:
        terminal.print(tables.plain(name))
    assert shown.getvalue() == "".join(f"{name}\n" for name in SHOWN)


@pytest.mark.parametrize("text", ["abc", "", "1_0", "1e999", "nan", "[/b]", "\x1b[2J"])
def test_a_ratio_that_is_no_number_is_shown_as_it_is(call, packed, text):
    ticket = replace(load(packed[0]), provenance=(("sparsity", text),))
    save(ticket, packed[0])
    code, out, _ = call(inspect, packed[0])
    wanted = {"1_0": "10", "1e999": "inf", "\x1b[2J": r"\x1b[2J"}.get(text, text)
    assert code == 0
    assert f"(asked for {wanted})" in out


@pytest.mark.parametrize("command", [inspect, slt_run])
def test_memory_for_reading_has_a_limit(call, packed, command, tmp_path):
    picture = tmp_path / "picture.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(picture)
    flags = [] if command is inspect else [picture, "--resize", "stretch"]
    assert call(command, packed[0], *flags, "--max-memory", "64MiB")[0] == 0
    code, out, _ = call(command, packed[0], *flags, "--max-memory", "1MB", "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"]) == (1, "limit")
    assert "1000000" in error["message"].replace(",", "")
    assert call(command, packed[0], *flags, "--max-memory", "much")[0] == 2


@pytest.mark.parametrize("arguments", [["--weights", "nothing"], []])
def test_inspect_refuses_what_is_not_there(call, packed, tmp_path, arguments):
    path = packed[0] if arguments else tmp_path / "none.slt"
    code, out, _ = call(inspect, path, *arguments, "--json")
    assert code == 1
    assert json.loads(out)["error"]["code"] == ("no-layer" if arguments else "file")
