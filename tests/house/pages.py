"""Our pages, as tests see them: their blocks of code, and what has to be done with each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^( {0,3})(`{3,}|~{3,})\s*(\S*)\s*(.*)$")
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(\S.*?)\s*-->")
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    title: str
    not_run: str
    """Why it is not run; nothing where it is."""
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


class DoesNotFit(Exception):
    """A block cannot be applied to its file as it says."""


def pages() -> list[Path]:
    """All Markdown that is ours."""
    found = (page.relative_to(ROOT) for page in ROOT.rglob("*.md"))
    return sorted(
        ROOT / page for page in found if not any(part[0] == "." or part == "node_modules" for part in page.parts)
    )


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    opened: re.Match[str] | None = None
    inside: list[str] = []
    reason = ""
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is not None:
            if fence and not fence[3] and fence[2].startswith(opened[2]):
                title = _TITLE.search(opened[4])
                text = "".join(f"{part.removeprefix(opened[1])}\n" for part in inside)
                found.append(Block(page, number - len(inside), opened[3], title[1] if title else "", reason, text))
                opened, reason = None, ""
            else:
                inside.append(line)
        elif fence:
            opened, inside = fence, []
        elif line.strip():
            why = _NOT_RUN.fullmatch(line.strip())
            reason = why[1] if why else ""
    if opened is not None:
        raise DoesNotFit(f"{page}: a block is not closed")
    return found


def apply(block: Block, tree: Path) -> None:
    """Does with a file what the block says: creates it, appends to it, or changes a part of it."""
    path = tree / block.title
    if block.language == "diff":
        path.write_text(_changed(block, path.read_text("utf-8")), "utf-8")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text("utf-8").rstrip("\n") + "\n\n\n" if path.exists() else ""
    path.write_text(before + block.text, "utf-8")


def _changed(block: Block, text: str) -> str:
    """Lines that begin with a blank or a minus have to be there, once, one after the other (the last only in part)."""
    lines = [(line[:1], line[1:]) for line in block.text.splitlines()]
    old = "\n".join(rest for sign, rest in lines if sign != "+")
    new = "\n".join(rest for sign, rest in lines if sign != "-")
    found = [match.start() for match in re.finditer(f"(?m)^{re.escape(old)}", text)]
    if len(found) != 1:
        raise DoesNotFit(f"{block}: what it changes is {len(found)} times in {block.title}")
    return text[: found[0]] + new + text[found[0] + len(old) :]
