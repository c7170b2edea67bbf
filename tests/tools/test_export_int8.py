"""slt-export --int8, and what narrow affines and int8 are said to cost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slt_infer import Plan, load
from slt_infer.data import load as load_data
from slt_infer.data import splits
from slt_infer.errors import DataError
from slt_infer.format import dumps
from slt_infer.quantise import code_of
from slt_infer.reference_int8 import run_int8
from slt_infer.runtime.synthetic import noise
from slt_infer.tools import cli, export_int8
from slt_infer.tools.export import main as export
from slt_infer.tools.run import main as slt_run

SYNTHETIC = ["--synthetic", "conv2@0.25", "--input", "1x8x8"]


@pytest.fixture
def exported(call, run, tmp_path):
    """Packs the run with these flags; gives the answer and the file."""

    def pack(*flags: object, name: str = "net.slt") -> tuple[dict[str, Any], Path]:
        code, out, _ = call(export, run, "-o", tmp_path / name, *flags, "--json")
        assert code == 0, out
        return json.loads(out), tmp_path / name

    return pack


def predictions(call, path: Path, *flags: object) -> tuple[np.ndarray, float]:
    """Of the digits' test images, by slt-run, and the accuracy."""
    _, out, _ = call(slt_run, path, "--data", "digits", "--predictions", *flags, "--json")
    answer = json.loads(out)
    return np.array(answer["predictions"]), answer["accuracy"]


def test_scales_come_from_the_training_images(exported):
    answer, path = exported("--int8", "--calibrate-images", 5000, "--calibrate-method", "max")
    rules = load(path).preprocessing
    assert answer["int8"]["calibration"] == {"data": "digits", "images": 1442}
    darkest, brightest = ((v - rules.mean[0]) / rules.std[0] for v in (0, 1))
    assert load(path).quantisation.codes[0] == code_of(max(-darkest, brightest) / 127)


def test_few_images_are_drawn_alike_every_time(exported):
    first, other = (exported("--int8", "--calibrate-images", 5, name=name) for name in ("a", "b"))
    assert first[0]["int8"]["calibration"]["images"] == 5
    assert first[1].read_bytes() == other[1].read_bytes()
    usual = exported("--int8")
    assert usual[0]["int8"]["calibration"]["images"] == 512
    assert load(usual[1]).quantisation != load(first[1]).quantisation


@pytest.mark.parametrize("flags", [[], ["--pow2"], ["--calibrate-method", "max"]])
def test_the_loss_is_what_the_file_gives(call, exported, flags):
    answer, path = exported("--int8", *flags)
    plain, rounded = (predictions(call, path, "--dtype", dtype) for dtype in ("f32", "int8"))
    found = answer["int8"]
    assert (found["f32_accuracy"], found["int8_accuracy"]) == (plain[1], rounded[1])
    assert (found["images"], found["different"]) == (355, (plain[0] != rounded[0]).sum())
    assert found["pow2"] == load(path).quantisation.pow2 == ("--pow2" in flags)
    limited = exported("--int8", *flags, "--limit", 50)[0]["int8"]
    assert (limited["images"], limited["different"]) == (50, (plain[0] != rounded[0])[:50].sum())


def test_affines_are_narrowed_first(exported):
    """As they would be without int8, and the scales are those of the narrow ones."""
    for bits in ("auto", "8"):
        plain, with_scales = (exported("--affine-bits", bits, *flags) for flags in ([], ["--int8"]))
        assert plain[0]["affine"] == with_scales[0]["affine"]
        ticket = load(with_scales[1])
        exported("--affine-bits", bits, name="plain")
        assert dumps(replace(ticket, quantisation=None)) == (with_scales[1].parent / "plain").read_bytes()


