"""The recipes in `docs/howto`, followed to the letter in a copy of the tree: every block applied, every command run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.pages import ROOT, Block, DoesNotFit, apply, blocks

RECIPES = sorted((ROOT / "docs/howto").glob("*.md"))
WITHIN_SECONDS = 240.0


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """All that a recipe works on, and the programs that it names."""
    passed_over = shutil.ignore_patterns("__pycache__", "*.pyc", "*cache")
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=passed_over)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    return tmp_path


def test_there_is_a_recipe_for_each_thing_that_is_added_often() -> None:
    assert {page.stem for page in RECIPES} >= {"endpoint", "consumer", "migration"}


@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.stem)
def test_a_recipe_followed_to_the_letter_works(page: Path, tree: Path) -> None:
    steps = [block for block in blocks(page) if block.title or block.language == "sh"]
    assert steps[-1].language == "sh", "it ends with a test of the new thing"
    written = [step.title for step in steps if step.title]
    assert any(title.startswith("tests/") for title in written)
    for step in steps:
        if step.title:
            apply(step, tree)
        else:
            run(step, tree)
    ours = [title for title in written if title.endswith(".py")]
    for words in (["check", "--ignore", "I001"], ["format", "--check"]):
        tidy = subprocess.run([".venv/bin/ruff", *words, *ours], cwd=tree, capture_output=True, text=True, check=False)
        assert tidy.returncode == 0, tidy.stdout + tidy.stderr


def run(step: Block, tree: Path) -> None:
    """With the copy's code instead of ours, and as if no test were running."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MUELLE_"))}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", step.text],
        cwd=tree,
        env=inherited | {"PYTHONPATH": str(tree / "src"), "PYTEST_ADDOPTS": "-p no:cacheprovider"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{step}:\n{step.text}\n{done.stdout}\n{done.stderr}"
    assert "no tests ran" not in done.stdout


# --- the blocks themselves


def block(language: str, text: str) -> Block:
    return Block(Path("page.md"), 1, language, "a.py", "", text)


def test_a_block_of_differences_changes_what_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("one\ntwo\nthree = 3\n")
    apply(block("diff", " one\n-two\n+2\n+2.5\n three\n"), tmp_path)
    assert path.read_text() == "one\n2\n2.5\nthree = 3\n"
    apply(block("diff", "+zero\n one\n"), tmp_path)
    assert path.read_text().startswith("zero\none\n2\n")


@pytest.mark.parametrize("text", [" four\n+5\n", " one\n three\n", " t\n"])
def test_a_block_of_differences_that_does_not_fit_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.py").write_text("one\ntwo\nthree\n")
    with pytest.raises(DoesNotFit):
        apply(block("diff", text), tmp_path)


def test_another_block_is_a_new_file_or_comes_at_its_end(tmp_path: Path) -> None:
    apply(block("python", "one = 1\n"), tmp_path)
    apply(block("python", "two = 2\n"), tmp_path)
    assert (tmp_path / "a.py").read_text() == "one = 1\n\n\ntwo = 2\n"
