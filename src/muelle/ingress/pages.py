"""What is shown where there is no workload to answer: why, in the reader's language and in the form that they can read.

People get a page, programs that prefer JSON get `{"error", "why"}`, and whoever takes anything (`curl`) gets two lines
of text. Nothing here refers to anything elsewhere, and no text of a tenant gets into a page unescaped.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

REFRESH_SECONDS = 3
LONGEST_WHY = 500
MOST_PREFERENCES = 20
"""How many parts of an `Accept` are looked at: it comes from anybody."""


class Reason(StrEnum):
    UNKNOWN = "unknown_name"
    STARTING = "starting"
    STOPPED = "stopped"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    SILENT = "no_answer_in_time"
    NONSENSE = "answer_not_understood"
    BUSY = "too_busy"


@dataclass(frozen=True)
class Words:
    title: str
    text: str


@dataclass(frozen=True)
class Page:
    status: int
    content_type: str
    body: bytes
    retry_seconds: int = 0


STATUS: Mapping[Reason, int] = {
    Reason.UNKNOWN: 404,
    Reason.STARTING: 503,
    Reason.STOPPED: 503,
    Reason.FAILED: 503,
    Reason.BUSY: 503,
    Reason.UNREACHABLE: 502,
    Reason.NONSENSE: 502,
    Reason.SILENT: 504,
}

PASSES_BY_ITSELF = frozenset({Reason.STARTING, Reason.BUSY})
"""Worth asking again soon."""

ENGLISH: Mapping[Reason, Words] = {
    Reason.UNKNOWN: Words("Nothing here", "No application answers to this name."),
    Reason.STARTING: Words("Starting", "This application is starting. The page tries again by itself."),
    Reason.STOPPED: Words("Stopped", "This application has been stopped by its owner."),
    Reason.FAILED: Words("Not running", "This application could not be kept running."),
    Reason.UNREACHABLE: Words("No connection", "This application does not accept connections at the moment."),
    Reason.NONSENSE: Words("Garbled answer", "This application gave an answer that is not proper HTTP."),
    Reason.SILENT: Words("No answer", "This application did not answer in time."),
    Reason.BUSY: Words("Too busy", "This application has more requests under way than it may have at once."),
}

SPANISH: Mapping[Reason, Words] = {
    Reason.UNKNOWN: Words("Aquí no hay nada", "Ninguna aplicación responde a este nombre."),
    Reason.STARTING: Words("Arrancando", "Esta aplicación está arrancando. La página lo reintenta sola."),
    Reason.STOPPED: Words("Detenida", "Su dueño ha detenido esta aplicación."),
    Reason.FAILED: Words("No está en marcha", "No se ha podido mantener en marcha esta aplicación."),
    Reason.UNREACHABLE: Words("Sin conexión", "Esta aplicación no acepta conexiones en este momento."),
    Reason.NONSENSE: Words("Respuesta ilegible", "La respuesta de esta aplicación no es HTTP correcto."),
    Reason.SILENT: Words("Sin respuesta", "Esta aplicación no ha respondido a tiempo."),
    Reason.BUSY: Words("Demasiado ocupada", "Esta aplicación ya atiende todas las peticiones que puede a la vez."),
}

LANGUAGES: Mapping[str, Mapping[Reason, Words]] = {"en": ENGLISH, "es": SPANISH}

HTML = "text/html"
JSON = "application/json"
PLAIN = "text/plain"


def page(reason: Reason, *, host: str = "", why: str = "", accept: str = "", accept_language: str = "") -> Page:
    """The page for a reason; `why` is the workload's own, a sentence."""
    language = preferred(accept_language, ("en", "es"))
    words = LANGUAGES[language][reason]
    why = " ".join(why.split())[:LONGEST_WHY]
    again = REFRESH_SECONDS if reason in PASSES_BY_ITSELF else 0
    kind = PLAIN if accept.strip() in ("", "*/*") else preferred(accept, (HTML, JSON, PLAIN))
    if kind == JSON:
        text = json.dumps({"error": reason.value, "why": why or words.text}, ensure_ascii=False) + "\n"
    elif kind == PLAIN:
        text = "\n".join(part for part in (f"{words.title}: {words.text}", why) if part) + "\n"
    else:
        text = _as_html(reason, words, language, host, why, again)
    content_type = kind if kind == JSON else f"{kind}; charset=utf-8"
    return Page(STATUS[reason], content_type, text.encode(errors="replace"), again)


def preferred(header: str, offered: tuple[str, ...]) -> str:
    """Which of these an `Accept` or `Accept-Language` likes best; the first one where it says nothing of them."""
    liking = dict.fromkeys(offered, 0.0)
    for part in header.lower().split(",")[:MOST_PREFERENCES]:
        name, _, parameters = part.strip().partition(";")
        for choice in offered:
            if _covers(name.strip(), choice):
                liking[choice] = max(liking[choice], _quality(parameters))
    return max(offered, key=liking.__getitem__)


def _covers(name: str, choice: str) -> bool:
    """Whether `text/*` or `es-MX` speaks of it. `*/*` speaks of all alike, and so decides nothing."""
    kind, _, _ = choice.partition("/")
    return name in (choice, f"{kind}/*") or ("/" not in choice and name.startswith(f"{choice}-"))


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def _as_html(reason: Reason, words: Words, language: str, host: str, why: str, again: int) -> str:
    refresh = f'<meta http-equiv="refresh" content="{again}">' if again else ""
    because = f'<p class="why">{html.escape(why)}</p>' if why else ""
    return TEMPLATE.format(
        language=language,
        refresh=refresh,
        title=html.escape(words.title),
        text=html.escape(words.text),
        why=because,
        host=html.escape(host),
        status=STATUS[reason],
    )


TEMPLATE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
{refresh}
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; --ink: #16324a; --faint: #5d7486; --sea: #eef4f7; --card: #fff; --rope: #e0784a }}
  @media (prefers-color-scheme: dark) {{
    :root {{ --ink: #e6eef4; --faint: #93a9ba; --sea: #0e1a24; --card: #162531; --rope: #f09a6e }}
  }}
  * {{ box-sizing: border-box }}
  body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem;
         font: 1.05rem/1.6 system-ui, sans-serif; color: var(--ink); background: var(--sea) }}
  main {{ max-width: 34rem; width: 100%; padding: 2.5rem; background: var(--card); border-radius: 1rem;
         border-top: .35rem solid var(--rope); box-shadow: 0 1rem 3rem rgb(0 20 40 / .12) }}
  h1 {{ margin: 0 0 .5rem; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.02em }}
  p {{ margin: 0 0 1rem }}
  .why {{ padding: .75rem 1rem; border-radius: .5rem; background: var(--sea); overflow-wrap: anywhere }}
  footer {{ color: var(--faint); font-size: .85rem; overflow-wrap: anywhere }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>
{why}
<footer>{status} · {host}</footer>
</main>
</body>
</html>
"""
