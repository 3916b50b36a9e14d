"""`muelle config show`: the settings in force, as they may be seen."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from pydantic import SecretStr

from muelle import config


def show_settings(*, as_json: bool) -> None:
    loaded = config.load_with_sources()
    rows = {name: (_shown(name, value), loaded.source(name)) for name, value in loaded.settings}
    if as_json:
        found = {name: {"value": value, "from": source} for name, (value, source) in rows.items()}
        print(json.dumps(found, default=str))
        return
    print(f"File: {loaded.file}{'' if loaded.file.exists() else ' (not there)'}\n")
    for name, (value, source) in rows.items():
        print(f"{name:<24} {source:<12} {value}")


def _shown(name: str, value: object) -> object:
    """A setting as it may be seen."""
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return _without_a_password(text) if name == "mail" else "(set)" if text else ""
    if isinstance(value, str):
        return _without_a_password(value)
    if isinstance(value, dict):
        return {key: getattr(inner, "issuer", inner) for key, inner in value.items()}
    return value


def _without_a_password(text: str) -> str:
    """Where an address leads is worth seeing; who may go there is not."""
    if "@" not in text or "://" not in text:
        return text
    parts = urlsplit(text)
    return f"{parts.scheme}://(set)@{parts.netloc.rpartition('@')[2]}"
