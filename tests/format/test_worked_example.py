"""docs/format.md prints a whole file: the page, the reference and the package must agree on every byte of
it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slt_infer import reference
from slt_infer.format import dumps, loads

from .worked_example import example_lines, example_ticket

PAGE = Path(__file__).parents[2] / "docs" / "format.md"


@pytest.fixture(scope="module")
def page() -> str:
    if not PAGE.exists():
        pytest.skip("docs/format.md is not beside the tests")
    return PAGE.read_text()


def printed_file(page: str) -> bytes:
    rows = re.findall(r"^[0-9a-f]{4}  ((?:[0-9a-f]{2} ?)+)$", page, flags=re.MULTILINE)
    return bytes.fromhex(" ".join(rows))


def test_the_page_prints_what_the_reference_works_out(page):
    lines = [line.strip() for line in page.splitlines()]
    missing = [line for line in example_lines() if line not in lines]
    assert not missing


def test_the_printed_file_is_read_and_written(page):
    data = printed_file(page)
    assert len(data) > 100
    ticket = loads(data)
    assert dumps(ticket) == data == dumps(example_ticket())
    assert reference.read(data)["layers"][0][0] == "fc"
