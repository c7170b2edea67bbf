"""slt-export --target: words for a chip from a run, from a packed ticket and from a synthetic one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from slt_infer.format import load, save
from slt_infer.format.target import rtl_image
from slt_infer.tools.export import main as export

from ..independent import target
from .conftest import SYNTHETIC

THREEFRY = [*SYNTHETIC, "--generator", "threefry4x32-12"]


@pytest.fixture
def ticket_file(call, tmp_path):
    path = tmp_path / "net.slt"
    assert call(export, *THREEFRY, "--int8", "-o", path)[0] == 0
    return path


def test_a_packed_ticket_and_a_synthetic_one_give_the_same_image(call, ticket_file, tmp_path):
    one, other = tmp_path / "one.bin", tmp_path / "other.bin"
    code, out, _ = call(export, ticket_file, "--target", "rtl", "-o", one, "--json")
    answer = json.loads(out)
    assert code == 0
    assert call(export, *THREEFRY, "--int8", "--target", "rtl", "-o", other)[0] == 0
    data = one.read_bytes()
    assert data == other.read_bytes() == rtl_image(load(ticket_file)).words.tobytes()
    told = {"file": str(one), "target": "rtl", "form": "bin", "quantised": True}
    assert told.items() <= answer.items()
    assert answer["file_bytes"] == 4 * answer["words"] == 4 * sum(answer["parts"].values()) == len(data)
    assert answer["provenance"]["method"] == "synthetic"
    for step, words in zip(answer["steps"], target.parse(data).steps, strict=True):
        assert (step["operator"], step["gives"]) == (words.operator, words.fields["value"])
        assert int.from_bytes(data[4 * step["at"] :][:4], "little") == words.fields["operator"]
        assert (step["layer"] is None) == (not words.has_weights)


def test_hex_by_the_name_of_the_file(call, ticket_file, tmp_path):
    call(export, ticket_file, "--target", "rtl", "-o", tmp_path / "net.bin")
    code, out, _ = call(export, ticket_file, "--target", "rtl", "-o", tmp_path / "net.hex")
    assert code == 0
    assert "words of 32 bits" in out
    assert "conv2d" in out
    words = [int(line, 16) for line in (tmp_path / "net.hex").read_text("ascii").split()]
    assert b"".join(word.to_bytes(4, "little") for word in words) == (tmp_path / "net.bin").read_bytes()


def test_without_scales_there_are_the_weights_alone(call, tmp_path):
    code, out, _ = call(export, *THREEFRY, "--target", "rtl", "-o", tmp_path / "net.bin")
    assert code == 0
    assert "weights alone" in out
    assert target.parse((tmp_path / "net.bin").read_bytes()).header["int8"] == 0


def test_one_task_of_several(call, ticket_file, tmp_path):
    one, other, path = load(ticket_file), tmp_path / "other.slt", tmp_path / "tasks.slt"
    assert call(export, *THREEFRY, "--sparsity", "0.6", "-o", other)[0] == 0
    save(replace(one, others=(load(other).layers,), quantisation=None), path)
    for task in (0, 1):
        flags = ["--task", task] if task else []
        assert call(export, path, "--target", "rtl", *flags, "-o", tmp_path / "net.bin")[0] == 0
        image = (tmp_path / "net.bin").read_bytes()
        assert image == rtl_image(load(path).task(task)).words.tobytes()
        kept = sum(step.fields["kept"] for step in target.parse(image).steps)
        assert kept == (load(other) if task else one).kept
    code, out, _ = call(export, path, "--target", "rtl", "--task", "2", "-o", tmp_path / "net.bin", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, "bad-task")


def test_a_run_gives_the_image_of_its_packed_ticket(call, tmp_path):
    pytest.importorskip("torch", reason="a search needs torch")
    pytest.importorskip("sklearn", reason="the embedded digits come with scikit-learn")
    from slt_infer.tools.train import main as train

    search = ["--arch", "mlp-64-20-10", "--frozen", "0.3", "--epochs", "20it", "--generator", "threefry4x32"]
    assert call(train, *search, "--out", tmp_path / "runs")[0] == 0
    path, image = tmp_path / "found.slt", tmp_path / "found.bin"
    assert call(export, tmp_path / "runs", "--int8", "-o", path)[0] == 0
    code, out, _ = call(export, tmp_path / "runs", "--int8", "--target", "rtl", "-o", image, "--json")
    answer = json.loads(out)
    assert code == 0
    assert image.read_bytes() == rtl_image(load(path)).words.tobytes()
    assert (answer["affine"]["images"], answer["int8"]["calibration"]["data"]) == (355, "digits")
    assert [step["layer"] for step in answer["steps"]] == [None, "fc1", "fc2"]


def test_refusals_leave_no_file(call, tmp_path):
    image = tmp_path / "net.bin"
    code, out, _ = call(export, *SYNTHETIC, "--target", "rtl", "-o", image, "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"], error["where"]) == (1, "unsupported", "source")
    assert "--generator threefry4x32" in error["message"]
    code, out, _ = call(export, tmp_path / "none.slt", "--target", "rtl", "-o", image, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, "file")
    (tmp_path / "bad.slt").write_bytes(b"no ticket")
    code, out, _ = call(export, tmp_path / "bad.slt", "--target", "rtl", "-o", image, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, "bad-magic")
    assert list(tmp_path.glob("*.bin*")) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--target", "tpu", "-o", "net.bin"],
        ["--target", "rtl", "-o", "net.slt"],
        ["--target", "rtl", "-o", "net"],
        ["--target", "rtl", "--int8", "-o", "net.bin"],
        ["--target", "rtl", "--seed", "3", "-o", "net.bin"],
        ["--target", "rtl", "--planes", "3", "-o", "net.bin"],
    ],
)
def test_bad_usage(call, ticket_file, arguments):
    code, out, err = call(export, ticket_file, *arguments)
    assert (code, out) == (2, "")
    assert "Usage" in err


def test_a_file_is_not_written_over_itself(call, ticket_file, tmp_path):
    packed = tmp_path / "packed.bin"
    packed.write_bytes(ticket_file.read_bytes())
    code, out, err = call(export, packed, "--target", "rtl", "-o", tmp_path / "." / "packed.bin")
    assert (code, out) == (2, "")
    assert "is the file that is read" in " ".join(err.split())
    assert packed.read_bytes() == ticket_file.read_bytes()


def test_task_is_for_a_packed_ticket(call, tmp_path):
    assert call(export, *THREEFRY, "--target", "rtl", "--task", "0", "-o", tmp_path / "net.bin")[0] == 2
    assert call(export, *THREEFRY, "--task", "0", "-o", tmp_path / "net.slt")[0] == 2
