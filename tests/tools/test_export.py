"""slt-export from its command line: synthetic tickets and searched ones."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from slt_infer import load, reference
from slt_infer.report import ticket_report
from slt_infer.ticket import Preprocessing, unpack_bits
from slt_infer.tools import tables
from slt_infer.tools.export import main as export
from slt_infer.tools.inspect import main as inspect
from slt_infer.tools.inspect import show as inspect_show
from slt_infer.tools.run import main as slt_run

from .conftest import SIZES, SYNTHETIC


def test_export_answers_what_scripts_rely_on(packed):
    path, answer = packed
    assert answer.keys() >= SIZES | {"file"}
    assert answer["file_bytes"] == path.stat().st_size == sum(answer["parts"].values())
    assert answer["parts"].keys() >= {"header", "index", "mask", "flips", "affine"}
    weights = load(path).weights
    assert (answer["weights"], answer["fp32_bytes"], answer["int8_bytes"]) == (weights, 4 * weights, weights)
    assert answer["paper_bytes"] == answer["free_weights"] / 8


def test_a_synthetic_ticket_keeps_what_was_asked_for(packed):
    ticket = load(packed[0])
    assert ticket.kept == ticket.weights - int(0.7 * ticket.weights)
    assert dict(ticket.provenance)["sparsity"] == "0.7"
    shares = {
        round((layer.kept - layer.locked) / layer.free, 2) for layer in ticket.layers if layer.free > 999
    }
    assert len(shares) == 1
    for layer in ticket.layers:
        mask = reference.synthetic_mask(ticket.source, layer.id, layer.free, layer.kept - layer.locked)
        assert np.array_equal(
            np.packbits(mask, bitorder="little"), layer.mask.view(np.uint8)[: -(-layer.free // 8)]
        )


def test_no_output_of_a_synthetic_ticket_is_constant(packed):
    from slt_infer import Plan

    images = np.random.Generator(np.random.PCG64(1)).standard_normal((8, 3, 32, 32), dtype=np.float32)
    assert (Plan(load(packed[0]))(images).std(axis=0) > 0).all()


def test_numbers_are_never_cut(packed):
    """Not in a narrow terminal, whose names are shortened instead."""
    shown = io.StringIO()
    answer = {"file": "net.slt", "format": 1, "preprocessing": msgspec.to_builtins(Preprocessing())}
    report = ticket_report(load(packed[0]))
    report["layers"] = [{**layer, "name": 9 * "long"} for layer in report["layers"]]
    Console(file=shown, width=70).print(inspect_show({**answer, **report}))
    rows = [line.split() for line in shown.getvalue().splitlines() if line.startswith("longlo")]
    assert [row[0][-1] for row in rows] == len(rows) * ["…"]
    free = [tables.short(layer["free"]) for layer in report["layers"]]
    assert [row[3] for row in rows] == free


def test_frozen_is_placed_around_the_sparsity(call, tmp_path):
    path = tmp_path / "net.slt"
    arguments = ["--synthetic", "conv2@0.25", "--sparsity", "0.6", "--frozen", "0.5", "-o", path, "--json"]
    code, out, _ = call(export, *arguments)
    asked = json.loads(out)["provenance"]
    assert code == 0
    assert (float(asked["prune"]), float(asked["lock"])) == (pytest.approx(0.35), pytest.approx(0.15))


def test_a_folder_that_holds_one_run_stands_for_it(call, run, tmp_path):
    code, out, _ = call(export, tmp_path / "runs", "-o", tmp_path / "found.slt", "--json")
    assert code == 0
    code, out, _ = call(inspect, tmp_path / "found.slt")
    assert code == 0
    for text in ("searched: method edge-popup, data digits", "class names: 0, 1, 2", "resize exact"):
        assert text in out


def test_a_packed_ticket_is_no_run(call, packed, tmp_path):
    for name, told in (("net.slt", "calibrated"), ("net.bin", "not a run folder")):
        path = packed[0].rename(tmp_path / name) if name == "net.bin" else packed[0]
        code, out, _ = call(export, path, "-o", tmp_path / "other.slt", "--json")
        error = json.loads(out)["error"]
        assert (code, error["code"], error["where"]) == (1, "no-result", str(path))
        assert told in error["message"]
        assert "run folder" in error["message"]


def test_a_damaged_run_is_refused_with_a_remedy(call, run, tmp_path):
    for name in ("result.npz", "result.json"):
        path = Path(run) / name
        path.write_bytes(path.read_bytes()[:-40])
        code, out, _ = call(export, run, "-o", tmp_path / "found.slt", "--json")
        error = json.loads(out)["error"]
        assert (code, error["code"], error["where"]) == (1, "bad-result", str(path))
        assert "search again" in error["message"]


def test_a_missing_folder_is_named(call):
    _, out, _ = call(export, "--synthetic", "conv2@0.1", "-o", "/nowhere/x.slt", "--json")
    assert json.loads(out)["error"]["where"] == "/nowhere"


def test_a_search_is_packed_as_it_was_found(call, run, tmp_path):
    path = tmp_path / "found.slt"
    code, out, _ = call(export, run, "-o", path, "--affine-bits", "32", "--json")
    answer, ticket = json.loads(out), load(path)
    assert code == 0
    assert answer["provenance"]["method"] == "edge-popup"
    with np.load(f"{run}/result.npz") as found:
        for i, layer in enumerate(ticket.layers):
            assert np.array_equal(unpack_bits(layer.mask, layer.free), found[f"mask_{i}"])
            assert (layer.affine is None) == (f"affine_{i}" not in found.files)
            assert layer.affine is None or np.array_equal(layer.affine, found[f"affine_{i}"])


def test_export_tells_why_each_mode_was_taken(call, run, tmp_path):
    """A short search remembers its initial scores."""
    path, sizes = tmp_path / "found.slt", {}
    for planes in (0, 2, 8):
        code, out, _ = call(export, run, "-o", path, "--planes", planes, "--json")
        assert code == 0
        sizes[planes] = json.loads(out)["file_bytes"]
        for layer in json.loads(out)["layers"]:
            assert layer["score_planes"] <= planes + (planes > 0)
            assert min(layer["candidates"].values()) == layer["candidates"][layer["mode"]]
            assert str(layer["candidates"][layer["mode"]]) in layer["why"]
            assert planes > 0 or layer["mode"] != "prior"
    assert sizes[0] > sizes[2] >= sizes[8]
    code, out, _ = call(inspect, path, "--json")
    first = json.loads(out)["layers"][0]
    assert (first["mode"], first["intervals"] > 1) == ("prior", True)
    assert not {"candidates", "why"} & first.keys()  # the file does not tell
    assert call(export, run, "-o", path, "--planes", 9)[0] == 2


def test_the_packed_file_predicts_what_the_trainer_did(call, run, tmp_path):
    path = tmp_path / "found.slt"
    call(export, run, "-o", path)
    code, out, _ = call(slt_run, path, "--data", "digits", "--against", run, "--json")
    compared, images = json.loads(out)["against"], json.loads(out)["images"]
    assert code == 0
    assert set(compared["different"]) <= set(compared["near_ties"])
    assert compared["same"] == images - len(compared["different"])
    with np.load(f"{run}/predictions.npz") as kept:
        arrays = dict(kept)
    arrays["predictions"][3] = (arrays["predictions"][3] + 1) % 10
    arrays["top2"][5] = arrays["top2"][5, 0]
    np.savez(tmp_path / "predictions.npz", **arrays)
    code, out, _ = call(slt_run, path, "--data", "digits", "--against", tmp_path, "--limit", "50", "--json")
    compared = json.loads(out)["against"]
    assert (compared["different"], compared["near_ties"], compared["same"]) == ([3], [5], 49)
    for limit in ([], ["--limit", "50"]):  # the first 50 of another split are others, too
        assert call(slt_run, path, "--data", "digits", "--split", "train", "--against", run, *limit)[0] == 1


def widths(answer: dict) -> list[int]:
    return [layer["affine_bits"] for layer in answer["layers"]]


def test_affines_are_as_narrow_as_predictions_allow(call, run, tmp_path):
    path, answers = tmp_path / "found.slt", {}
    for bits in ("8", "16", "32", "auto"):
        code, out, _ = call(export, run, "-o", path, "--affine-bits", bits, "--json")
        assert code == 0
        answers[bits] = json.loads(out)
        asked = 0 if bits == "auto" else int(bits)
        assert bits == "auto" or widths(answers[bits]) == [asked, 0]
        assert answers[bits]["affine"]["asked"] == bits
    sizes = [answers[bits]["parts"]["affine"] for bits in ("8", "16", "32")]
    assert sizes == [2 * (8 + 90) + 4, 2 * (8 + 180) + 4, 8 * 90 + 4]
    assert answers["auto"]["affine"] == {"asked": "auto", "images": 355, "different": 0}
    assert answers["auto"]["parts"]["affine"] <= sizes[1]
    code, out, _ = call(slt_run, path, "--data", "digits", "--against", run, "--json")
    assert json.loads(out)["against"]["same"] == 355
    code, out, _ = call(inspect, path, "--json")
    assert widths(json.loads(out)) == widths(answers["auto"])
    code, out, _ = call(export, run, "-o", path, "--limit", "3")
    assert "3 test images compared, 0 predictions differ" in out
    assert "scales and shifts of 8 bits in 1 of 2 layers" in out


def test_affines_stay_where_predictions_cannot_be_compared(call, run, tmp_path):
    path, kept = tmp_path / "found.slt", Path(run) / "predictions.npz"

    def why() -> str:
        code, out, _ = call(export, run, "-o", path, "--json")
        answer = json.loads(out)
        assert (code, widths(answer)) == (0, [32, 0])
        return answer["affine"]["why"]

    with np.load(kept) as archive:
        arrays = dict(archive)
    arrays["labels"] = arrays["labels"][::-1]
    np.savez(kept, **arrays)
    assert "digits is not what the run was tested on" in why()
    kept.unlink()
    assert str(kept) in why()
    summary = Path(run) / "result.json"
    summary.write_text(summary.read_text().replace('"data": "digits"', '"data": "nowhere"'))
    assert "predictions cannot be compared" in why()


def test_a_synthetic_ticket_has_the_affines_that_were_asked_for(call, tmp_path):
    arguments = ["--synthetic", "resnet18-cifar@0.1", "-o", tmp_path / "net.slt", "--json"]
    for flags, bits in (([], 32), (["--affine-bits", "auto"], 32), (["--affine-bits", "16"], 16)):
        code, out, _ = call(export, *arguments, *flags)
        assert code == 0
        assert set(widths(json.loads(out))) == {0, bits}


def test_a_synthetic_ticket_has_the_freeze_law_that_was_asked_for(call, tmp_path):
    arguments = ["--synthetic", "mlp-64-90-10", "--prune", "0.3", "--lock", "0.2", "-o", tmp_path / "net.slt"]
    for law in ("bernoulli", "mixed"):
        code, out, _ = call(export, *arguments, "--freeze-law", law, "--json")
        assert (code, json.loads(out)["source"]["freeze"], load(tmp_path / "net.slt").source.freeze) == (
            0,
            law,
            law,
        )
        assert f"freeze law {law}" in call(inspect, tmp_path / "net.slt")[1]


def test_a_profile_copies_the_layers_shares(call, run, tmp_path):
    found, copied = tmp_path / "found.slt", tmp_path / "copied.slt"
    call(export, run, "-o", found)
    arguments = ["--synthetic", "mlp-64-90-10", "--prune", "0.2", "--lock", "0.1", "--seed", "9"]
    assert call(export, *arguments, "--profile", run, "-o", copied)[0] == 0
    for a, b in zip(load(found).layers, load(copied).layers, strict=True):
        assert (a.kept - a.locked) / a.free == pytest.approx((b.kept - b.locked) / b.free, abs=1 / b.free)
    code, out, _ = call(export, *SYNTHETIC, "--profile", run, "-o", copied, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, "bad-profile")


REFUSED = [
    (["--synthetic", "conv3", "-o", "x.slt"], 1, "bad-network"),
    (["--synthetic", "conv2", "--sparsity", "0.2", "--prune", "0.3", "-o", "x.slt"], 1, "bad-ratio"),
    (["--synthetic", "conv2", "--generator", "mt19937", "-o", "x.slt"], 1, "bad-value"),
    (["/nowhere", "-o", "x.slt"], 1, "no-result"),
    (["--synthetic", "conv2@0.1", "-o", "/nowhere/x.slt"], 1, "file"),
]


@pytest.mark.parametrize(("arguments", "code", "error"), REFUSED)
def test_export_refuses(call, arguments, code, error):
    got, out, _ = call(export, *arguments, "--json")
    assert (got, json.loads(out)["error"]["code"]) == (code, error)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-o", "x.slt"],
        ["--synthetic", "conv2"],
        ["--sparsity", "2"],
        ["--synthetic", "conv2", "--rule", "pyramidal", "-o", "x.slt"],
        ["--synthetic", "conv2", "--freeze-law", "feistel", "-o", "x.slt"],
        ["--synthetic", "conv2", "--frozen", "0.5", "--lock", "0.5", "-o", "x.slt"],
        ["--synthetic", "conv2", "--limit", "5", "-o", "x.slt"],
        ["--synthetic", "conv2", "--affine-bits", "12", "-o", "x.slt"],
        [".", "--sparsity", "0.5", "-o", "x.slt"],
    ],
)
def test_export_tells_bad_usage(call, arguments):
    code, out, err = call(export, *arguments)
    assert (code, out) == (2, "")
    assert "Usage" in err