def test_a_person_reads_how_and_what_it_costs(call, run, tmp_path):
    arguments = [run, "-o", tmp_path / "net.slt", "--int8", "--limit", "100"]
    out = call(export, *arguments)[1]
    assert "int8: calibrated on 512 images of digits, percentile 99.99\n" in out
    assert "% of 100 test images right" in out
    out = call(export, *arguments, "--calibrate-method", "max", "--pow2")[1]
    assert "512 images of digits, largest magnitudes, scales and multipliers powers of two\n" in out


def shades(folder: Path, *values: int) -> Path:
    """Images of one grey value each."""
    folder.mkdir(parents=True)
    for value in values:
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(folder / f"{value}.png")
    return folder


def test_images_of_a_split_or_of_a_whole_folder(exported, tmp_path):
    """Scales never see a test split; images that are no split all count."""
    sets = tmp_path / "sets"
    shades(sets / "train" / "one", 0, 200)
    shades(sets / "test" / "one", 255)
    whole = shades(tmp_path / "whole", 0, 220)
    for data, brightest, given in ((sets, 200, ("train", "test")), (whole, 220, ("test",))):
        assert splits(data) == given
        answer, path = exported("--int8", "--calibrate", data, "--calibrate-method", "max")
        assert answer["int8"]["calibration"] == {"data": str(data), "images": 2}
        rules = load(path).preprocessing
        assert load(path).quantisation.codes[0] == code_of(
            (brightest / 255 - rules.mean[0]) / rules.std[0] / 127
        )
    single = whole / "220.png"
    assert exported("--int8", "--calibrate", single)[0]["int8"]["calibration"]["images"] == 1


def test_what_cannot_be_had_is_told(call, run, exported, tmp_path):
    """Without test predictions the file is written, without calibration images it is not."""
    (Path(run) / "predictions.npz").unlink()
    for flags in ([], ["--affine-bits", "8"]):
        answer, path = exported("--int8", *flags)
        assert load(path).quantisation
        assert "predictions cannot be compared" in answer["int8"]["why"]
        assert "predictions.npz" in answer["affine"]["why"]
        assert not {"different", "f32_accuracy"} & answer["int8"].keys()
    assert "int8: predictions cannot be compared" in call(export, run, "-o", path, "--int8")[1]
    path.unlink()
    small = shades(tmp_path / "small", 3)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(small / "0.png")
    for data, wanted, remedy in (
        (tmp_path / "nowhere", "unknown-data", "no such file or folder"),
        (small, "bad-size", "bring the images to that size"),
    ):
        code, out, _ = call(export, run, "-o", path, "--int8", "--calibrate", data, "--json")
        error = json.loads(out)["error"]
        assert (code, error["code"]) == (1, wanted)
        assert remedy in error["message"]
        assert "--" not in error["message"]
        assert not path.exists()


def test_without_the_runs_own_images_others_are_asked_for(call, run, tmp_path, monkeypatch):
    def nothing(*_: Any, **__: Any) -> None:
        raise DataError("missing-data", "not found", "digits")

    monkeypatch.setattr(export_int8, "load_data", nothing)
    _, out, _ = call(export, run, "-o", tmp_path / "net.slt", "--int8", "--json")
    assert json.loads(out)["error"]["message"] == (
        "not found; --calibrate DATA names other images to calibrate on"
    )


def test_poor_calibration_images_are_told_of(call, run, tmp_path, monkeypatch):
    """Fewer than were asked for, and a value of which they tell nothing."""
    arguments = [run, "-o", tmp_path / "net.slt", "--int8", "--json"]
    assert call(export, *arguments)[2] == ""
    code, _, err = call(export, *arguments, "--calibrate", shades(tmp_path / "one", 7))
    assert (code, "calibrated on 1 image, as" in err, "not on 512" in err) == (0, True, True)
    monkeypatch.setattr(
        export_int8, "preprocess", lambda pixels, *_: np.zeros((len(pixels), 1, 8, 8), np.float32)
    )
    code, _, err = call(export, *arguments)
    assert (code, "0 on all calibration images" in err, "the image" in err) == (0, True, True)


