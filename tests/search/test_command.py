"""slt-train from the command line: keys, exit codes, precedence of flags, and a second call that reads."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from slt_infer.tools.train import main

pytest.importorskip("sklearn", reason="the embedded digits come with scikit-learn")

KEYS = {
    "run",
    "network",
    "method",
    "sparsity",
    "density",
    "val_accuracy",
    "test_accuracy",
    "epochs",
    "seconds",
}


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def slt_train(*arguments: str) -> Done:
    """The command in this process, where torch is imported already."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        pytest.raises(SystemExit) as ended,
    ):
        main(list(arguments))
    return Done(int(ended.value.code or 0), stdout.getvalue(), stderr.getvalue())


def test_as_a_process(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "slt_infer.tools.train",
        "--epochs",
        "3it",
        "--out",
        str(tmp_path),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) >= KEYS


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(out: Path) -> dict:
    recipe = out / "recipe.toml"
    recipe.write_text('arch = "mlp-64-64-10"\nsparsity = 0.6\nseed = 3\nepochs = "2ep"\nbatch = 32\n')
    done = slt_train(
        *("--recipe", str(recipe), "--seed", "4", "--frozen", "0.5", "--set", "lr=0.2", "--out", str(out)),
        "--json",
    )
    assert done.returncode == 0, done.stderr
    assert "epoch 2" in done.stderr
    return json.loads(done.stdout)


def test_answers_with_the_agreed_keys(finished: dict) -> None:
    assert set(finished) >= KEYS
    assert finished["network"] == "mlp-64-64-10"
    assert finished["density"] == pytest.approx(0.4, abs=1e-3)
    assert finished["sparsity"] + finished["density"] == pytest.approx(1)
    assert finished["test_accuracy"] > 0.7
    # placement of the paper on frozen source networks: Pr = k - (1 - Fr) / 2
    assert finished["requested"] == {
        "sparsity": 0.6,
        "prune": pytest.approx(0.35),
        "lock": pytest.approx(0.15),
        "rate": 0.0,
        "pull": 0.0,
    }
    assert finished["realised"]["prune"] == pytest.approx(0.35, abs=0.03)


def test_the_run_folder_has_what_was_asked_for(finished: dict) -> None:
    settings = json.loads((Path(finished["run"]) / "config.json").read_text())["settings"]
    assert (settings["seed"], settings["lr"], settings["batch"]) == (4, 0.2, 32)


def test_a_second_call_reads(out: Path, finished: dict) -> None:
    recipe = str(out / "recipe.toml")
    again = slt_train(
        *(
            "--recipe",
            recipe,
            "--seed",
            "4",
            "--frozen",
            "0.5",
            "--set",
            "lr=0.2",
            "--out",
            str(out),
            "--json",
        )
    )
    assert json.loads(again.stdout) == finished
    assert "finished already" in again.stderr
    assert len((out / "results.csv").read_text().splitlines()) == 2


def test_rate(out: Path) -> None:
    done = slt_train("--epochs", "1ep", "--rate", "0.01", "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["method"] == "rate-aware"
    row = json.loads((Path(answer["run"]) / "metrics.jsonl").read_text())
    assert 0 < row["mask_bits_prior"] < row["mask_bits_iid"] <= 1
    assert f"mask {row['mask_bits_prior']:.4f} bits" in done.stderr


def test_a_person_gets_a_table(out: Path, finished: dict) -> None:
    done = slt_train(
        *("--recipe", str(out / "recipe.toml"), "--seed", "4", "--frozen", "0.5", "--set", "lr=0.2"),
        *("--out", str(out)),
    )
    assert "test_accuracy" in done.stdout
    assert re.search(r"epochs +2 *$", done.stdout, re.MULTILINE)
    assert not re.search(r"[{}]|\d{6}", done.stdout.replace(finished["run"], ""))
    assert done.stdout.splitlines()[-1] == f"next: slt-export {finished['run']} -o net.slt"


def test_tells_what_it_does_when_it_stops_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slt_infer.search import trainer
    from slt_infer.tools import train

    arguments = ["--arch", "mlp-64-32-10", "--batch", "64", "--epochs", "3ep", "--out", str(tmp_path)]
    end_epoch = trainer.Search._end_epoch

    def interrupt(search: trainer.Search, epoch: int) -> dict:
        if epoch == 3:
            raise KeyboardInterrupt
        return end_epoch(search, epoch)

    monkeypatch.setattr(train, "LINE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Search, "_end_epoch", interrupt)
        stopped = slt_train(*arguments)
    assert stopped.returncode == 130
    lines = stopped.stderr.splitlines()
    assert lines[0].startswith(f"run folder {tmp_path}/mlp-64-32-10-")
    assert lines[1] == "mlp-64-32-10 on digits: 1,298 images, 144 more for validation"
    assert lines[2] == "2,368 weights: 2,368 free, 1,184 will be kept; 60 iterations"
    progress = r"iteration 10/60  loss \d\.\d{3}  accuracy 0\.\d{3}  \d+ images/s  \d+:\d\d:\d\d left"
    assert re.fullmatch(progress, lines[3])
    assert "stopped at iteration 60; the same command goes on from iteration 40" in lines
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line)
    resumed = slt_train(*arguments)
    assert resumed.returncode == 0
    assert f"going on from iteration 40 of {tmp_path}" in resumed.stderr


def test_without_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text('raise ModuleNotFoundError("no torch here", name="torch")\n')
    command = [sys.executable, "-m", "slt_infer.tools.train", "--out", str(tmp_path), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "missing-torch"
    assert "pip install 'slt-infer[search]'" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--arch", "conv3"], "bad-network"),
        (["--recipe", "no such recipe"], "no-recipe"),
        (["--sparsity", "0.2", "--prune", "0.4"], "bad-ratio"),
        (["--generator", "mt19937"], "bad-value"),
        (["--set", "learning_rate=1"], "bad-recipe"),
        (["--classes", "3"], "bad-classes"),
        (["--batch", "2000"], "bad-recipe"),
        (["--prune", "0.5", "--lock", "0.5"], "bad-recipe"),
        (["--device", "abacus"], "bad-device"),
    ],
)
def test_refusals(out: Path, arguments: list[str], code: str) -> None:
    done = slt_train(*arguments, "--out", str(out / "refused"), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == code


def test_bad_usage(out: Path) -> None:
    for arguments in (
        ["--nonsense"],
        ["--frozen", "0.5", "--prune", "0.1"],
        ["--set", "lr"],
        ["--threads", "0"],
        ["--method", "magnitude"],
        ["--rule", "pyramidal"],
        ["--sparsity", "1.5"],
        ["--lr", "0"],
        ["--epochs", "soon"],
    ):
        done = slt_train(*arguments, "--out", str(out / "refused"))
        assert (done.returncode, done.stdout) == (2, "")


def test_help_has_an_example() -> None:
    done = slt_train("--help")
    assert done.returncode == 0
    assert "Example:" in done.stdout
    assert "--sparsity" in done.stdout
    for text in ("resnet34-cifar", "mlp-digits", "default: 20ep; conv 100ep"):
        assert text in " ".join(done.stdout.split())


def test_the_demo_recipe_learns_the_digits(out: Path) -> None:
    done = slt_train("--recipe", "mlp-digits", "--out", str(out), "--json")
    answer = json.loads(done.stdout)
    assert answer["test_accuracy"] > 0.9
    with np.load(Path(answer["run"]) / "predictions.npz") as written:
        assert (written["predictions"] == written["labels"]).mean() == pytest.approx(answer["test_accuracy"])
