"""The house keeps its own order: who imports whom, how long a thing may be, and of what it does not speak."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_MODULE_LINES = 500
LONGEST_FUNCTION_LINES = 50
LONG_FOR_A_REASON = {
    "muelle.identity.migrations.0001_accounts_sessions_keys.upgrade": "a list of tables, and what was done once stays",
}
"""Functions that may be longer, by module and name, and why."""

MODULES = sorted((ROOT / "src/muelle").rglob("*.py"))
TEXTS = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".lock",
    ".yml",
    ".yaml",
    ".mako",
    ".json",
    ".ts",
    ".tsx",
    ".css",
    ".sh",
    ".cfg",
    "",
}
OURSELVES_ALONE = {
    "a path of the machine it was built on": re.compile(r"/(?:work|root)/[a-z]|/home/(?!USER|user|you|ana)[a-z]+/"),
    "the host of a package registry": re.compile(
        r"https?://(?!(?:www\.)?npmjs\.com)[^/\s\"']*(?:pypi|pythonhosted|npmjs|registry|mirror|proxy\.golang|artifactory)"
        r"[^/\s\"']*"
    ),
    "a marker left behind": re.compile(r"\b(?:FIXME|TODO)\b"),
}
MAY_NAME = {
    "tests/house/test_imports.py": "this page has to say what it looks for",
    "scripts/renew_assets.py": "fetches what is served with the pages from where it is published",
}


def test_who_imports_whom_is_as_the_contracts_say() -> None:
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("import-linter is not installed")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_modules_and_functions_can_be_read_in_one_go(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE_LINES
    name = ".".join(module.relative_to(ROOT / "src").with_suffix("").parts)
    long = {f"{name}.{found}": lines for found, lines in functions(ast.parse(text)) if lines > LONGEST_FUNCTION_LINES}
    assert set(long) <= set(LONG_FOR_A_REASON), long


def test_no_reason_outlives_its_function() -> None:
    known = {
        ".".join([*module.relative_to(ROOT / "src").with_suffix("").parts, name])
        for module in MODULES
        for name, _ in functions(ast.parse(module.read_text()))
    }
    assert set(LONG_FOR_A_REASON) <= known


def test_nothing_is_done_by_importing() -> None:
    """What each module does at its top is to define: no database, no socket, no thread, no log line."""
    look = "import muelle.app, muelle.cli.commands, threading; print(threading.active_count())"
    done = subprocess.run([sys.executable, "-c", look], cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_it_speaks_of_itself_alone() -> None:
    found = [
        f"{path}:{number}: {what}: {match[0]}"
        for path in our_files()
        if str(path) not in MAY_NAME
        for number, line in enumerate((ROOT / path).read_text("utf-8", "replace").splitlines(), 1)
        for what, pattern in OURSELVES_ALONE.items()
        if (match := pattern.search(line))
    ]
    assert not found, "\n".join(found)


def functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def our_files() -> list[Path]:
    """All that is ours, tracked or not yet, without what is made or came from elsewhere."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:  # a copy without its history
        pytest.skip("this is no checkout")
    paths = (Path(line) for line in done.stdout.splitlines())
    return [path for path in paths if path.suffix in TEXTS and "assets" not in path.parts and (ROOT / path).is_file()]
