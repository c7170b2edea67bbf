"""Runs every fuzz target for a while: `python fuzz/run.py [--seconds N] [--out build/fuzz] [TARGET...]`.

Each starts from generated seeds and from the corpus that its earlier runs found. Prints executions and
findings; exits with 1 if there is one, which OUT/findings/ then keeps: `OUT/TARGET FILE` (or
`python fuzz/reader.py FILE`) runs it again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import seeds
import targets


def run(target: str, program: list[str], out: Path, seconds: int) -> bool:
    """Whether a target found nothing."""
    corpus, sown, findings = (out / kind / target for kind in ("corpus", "seeds", "findings"))
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    count = seeds.write(target, sown)
    limits = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=20000", "-print_final_stats=1", "-verbosity=1"]
    command = [
        *program,
        str(corpus),
        str(sown),
        f"-max_total_time={seconds}",
        f"-artifact_prefix={findings}/",
    ]
    log = out / f"{target}.log"
    with open(log, "wb") as file:
        ended = subprocess.run([*command, *limits], stdout=file, stderr=subprocess.STDOUT, check=False)
    text = log.read_text("utf-8", "replace")
    executions = re.findall(r"stat::number_of_executed_units: +(\d+)", text) or re.findall(
        r"^#(\d+)", text, re.M
    )
    covered = re.findall(r" cov: (\d+) ft: (\d+) corp: (\d+)", text)
    print(
        f"{target}: {count} seeds, {executions[-1] if executions else 0} executions in {seconds} s, "
        f"edges, features, corpus: {', '.join(covered[-1]) if covered else 'not counted'}; "
        f"{'nothing found' if ended.returncode == 0 else f'FINDING, see {log}'}",
        flush=True,
    )
    return ended.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the fuzz targets, seconds each.")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(seeds.SEEDS)}; all if none"
    )
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=targets.ROOT / "build" / "fuzz")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    programs = {target: [str(path)] for target, path in targets.build(out).items()}
    programs["reader"] = [sys.executable, str(targets.ROOT / "fuzz" / "reader.py")]
    os.environ.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    wanted = arguments.targets or list(programs)
    clean = [run(target, programs[target], out, arguments.seconds) for target in wanted]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
