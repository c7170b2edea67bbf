"""The repository itself: what the README promises is there, links lead somewhere, nothing is large."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def tracked() -> list[Path]:
    """The files of the repository: git's where this is a checkout, else those of the parts."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout: which files belong to the repository cannot be told")
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_over_one_mebibyte() -> None:
    assert [path for path in tracked() if path.stat().st_size > 2**20] == []


def test_nothing_built_is_tracked() -> None:
    built = {".so", ".o", ".pyc", ".slt", ".npz", ".pt", ".whl"}
    vectors = ROOT / "tests" / "vectors"
    assert [p for p in tracked() if p.suffix in built and vectors not in p.parents] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            whole = (page.parent / path).resolve() if path else page
            assert whole.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in anchors(whole), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_only_commands_that_exist(page: Path) -> None:
    scripts = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"])
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    text = page.read_text("utf-8")
    assert set(re.findall(r"\bslt-[a-z]+\b", text)) - {"slt-infer"} <= scripts
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [
        page.name for page in PAGES[1:] if page.parent.name == "docs" and f"docs/{page.name}" not in readme
    ] == []
