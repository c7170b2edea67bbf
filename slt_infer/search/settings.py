"""What a search is told: typed, with defaults per network, read from TOML, named by its differences."""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
import msgspec.inspect
from msgspec import Meta, Struct

from slt_infer.errors import SltError
from slt_infer.ticket import FreezeLaw, Source

Ratio = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
USUAL_RATE = 0.001


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A search. Fields are the keys of a recipe; those that are flags of slt-train have the flags' names."""

    arch: str = "mlp-64-256-128-10"
    data: str = "digits"
    input: str | None = None  # CxHxW: images are brought to it by `resize`; None: as they are
    resize: Literal["exact", "stretch", "crop"] = "exact"
    method: Literal["edge-popup", "edge-popup-local", "rate-aware"] = "edge-popup"
    rate: Annotated[float, Meta(ge=0)] = 0.0  # rate-aware: soft threshold toward the initial scores
    pull: Annotated[float, Meta(ge=0)] = 0.0  # rate-aware: decay toward them, instead of weight_decay
    sparsity: Ratio = 0.5  # share of weights removed
    prune: Ratio = 0.0  # share frozen as pruned
    lock: Ratio = 0.0  # share frozen as locked
    rule: Literal["uniform", "erk", "epl"] = "epl"  # how the ratios are shared out over the layers
    freeze_law: FreezeLaw = "bernoulli"  # what planes the pattern is made from
    freeze_bits: Annotated[int, Meta(ge=1, le=16)] = 8  # planes of the freeze pattern, at most
    seed: Annotated[int, Meta(ge=0)] = 0  # below 2^64
    generator: str = "philox4x32"
    epochs: str = "20ep"  # "10ep" or "500it" (iterations)
    batch: Annotated[int, Meta(ge=1)] = 128
    lr: Positive = 0.1  # at the start; falls to 0 along a cosine
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Meta(ge=0)] = 1e-4
    score_scale: Positive = 1.0  # of the initial scores' Kaiming-uniform bound
    val_share: Annotated[float, Meta(gt=0, lt=1)] = 0.1  # of the training split, for choosing the epoch
    data_seed: Annotated[int, Meta(ge=0)] = 0  # order, augmentation and validation split
    augment: Literal["auto", "crop-flip", "none"] = "auto"  # auto: crop-flip for colour images


# Convolutional networks follow the paper on frozen source networks, section 4.1 (100 epochs, weight decay
# 1e-4, validation share 1/5, learning rate 0.01 for Conv6 and 0.1 for ResNets).
_BY_NETWORK: dict[str, dict[str, Any]] = {
    "conv": {"epochs": "100ep", "lr": 0.01, "val_share": 0.2},
    "resnet": {"epochs": "100ep", "lr": 0.1, "val_share": 0.2},
}


def defaults(arch: str) -> Settings:
    """The settings that a network starts from."""
    for prefix, changes in _BY_NETWORK.items():
        if arch.startswith(prefix):
            return Settings(arch=arch, **changes)
    return Settings(arch=arch)


_KINDS = {
    field.name: field.type
    for field in msgspec.inspect.type_info(Settings).fields  # type: ignore[attr-defined]
}
_TYPES = get_type_hints(Settings, include_extras=True)


def check(key: str, value: Any, where: str) -> None:
    """Raises SltError (`bad-recipe`), which says what is wanted, for a value that the key cannot have."""
    if key not in _TYPES:
        raise SltError("bad-recipe", f"no such setting; there are {', '.join(_TYPES)}", where)
    try:
        msgspec.convert(value, _TYPES[key])
    except msgspec.ValidationError as error:
        raise SltError("bad-recipe", f"{wanted(key)}, not {value!r}", where) from error
    if isinstance(value, float) and not math.isfinite(value):
        raise SltError("bad-recipe", f"{wanted(key)}, not {value!r}", where)
    if key == "epochs":
        duration(value)


def wanted(key: str) -> str:
    """The values that a setting can have, in words: `one of epl, erk, uniform`."""
    kind: Any = _KINDS[key]
    if isinstance(kind, msgspec.inspect.LiteralType):
        return f"one of {', '.join(map(str, kind.values))}"
    if not isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return "a text"
    whole = "whole " if isinstance(kind, msgspec.inspect.IntType) else ""
    if kind.ge is not None and kind.le is not None:
        return f"a {whole}number from {kind.ge} to {kind.le}"
    bounds = (("at least", kind.ge), ("above", kind.gt), ("at most", kind.le), ("below", kind.lt))
    return f"a {whole}number " + " and ".join(f"{text} {at}" for text, at in bounds if at is not None)


