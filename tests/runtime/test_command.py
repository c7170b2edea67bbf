"""slt-run from its command line, on scikit-learn's digits and on image files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slt_infer import models, reference
from slt_infer.data import load as load_data
from slt_infer.data import preprocess
from slt_infer.format import load, save
from slt_infer.quantise import scale_of
from slt_infer.reference_int8 import run_int8
from slt_infer.ticket import Preprocessing, Ticket
from slt_infer.tools.run import main

from .quantised import quantised
from .tickets import random_ticket

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = models.network("conv2@0.1", (1, 8, 8), 10)
    bare = random_ticket(network)
    rules = Preprocessing((0.3,), (0.35,), "stretch", NAMES)
    path = tmp_path_factory.mktemp("run") / "digits.slt"
    save(Ticket(network, bare.source, bare.layers, rules), path)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments), "--json"])
    assert caught.value.code == code
    out = capsys.readouterr().out
    return json.loads(out) if out else None


def test_data_set(packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    answer = run(capsys, packed, "--data", "digits", "--limit", 50, "--predictions", "--batch", 7)
    ticket, digits = load(packed), load_data("digits").first(50)
    logits = reference.run(ticket, preprocess(digits.pixels, ticket.preprocessing, (1, 8, 8)))
    assert answer["predictions"] == logits.argmax(axis=1).tolist()
    assert digits.labels is not None
    assert answer["accuracy"] == pytest.approx(np.mean(logits.argmax(axis=1) == digits.labels))
    assert (answer["images"], answer["mode"], answer["backend"]) == (50, "resident", "cpu")
    assert answer["ms_per_image"] > 0
    assert 0 < answer["peak_weight_bytes"] < answer["max_rss_bytes"]
    for options in (["--mode", "stream", "--threads", 2], ["--backend", "reference"]):
        other = run(capsys, packed, "--data", "digits", "--limit", 50, "--predictions", *options)
        assert other["predictions"] == answer["predictions"]
    assert other["isa"] == "numpy"


def test_int8(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    bare, path, data = load(packed), tmp_path / "int8.slt", tmp_path / "images-idx3-ubyte"
    data.write_bytes(bytes((0, 0, 8, 3)) + np.array((20, 8, 8), ">u4").tobytes() + pixels.tobytes())
    x = preprocess(pixels, bare.preprocessing, (1, 8, 8))
    ticket = quantised(bare, x)
    save(ticket, path)
    wanted = run_int8(ticket, x)
    assert len(set(wanted.argmax(axis=1))) > 1
    for options, multiplierless in (
        ([], False),
        (["--multiplierless", "--mode", "resident", "--threads", 2], True),
        (["--backend", "reference"], False),
    ):
        answer = run(capsys, path, "--data", data, "--predictions", "--dtype", "int8", *options)
        assert answer["predictions"] == wanted.argmax(axis=1).tolist()
        assert (answer["dtype"], answer["multiplierless"]) == ("int8", multiplierless)
        top = answer["results"][0]["top"][0]
        assert ticket.quantisation is not None
        assert top["logit"] == wanted[0].max() * scale_of(ticket.quantisation.codes[-1])
    exact = reference.run(ticket, x)
    assert top["logit"] == pytest.approx(float(exact[0].max()), abs=0.1 * float(np.abs(exact).max()))
    f32 = run(capsys, path, "--data", data, "--predictions")
    assert f32["predictions"] == exact.argmax(axis=1).tolist()
    assert (f32["dtype"], f32["multiplierless"]) == ("f32", True)


@pytest.mark.parametrize("pow2", [False, True])
def test_multiplierless_tells_what_is_left(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pow2: bool
) -> None:
    path, picture = tmp_path / "int8.slt", tmp_path / "grey.png"
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(picture)
    save(quantised(load(packed), np.ones((1, 1, 8, 8), np.float32), pow2), path)
    texts = []
    for flags in (["--multiplierless"], []):
        with pytest.raises(SystemExit):
            main([str(path), str(picture), "--dtype", "int8", *flags])
        texts.append(capsys.readouterr().out)
    assert ["int8, multiplierless, resident on cpu" in text for text in texts] == [True, False]
    assert ["one multiplication per output" in text for text in texts] == [not pow2, False]
    assert run(capsys, path, picture, "--dtype", "int8")["pow2"] == pow2
    with pytest.raises(SystemExit) as caught:
        main([str(path), str(picture), "--multiplierless"])
    assert caught.value.code == 2
    assert "--dtype int8" in capsys.readouterr().err


def test_int8_wants_scales(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    error = run(capsys, packed, tmp_path / "black.png", "--dtype", "int8", code=1)["error"]
    assert error["code"] == "not-quantised"
    assert error["where"] == str(packed)
    for remedy in ("slt-export RUN -o FILE --int8", "slt_infer.runtime.calibrated"):
        assert remedy in error["message"]
    assert run(capsys, packed, tmp_path / "black.png", "--dtype", "int4", code=2) is None


def test_image_files(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for path, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(path)
    answer = run(capsys, packed, *files, "--topk", 3)
    ticket = load(packed)
    logits = reference.run(ticket, preprocess(pixels[:, None], ticket.preprocessing, (1, 8, 8)))
    assert "accuracy" not in answer
    for i, result in enumerate(answer["results"]):
        order = np.argsort(-logits[i], kind="stable")[:3]
        assert result["file"] == str(files[i])
        assert [top["class"] for top in result["top"]] == [NAMES[j] for j in order]
        assert [top["logit"] for top in result["top"]] == [pytest.approx(float(logits[i][j])) for j in order]


def test_folders_and_unlabelled_data(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (21, 8, 8), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    by_folder = run(capsys, packed, tmp_path, "--topk", 1)["results"]
    assert [result["file"] for result in by_folder] == [str(tmp_path / f"{i:02}.png") for i in range(21)]
    by_data = run(capsys, packed, "--data", tmp_path, "--topk", 1)["results"]
    assert [result["top"] for result in by_data] == [result["top"] for result in by_folder]
    assert by_data[3]["file"] == f"{tmp_path.name}, image 3"
    with pytest.raises(SystemExit):
        main([str(packed), str(tmp_path), "--topk", "1"])
    out = capsys.readouterr().out
    assert out.count(".png") == 20
    assert "the first 20 of 21 images" in out


def test_an_image_of_another_size(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wide.png"
    Image.fromarray(np.zeros((9, 12), np.uint8)).save(path)
    assert run(capsys, packed, path)["images"] == 1  # the ticket stretches
    error = run(capsys, packed, path, "--resize", "exact", code=1)["error"]
    assert error["code"] == "bad-size"
    for text in ("9x12", "8x8", "height x width", "--resize stretch"):
        assert text in error["message"]
    run(capsys, packed, path, "--resize", "fit", code=2)


def test_a_synthetic_ticket_is_called_so(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare, path = load(packed), tmp_path / "synthetic.slt"
    made = (("method", "synthetic"),)
    save(Ticket(bare.network, bare.source, bare.layers, bare.preprocessing, made), path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(SystemExit):
        main([str(path), str(tmp_path / "black.png")])
    out, err = capsys.readouterr()
    assert err.startswith("SYNTHETIC: ")
    assert "1 image," in out
    assert "1 thread\n" in out


def test_refusals(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, packed, code=2) is None
    assert run(capsys, tmp_path / "none.slt", code=1)["error"]["code"] == "file"
    assert run(capsys, packed, tmp_path / "a.png", "--data", "digits", code=2) is None
    assert run(capsys, packed, "--data", "digits", "--mode", "fast", code=2) is None
    damaged = tmp_path / "damaged.slt"
    damaged.write_bytes(packed.read_bytes()[:-1])
    for arguments in (
        [damaged, "--data", "digits"],
        [packed, "--data", "no-such"],
        [packed, tmp_path / "none.png"],
    ):
        error = run(capsys, *arguments, code=1)["error"]
        assert set(error) == {"code", "message", "where"}
        assert error["message"]
    assert "the copy is incomplete" in run(capsys, damaged, "--data", "digits", code=1)["error"]["message"]
    empty = tmp_path / "empty-idx3-ubyte"
    empty.write_bytes(bytes((0, 0, 8, 3)) + 3 * bytes(4))
    assert run(capsys, packed, "--data", empty, code=1)["error"]["code"] == "missing-data"


def test_a_person_reads_a_table(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(SystemExit) as caught:
        main([str(packed), str(tmp_path / "black.png"), "--topk", "2"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "black.png" in out.replace("\n", "")  # a narrow terminal folds it
    assert sum(name in out for name in NAMES) == 2


def test_names_of_a_file_are_printed_as_they_are(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither rich nor a terminal takes a class or a file for what it should do."""
    bare, path, image = load(packed), tmp_path / "hostile.slt", tmp_path / "[bold]\x1b[2J.png"
    names = ("[/a]", "[red]b", "\x1b]0;pwn\x07\x1b[2J", "\x9b2J", "a\nb\r", ":smile:", "\u202ec", *NAMES[7:])
    rules = Preprocessing((0.3,), (0.35,), "stretch", names)
    made = (("method", "\x1b[2J"), ("sparsity", "abc"))
    save(Ticket(replace(bare.network, name="\x1b[2J"), bare.source, bare.layers, rules, made), path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(image)
    with pytest.raises(SystemExit) as caught:
        main([str(path), str(image), "--topk", "10"])
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert all(char.isprintable() or char == "\n" for char in out + err)
    shown = {
        "[/a]",
        "[red]b",
        r"\x1b]0;pwn\x07\x1b[2J",
        r"\x9b2J",
        r"a\nb\r",
        ":smile:",
        r"\u202ec",
        *NAMES[7:],
    }
    assert {line.split()[0] for line in out.splitlines() if line.rstrip().endswith("%")} == shown
    assert r"[bold]\x1b[2J.png" in out.replace("\n", "")
    answer = run(capsys, path, image, "--topk", 10)
    assert {row["class"] for row in answer["results"][0]["top"]} == set(names)
