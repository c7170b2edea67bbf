"""What the tests of several commands share."""

from __future__ import annotations

import json

import pytest


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
