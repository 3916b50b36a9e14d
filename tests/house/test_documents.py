"""What the pages say is so: their commands work against a running Muelle, and their links lead somewhere.

A block of commands is marked `sh` and is run, each page on a fresh installation that listens on a port of its own
(where the page says 7070 or 7080). One that cannot be run here has a line before it that says why:

    <!-- not run: it installs packages -->

The recipes in `docs/howto` change the code; `test_howtos` follows them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.cli.machine import Machine
from tests.house.pages import ROOT, Block, blocks, pages

RECIPES = ROOT / "docs/howto"
OTHER_SHELLS = {"bash", "shell", "console", "zsh", "shell-session", "terminal"}
WITHIN_SECONDS = 60.0
REFUSED = "urn:muelle:"
"""Bears the type of every error that the API answers with."""

_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"(?m)^\[[^\]]+\]:\s*(\S+)")
_ADDRESS = re.compile(r"(?:src|href)=\"([^\"]+)\"")
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:", re.I)


def commands() -> dict[Path, list[Block]]:
    """The blocks to be run, by page."""
    found = {
        page: [block for block in blocks(page) if block.language == "sh" and not block.not_run] for page in pages()
    }
    return {page: steps for page, steps in found.items() if steps and RECIPES not in page.parents}


@pytest.mark.parametrize("page", commands(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_work(page: Path, machine: Machine) -> None:
    steps = commands()[page]
    programs = machine.folder / "bin"
    programs.mkdir()
    (programs / "muelle").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m muelle "$@"\n')
    (programs / "muelle").chmod(0o755)
    with machine.running():
        for step in steps:
            run(step, machine, programs)


def run(step: Block, machine: Machine, programs: Path) -> None:
    for program in ("curl", "sqlite3"):
        if re.search(rf"(?m)(?:^|[|;&(]\s*){program} ", step.text) and shutil.which(program) is None:
            pytest.skip(f"{step} needs {program}")
    environment = machine.environment({})
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", on_this_machine(step.text, machine)],
        cwd=machine.folder,
        env=environment | {"PATH": f"{programs}:{environment.get('PATH', '')}", "no_proxy": "localhost,127.0.0.1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN_SECONDS,
        check=False,
    )
    told = f"{step}:\n{step.text}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, told
    assert REFUSED not in done.stdout + done.stderr, told
    assert "Traceback" not in done.stdout + done.stderr, told


def on_this_machine(text: str, machine: Machine) -> str:
    return re.sub(r"\b7080\b", str(machine.apps_port), re.sub(r"\b7070\b", str(machine.port), text))


def test_commands_are_marked_so_that_they_are_run() -> None:
    others = [str(block) for page in pages() for block in blocks(page) if block.language.lower() in OTHER_SHELLS]
    assert not others, f"mark them sh: {', '.join(others)}"
    recipes = [block for page in RECIPES.glob("*.md") for block in blocks(page)]
    assert not [str(block) for block in recipes if block.not_run]


def test_every_link_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}" for page in pages() for target in links(page) if not leads(page, target)
    ]
    assert not broken, "\n".join(broken)


def links(page: Path) -> Iterator[str]:
    """Where the page points to, outside of its blocks of code."""
    text = re.sub(r"(?ms)^(`{3,}|~{3,}).*?^\1`*$", "", page.read_text("utf-8"))
    text = re.sub(r"`[^`\n]+`", "code", text)
    for pattern in (_LINK, _REFERENCE, _ADDRESS):
        yield from (found[1] for found in pattern.finditer(text))


def leads(page: Path, target: str) -> bool:
    if _SCHEME.match(target):
        return True  # elsewhere; whether that is there is not for a test to ask
    path, _, anchor = unquote(target).partition("#")
    to = page if not path else (ROOT / path.lstrip("/") if path.startswith("/") else page.parent / path)
    if not to.exists():
        return False
    return not anchor or (to.suffix == ".md" and anchor in anchors(to))


def anchors(page: Path) -> set[str]:
    """What headings are called in a link, as the usual hosts of repositories make it."""
    text = re.sub(r"(?ms)^(`{3,}|~{3,}).*?^\1`*$", "", page.read_text("utf-8"))
    headings = (re.sub(r"[`*_]|\[|\]\([^)]*\)", "", found) for found in re.findall(r"(?m)^#{1,6}\s+(.+?)\s*#*$", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- the reading of pages


def test_a_page_is_read_as_it_is_meant(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    first, second, third = blocks(page)
    assert (first.language, first.text, first.not_run, first.line) == ("sh", "muelle up\n", "it stays", 4)
    assert (second.language, second.title, second.text) == ("python", "src/a.py", "one = 1\n\n```\nno end\n```\n")
    assert (third.language, third.not_run) == ("sh", "")
    assert list(links(page)) == ["other.md", "#a-heading-with-code", "gone.md"]
    (tmp_path / "other.md").write_text("")
    assert [leads(page, target) for target in links(page)] == [True, True, False]
    assert pages(), "and there are some"


PAGE = """# A heading, with `code`
<!-- not run: it stays -->
```sh
muelle up
```
[other](other.md) and [this](#a-heading-with-code)

````python title="src/a.py"
one = 1

```
no end
```
````

[gone](gone.md)

```sh
muelle doctor  # [not](a-link.md)
```
"""