def usual(key: str) -> str:
    """A setting's default in words, and those of networks that have another: `0.1; conv 0.01`."""
    default = getattr(Settings(), key)
    networks = _BY_NETWORK.items()
    others = [f"{name} {of[key]}" for name, of in networks if of.get(key, default) != default]
    return "; ".join([str(default), *others])


def resolve(recipe: dict[str, Any], flags: dict[str, Any], name: str = "recipe") -> Settings:
    """Flags (None: not given) over the recipe over the network's defaults; name: the recipe's, for errors.

    Raises SltError (`bad-recipe`) that names the key for unknown keys and values of a wrong type or range,
    and TicketError for a generator or seed that does not exist.
    """
    given = {**recipe, **{key: value for key, value in flags.items() if value is not None}}
    if isinstance(given.get("epochs"), int):
        given["epochs"] = str(given["epochs"])
    for key, value in given.items():
        check(key, value, key if flags.get(key) is not None else f"{name}, {key}")
    arch = given.get("arch", Settings.__struct_defaults__[0])
    settings = msgspec.convert({**msgspec.to_builtins(defaults(str(arch))), **given}, Settings)
    settings = _rate_aware(settings, given)
    Source.named(settings.generator, settings.seed, settings.freeze_law)
    number, unit = duration(settings.epochs)
    return msgspec.structs.replace(settings, epochs=f"{number}{unit}")


def _rate_aware(settings: Settings, given: dict[str, Any]) -> Settings:
    """A rate or a pull makes a search rate-aware; one that is rate-aware without them has the usual rate."""
    if settings.pull and "weight_decay" in given:
        raise SltError("bad-recipe", "pull stands instead of weight_decay: give one of them", "pull")
    aware = settings.method == "rate-aware"
    if aware and not {"rate", "pull"} & given.keys():
        return msgspec.structs.replace(settings, rate=USUAL_RATE)
    if aware or not (settings.rate or settings.pull):
        return settings
    if "method" in given:
        message = f"rate and pull are of the method rate-aware, not of {settings.method}"
        raise SltError("bad-recipe", message, "method")
    return msgspec.structs.replace(settings, method="rate-aware")


def duration(text: str) -> tuple[int, Literal["ep", "it"]]:
    """`10ep` or `500it`; a bare number is epochs. Raises SltError (`bad-recipe`)."""
    match = re.fullmatch(r"(\d{1,9})(ep|it)?", text)
    if not match or not int(match[1]):
        raise SltError("bad-recipe", f"epochs are written 10ep or 500it, not {text!r}", "epochs")
    return int(match[1]), "it" if match[2] == "it" else "ep"


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in _recipes().iterdir() if _is_recipe(entry.name)
    )


def read_recipe(name: str | Path) -> dict[str, Any]:
    """A recipe by its file, or by the name of one that comes with the package.

    Raises SltError: `no-recipe`, or `bad-recipe` where the file is not TOML.
    """
    if str(name) in recipe_names():
        text = (_recipes() / f"{name}.toml").read_text()
    else:
        try:
            text = Path(name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            known = ", ".join(recipe_names())
            raise SltError("no-recipe", f"no such file, nor one of {known}", str(name)) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SltError("bad-recipe", str(error), str(name)) from error


def _recipes() -> Any:
    return resources.files("slt_infer.search") / "recipes"


def _is_recipe(name: str) -> bool:
    return name.endswith(".toml")


def differences(settings: Settings) -> dict[str, Any]:
    """What differs from the network's defaults, and the network."""
    usual = msgspec.to_builtins(defaults(settings.arch))
    given = msgspec.to_builtins(settings)
    return {key: value for key, value in given.items() if key == "arch" or value != usual[key]}


def run_name(settings: Settings) -> str:
    """The run folder's name: the network and ten hexadecimal digits of SHA-256 over the differences."""
    text = msgspec.json.encode(differences(settings), order="sorted")
    return f"{settings.arch}-{hashlib.sha256(text).hexdigest()[:10]}"
