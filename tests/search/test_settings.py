"""Recipes, flags, defaults and the name of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slt_infer import models
from slt_infer.errors import SltError
from slt_infer.search.settings import (
    Settings,
    defaults,
    differences,
    duration,
    read_recipe,
    recipe_names,
    resolve,
    run_name,
    usual,
)


def test_flags_go_over_the_recipe_over_the_networks_defaults() -> None:
    settings = resolve({"arch": "conv6", "lr": 0.3, "batch": 64}, {"batch": 32, "seed": None, "epochs": 5})
    assert (settings.lr, settings.batch, settings.seed, settings.epochs) == (0.3, 32, 0, "5ep")
    assert settings.val_share == 0.2  # the network's own
    assert resolve({}, {}) == Settings()
    assert resolve({"epochs": 20}, {}) == resolve({}, {"epochs": "020"}) == resolve({"epochs": "20ep"}, {})


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"lr": "fast"}, "lr"),
        ({"lr": 0}, "lr"),
        ({"sparsity": 1.5}, "sparsity"),
        ({"method": "magnitude"}, "method"),
        ({"epochs": "soon"}, "10ep"),
        ({"epochs": "0ep"}, "10ep"),
        ({"arch": 3}, "arch"),
        ({"rate": -0.1}, "rate"),
        ({"pull": -0.1}, "pull"),
        ({"seed": 2**64}, "2^64"),
        ({"seed": -1}, "seed"),
        ({"generator": "mt19937"}, "mt19937"),
        ({"generator": "philox4x32-8"}, "philox4x32-8"),
    ],
)
def test_refuses_and_names_the_key(recipe: dict, told: str) -> None:
    with pytest.raises(SltError, match=told.replace("^", r"\^")):
        resolve(recipe, {})


def test_rate_aware_settings() -> None:
    assert resolve({}, {"rate": 0.01}).method == resolve({"pull": 0.001}, {}).method == "rate-aware"
    assert resolve({"method": "rate-aware"}, {}).rate == 0.001
    assert resolve({"method": "rate-aware", "rate": 0}, {}).rate == 0
    pulled = resolve({"method": "rate-aware"}, {"pull": 0.001})
    assert (pulled.rate, pulled.pull) == (0, 0.001)
    assert resolve({"rate": 0}, {}) == Settings()
    for method in ("edge-popup", "edge-popup-local"):
        with pytest.raises(SltError, match="rate-aware"):
            resolve({"method": method}, {"rate": 0.01})


def test_the_largest_seed() -> None:
    assert resolve({"seed": 2**64 - 1}, {}).seed == 2**64 - 1


def test_refusals_say_where_and_what_is_wanted() -> None:
    with pytest.raises(SltError) as caught:
        resolve({"rule": "foo"}, {}, "my.toml")
    assert str(caught.value) == "my.toml, rule: one of epl, erk, uniform, not 'foo'"
    with pytest.raises(SltError) as caught:
        resolve({}, {"lr": 0})
    assert str(caught.value) == "lr: a number above 0, not 0"


def test_usual_values_in_words() -> None:
    assert usual("lr") == "0.1; conv 0.01"
    assert usual("sparsity") == "0.5"


@pytest.mark.parametrize(("text", "value"), [("10ep", (10, "ep")), ("500it", (500, "it")), ("3", (3, "ep"))])
def test_duration(text: str, value: tuple[int, str]) -> None:
    assert duration(text) == value


@pytest.mark.parametrize("name", recipe_names())
def test_the_packages_recipes_are_whole(name: str) -> None:
    settings = resolve(read_recipe(name), {})
    models.network(settings.arch)
    assert settings.prune <= settings.sparsity <= 1 - settings.lock


def test_the_papers_settings() -> None:
    """Partially frozen networks, section 4.1."""
    for name, rate in (("conv6-cifar10", 0.01), ("resnet18-cifar10", 0.1)):
        settings = resolve(read_recipe(name), {})
        assert (settings.lr, settings.weight_decay, settings.momentum) == (rate, 1e-4, 0.9)
        assert (settings.batch, settings.epochs, settings.val_share) == (128, "100ep", 0.2)
        assert (settings.rule, settings.method) == ("epl", "edge-popup")


def test_recipe_files(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('arch = "conv2"\nlr = 1\n')
    bad.write_text("arch = \n")
    assert resolve(read_recipe(good), {}).lr == 1.0
    for path, code in ((bad, "bad-recipe"), (tmp_path / "none.toml", "no-recipe")):
        with pytest.raises(SltError) as caught:
            read_recipe(path)
        assert caught.value.code == code


def test_a_run_is_named_by_what_differs_from_the_defaults() -> None:
    assert differences(defaults("conv6")) == {"arch": "conv6"}
    assert differences(resolve({"arch": "conv6", "lr": 0.01, "seed": 3}, {})) == {"arch": "conv6", "seed": 3}
    # pinned: a change of these names would start finished runs anew
    assert run_name(Settings()) == "mlp-64-256-128-10-95806a9992"
    assert run_name(resolve({"arch": "conv6", "seed": 3}, {})) == "conv6-8b8719f405"


def test_needs_no_torch() -> None:
    code = (
        "import sys, slt_infer.search.settings, slt_infer.search.result, slt_infer.search.run;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("key", ["rate", "pull", "lr"])
def test_infinite_numbers_are_refused(key: str) -> None:
    with pytest.raises(SltError) as caught:
        resolve({key: float("inf")}, {})
    assert caught.value.code == "bad-recipe"


def test_pull_stands_instead_of_weight_decay() -> None:
    with pytest.raises(SltError, match="instead of weight_decay"):
        resolve({"pull": 0.01, "weight_decay": 0.1}, {})
