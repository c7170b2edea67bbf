"""What the tests of several commands share."""

from __future__ import annotations

import json

import pytest

from slt_infer.tools.export import main as export

SYNTHETIC = [
    "--synthetic",
    "conv2@0.25",
    "--sparsity",
    "0.7",
    "--prune",
    "0.4",
    "--lock",
    "0.1",
    "--seed",
    "5",
]
SIZES = {
    "file_bytes",
    "parts",
    "weights",
    "free_weights",
    "paper_bytes",
    "entropy_bytes",
    "fp32_bytes",
    "int8_bytes",
    "binary_bytes",
}  # keys of a size report


@pytest.fixture
def call(capsys):
    """Runs a command; gives its exit code, stdout and stderr."""

    def run(main, *arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return end.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def run(call, tmp_path):
    """The folder of a short search on the embedded digits."""
    pytest.importorskip("torch", reason="a search needs torch")
    pytest.importorskip("sklearn", reason="the embedded digits come with scikit-learn")
    from slt_infer.tools.train import main as train

    arguments = ["--arch", "mlp-64-90-10", "--prune", "0.2", "--lock", "0.1", "--epochs", "20it"]
    code, out, _ = call(train, *arguments, "--out", tmp_path / "runs", "--json")
    assert code == 0
    return json.loads(out)["run"]


@pytest.fixture
def packed(call, tmp_path):
    """A synthetic ticket and what slt-export said of it."""
    path = tmp_path / "net.slt"
    code, out, _ = call(export, *SYNTHETIC, "-o", path, "--json")
    assert code == 0
    return path, json.loads(out)