@pytest.mark.parametrize("pow2", [False, True])
def test_a_synthetic_ticket_is_calibrated_on_noise(call, tmp_path, pow2):
    path = tmp_path / "net.slt"
    flags = ["--int8", *(["--pow2"] if pow2 else [])]
    code, out, _ = call(export, *SYNTHETIC, *flags, "-o", path, "--json")
    answer, ticket = json.loads(out)["int8"], load(path)
    images = noise(ticket.network, ticket.source.seed)
    assert code == 0
    assert answer.keys() == {"calibration", "method", "pow2", "percentile"}
    assert answer["calibration"] == {"data": "noise", "images": len(images)}
    assert ticket.quantisation.pow2 == pow2
    logits = run_int8(ticket, images)
    assert (logits.std(axis=0) > 0).all()
    assert np.array_equal(logits, Plan(ticket, dtype="int8")(images))
    out = call(export, *SYNTHETIC, *flags, "-o", path)[1]
    assert "calibrated on 16 images of noise" in out
    assert "int8: accuracy is not compared, as a synthetic ticket has none\n" in out


def test_narrow_affines_tell_what_they_cost(call, run, exported):
    with np.load(f"{run}/predictions.npz") as kept:
        trainer = kept["predictions"]
    for bits in ("8", "16"):
        answer, path = exported("--affine-bits", bits)
        different = int((predictions(call, path)[0] != trainer).sum())
        assert answer["affine"] == {"asked": bits, "images": 355, "different": different}
    assert exported("--affine-bits", "32")[0]["affine"] == {"asked": "32"}
    code, out, _ = call(export, run, "-o", path, "--affine-bits", "8", "--limit", "3")
    assert (code, "3 test images compared, 0 predictions differ" in out) == (0, True)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--calibrate", "digits"], "add --int8"),
        (["--calibrate-images", "7"], "add --int8"),
        (["--calibrate-method", "max"], "add --int8"),
        (["--pow2"], "add --int8"),
        (["--int8", "--calibrate-method", "mean"], "one of percentile, max"),
        (["--int8", "--calibrate-images", "0"], "calibrate-images"),
        ([*SYNTHETIC, "--int8", "--calibrate", "digits"], "for a RUN alone"),
        ([*SYNTHETIC, "--int8", "--calibrate-images", "7"], "for a RUN alone"),
        ([*SYNTHETIC, "--pow2"], "add --int8"),
    ],
)
def test_flags_that_make_no_sense_together(call, tmp_path, flags, told):
    of_run = [] if "--synthetic" in flags else [tmp_path]
    code, out, err = call(export, *of_run, *flags, "-o", tmp_path / "net.slt")
    assert (code, out) == (2, "")
    assert told in " ".join(err.split())
    assert [flag for flag in flags if flag.startswith("--")][-1] in err


def test_refusals_name_a_remedy(call, run, tmp_path):
    path = tmp_path / "net.slt"
    (tmp_path / "empty").mkdir()
    cases = [
        ([tmp_path / "none"], "no-result", "slt-train names its run folder"),
        ([tmp_path / "empty"], "no-result", "give its slt-train command again"),
        (["--synthetic", "conv2", "--profile", run], "bad-profile", "name a run of the same network"),
    ]
    for arguments, code, remedy in cases:
        exit_code, out, _ = call(export, *arguments, "-o", path, "--json")
        error = json.loads(out)["error"]
        assert (exit_code, error["code"]) == (1, code)
        assert remedy in error["message"]


def test_one_prediction_differs():
    assert [cli.differ(n) for n in (0, 1)] == ["0 predictions differ", "1 prediction differs"]


def test_named_sets_have_both_splits(tmp_path):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    assert splits("digits") == ("train", "test")
    assert len(load_data("digits", "train")) == 1442
    assert splits(tmp_path / "nowhere") == ("train", "test")
