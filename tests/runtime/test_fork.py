"""A plan with threads goes on in a forked child, which has none of its parent's threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os
import numpy as np
from slt_infer import Plan, models
from slt_infer.runtime.synthetic import synthetic_ticket
from slt_infer.ticket import Source

plan = Plan(synthetic_ticket(models.network("conv2@0.1"), Source(), 0.5), threads=2)
images = np.ones((2, 3, 32, 32), np.float32)
logits = plan(images)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(plan(images), logits) else 3)
_, status = os.waitpid(child, 0)
assert np.array_equal(plan(images), logits)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_child_runs_the_plan():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.split() == ["0"]
