"""Dockerfiles that a source brings: read as Docker reads them, and changed in nothing that they do."""

from __future__ import annotations

import pytest

from muelle.engines.docker.own_dockerfile import bases, instructions, labelled
from muelle.engines.protocol import BuildFailed

LABELS = {"muelle.installation": "here"}
MARK = 'LABEL muelle.installation="here"'


def test_instructions_go_over_lines_and_comments() -> None:
    text = "# syntax=docker/dockerfile:1\nfrom a\n\nRUN one \\\n  # not this\n\n  two\n CMD x"
    assert [(one.name, one.rest) for one in instructions(text)] == [("FROM", "a"), ("RUN", "one   two"), ("CMD", "x")]


def test_another_character_may_let_a_line_go_on() -> None:
    text = "# escape=`\nFROM a\nRUN dir C:\\\nRUN a `\n b\n"
    assert [one.rest for one in instructions(text)] == ["a", "dir C:\\", "a  b"]


def test_a_line_that_goes_on_to_nowhere_ends_with_the_file() -> None:
    assert [one.name for one in instructions("FROM a\nRUN b \\\n# end\n")] == ["FROM", "RUN"]


def test_each_stage_is_labelled() -> None:
    text = "FROM a AS one\nRUN x\nFROM \\\n b\nRUN y"
    assert labelled(text, LABELS) == f"FROM a AS one\n{MARK}\nRUN x\nFROM \\\n b\n{MARK}\nRUN y\n"


def test_the_prelude_stands_before_what_a_shell_runs() -> None:
    text = 'FROM a\nRUN one\nrun two \\\n three\nRUN \\\n four\nRUN ["five"]\n'
    text += 'SHELL ["python", "-c"]\nRUN six\nFROM b\nRUN seven'
    assert labelled(text, {}, "P; ").replace("LABEL \n", "") == (
        'FROM a\nRUN P; one\nrun P; two \\\n three\nRUN P; \\\n four\nRUN ["five"]\n'
        'SHELL ["python", "-c"]\nRUN six\nFROM b\nRUN P; seven\n'
    )


def test_wishes_for_a_cache_are_left_out() -> None:
    text = (
        "FROM a\nRUN --mount=type=cache,target=/r \\\n  --mount=target=/q,type=cache pip install\n"
        "COPY --link --chown=1 a b\nRUN --mount=type=bind,source=a x\nRUN echo --mount=type=cache\n# end"
    )
    assert labelled(text, LABELS, "P; ") == (
        f"FROM a\n{MARK}\nRUN P; pip install\nCOPY --chown=1 a b\n"
        "RUN --mount=type=bind,source=a x\nRUN P; echo --mount=type=cache\n# end\n"
    )


def test_a_shell_of_another_name_is_one_as_well() -> None:
    text = 'FROM a\nSHELL ["/bin/bash", "-o", "pipefail", "-c"]\nRUN one'
    assert "RUN P; one" in labelled(text, LABELS, "P; ")


def test_bases_are_what_is_not_made_here() -> None:
    text = """
ARG TAG=3 OTHER="x"
FROM --platform=linux/amd64 python:${TAG} AS build
FROM build AS next
FROM $EMPTY${NAME:-nginx}:${TAG:+alpine}
COPY --from=build /a /b
COPY --chown=1:1 --from=golang:1 /a /b
COPY --from=0 /a /b
RUN curl 'http://x/?from=abc'
ONBUILD COPY --from=alpine:3 /a /b
FROM scratch
"""
    assert bases(text, {}) == ["python:3", "nginx:alpine", "golang:1", "alpine:3"]
    assert bases(text, {"TAG": "4"})[0] == "python:4"
    assert bases(text, {"UNKNOWN": "4"})[0] == "python:3"


@pytest.mark.parametrize("name", ["a", "c0ffee", "sha256:" + "a" * 64, "0123456789ab", "5"])
def test_what_could_be_an_id_is_refused(name: str) -> None:
    with pytest.raises(BuildFailed, match="id"):
        bases(f"FROM {name}\n", {})
    with pytest.raises(BuildFailed, match="id"):
        bases(f"ARG X={name}\nFROM ${{X}}", {})


def test_with_a_tag_it_is_a_name() -> None:
    assert bases("FROM ada:latest", {}) == ["ada:latest"]


@pytest.mark.parametrize("text", ["FROM $UNKNOWN", "FROM", "FROM a$", "FROM nginx\nCOPY --from=$X a b"])
def test_what_is_not_clear_is_refused(text: str) -> None:
    with pytest.raises(BuildFailed):
        bases(text, {})


def test_there_are_not_endlessly_many_instructions() -> None:
    with pytest.raises(BuildFailed):
        instructions("FROM a\n" + "RUN b\n" * 600)
