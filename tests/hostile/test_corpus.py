"""Every hostile file is refused with its code, by the package and by the independent decoder; memory stays
bounded.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from slt_infer import TicketError
from slt_infer.format import dumps, loads

from ..independent import decoder
from .honest import costly_files
from .make_corpus import BASE, QUANTISED, Hostile, corpus
from .quantised import COATS, ROWS, coated, pooled

CORPUS = corpus()


def bound(file_bytes: int) -> int:
    """Bytes that reading a file may allocate, its own included (docs/format.md, section 6)."""
    return 2**23 + 16 * file_bytes


def test_the_sound_file_is_read():
    """What the corpus spoils is accepted, and written again as it was."""
    data = BASE.build()
    ticket = loads(data)
    assert dumps(ticket) == data
    assert {layer.code.mode for layer in ticket.layers} == {"raw", "const", "static", "prior"}
    assert len(decoder.decode(data).layers) == len(ticket.layers)


def test_the_quantised_files_are_read():
    """The one that the corpus spoils, and those next to a bound on sums."""
    assert loads(QUANTISED.build()).quantisation is not None
    for pieces in (QUANTISED, coated(COATS), pooled(ROWS)):
        data = pieces.build()
        assert dumps(loads(data)) == data
    decoder.decode(QUANTISED.build())
    for pieces in (coated(COATS + 1), pooled(ROWS + 1)):
        with pytest.raises(TicketError, match=r"sums of \d+ numbers up to 127 may pass 2\^31"):
            loads(pieces.build())


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
def test_a_hostile_file_is_refused(hostile: Hostile):
    with pytest.raises(TicketError) as refusal:
        loads(hostile.data)
    assert refusal.value.code == hostile.code, str(refusal.value)


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
def test_the_page_alone_refuses_it_too(hostile: Hostile):
    with pytest.raises(decoder.Refused):
        decoder.decode(hostile.data)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_memory_is_bounded_by_the_length(tmp_path):
    """Of every hostile file, and of sound ones that ask for as much as they may."""
    costly = costly_files()
    for name, data in [*((hostile.name, hostile.data) for hostile in CORPUS), *costly.items()]:
        (tmp_path / f"{name}.slt").write_bytes(data)
    program = Path(__file__).with_name("measure.py")
    done = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True, check=True)
    outcomes = {outcome["name"]: outcome for outcome in map(json.loads, done.stdout.splitlines())}
    assert len(outcomes) == len(CORPUS) + len(costly)
    assert {outcomes[name]["code"] for name in costly} == {"accepted"}
    assert [outcome for outcome in outcomes.values() if str(outcome["code"]).startswith("killed")] == []
    over = {
        name: outcome["peak"]
        for name, outcome in outcomes.items()
        if outcome["peak"] > bound((tmp_path / f"{name}.slt").stat().st_size)
    }
    assert over == {}
