"""A line of shell, such that being asked to end reaches the program."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from muelle.workloads.sources.commands import executing, started

LINES = {
    "python app.py": "exec python app.py",
    "A=1 B='x y' python app.py": "A=1 B='x y' exec python app.py",
    "python migrate.py && python app.py": "python migrate.py && exec python app.py",
    "cd src; python app.py": "cd src; exec python app.py",
    "exec python app.py": "exec python app.py",
    "python app.py 'a && b; c'": "exec python app.py 'a && b; c'",
    "gunicorn -w $(nproc; true) app:app;": "exec gunicorn -w $(nproc; true) app:app",
    "python app.py 2>&1": "exec python app.py 2>&1",
    'python app.py "${X:-a;b}" \\; c': 'exec python app.py "${X:-a;b}" \\; c',
}


@pytest.mark.parametrize(("line", "expected"), LINES.items(), ids=LINES)
def test_the_program_takes_the_place_of_the_shell(line: str, expected: str) -> None:
    assert executing(line) == expected


@pytest.mark.parametrize("line", ["{} | cat", "{} || true", "cd . && {{ {}; }}", "{} & wait", "if true; then {}; fi"])
@pytest.mark.parametrize("plain", [False, True])
def test_a_signal_reaches_the_program_through_any_line(tmp_path: Path, line: str, plain: bool) -> None:
    """What is asked to end is the first process alone, as an engine does it."""
    program = tmp_path / "program.sh"
    program.write_text('trap "echo ended >&2; exit 0" TERM\necho begun >&2\nwhile :; do sleep 0.05; done\n')
    line = f"X=1 sh {program}" if plain else line.format(f"sh {program}")
    words = [shutil.which("sh") or "sh", *started(line)[1:]]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stderr
        assert process.stderr.readline() == b"begun\n"
        process.send_signal(signal.SIGTERM)
        assert b"ended\n" in process.communicate(timeout=10)[1]
