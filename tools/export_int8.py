"""slt-export --int8: scales from calibration images, and what int8 then costs."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from slt_infer.data import load as load_data
from slt_infer.data import preprocess, splits
from slt_infer.errors import DataError
from slt_infer.runtime.calibrate import PERCENTILE, Method, calibrated
from slt_infer.runtime.plan import Plan
from slt_infer.runtime.synthetic import noise
from slt_infer.ticket import Ticket
from slt_infer.tools import cli
from slt_infer.tools.tested import Tested

IMAGES = 512  # to calibrate on, unless said otherwise

Answer = dict[str, Any]


def on_images(
    ticket: Ticket,
    trained_on: str,
    calibrate: str | None,
    data_dir: Path | None,
    count: int,
    method: Method,
    pow2: bool,
) -> tuple[Ticket, Answer]:
    """The ticket with scales from `count` images of the training split of a data set, or of all images of a
    file or folder without splits: the same ones every time; calibrate: another one than it was trained on.
    Raises DataError where there are none.
    """
    data = calibrate or trained_on
    rules, size = ticket.preprocessing, ticket.network.input
    split = "train" if "train" in splits(data) else "test"
    try:
        images = load_data(data, split, data_dir, size=size, resize=rules.resize)
    except DataError as error:
        if error.code == "bad-size":
            message = f"{error.message} (height x width): bring the images to that size first"
        elif calibrate is None:
            message = f"{error.message}; --calibrate DATA names other images to calibrate on"
        else:
            raise
        raise DataError(error.code, message, error.where) from error
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(images))
    chosen = preprocess(images.pixels[np.sort(order[:count])], rules, size)
    if len(chosen) < count:
        cli.note(f"calibrated on {cli.count(len(chosen), 'image')}, as {data} has no more, not on {count}")
    return _on(ticket, chosen, data, method, pow2)


def on_noise(ticket: Ticket, method: Method, pow2: bool) -> tuple[Ticket, Answer]:
    """Scales of a synthetic ticket, from the noise that its affines are from."""
    return _on(ticket, noise(ticket.network, ticket.source.seed), "noise", method, pow2)


def _on(ticket: Ticket, images: np.ndarray, data: str, method: Method, pow2: bool) -> tuple[Ticket, Answer]:
    answer: Answer = {"calibration": {"data": data, "images": len(images)}, "method": method, "pow2": pow2}
    if method == "percentile":
        answer["percentile"] = PERCENTILE
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ticket = calibrated(ticket, images, method, pow2=pow2)
    for warning in told:
        cli.note(str(warning.message))
    return ticket, answer


def loss(ticket: Ticket, tested: Tested) -> Answer:
    """Accuracies of a quantised ticket in f32 and int8, and how many predictions differ."""
    plain = tested.predict(Plan(replace(ticket, quantisation=None), mode="resident"), "f32")
    rounded = tested.predict(Plan(ticket, mode="resident", dtype="int8"), "int8")
    return {
        "images": len(tested),
        "f32_accuracy": tested.accuracy(plain),
        "int8_accuracy": tested.accuracy(rounded),
        "different": int((plain != rounded).sum()),
    }


def lines(answer: Answer) -> list[str]:
    """What a person reads of it."""
    images = cli.count(answer["calibration"]["images"], "image")
    how = f"percentile {answer['percentile']}" if "percentile" in answer else "largest magnitudes"
    of_two = ", scales and multipliers powers of two" if answer["pow2"] else ""
    text = [f"int8: calibrated on {images} of {answer['calibration']['data']}, {how}{of_two}"]
    if "why" in answer:
        text.append(f"int8: {answer['why']}")
    if "different" in answer:
        right = f"{answer['int8_accuracy']:.2%} of {cli.count(answer['images'], 'test image')} right"
        plain = f"{answer['f32_accuracy']:.2%} in f32"
        text.append(f"int8: {right}, {plain}; {cli.differ(answer['different'])}")
    elif "why" not in answer:
        text.append("int8: accuracy is not compared, as a synthetic ticket has none")
    return text
