"""`muelle config show`: the settings in force, as they may be seen."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from pydantic import SecretStr

from muelle import config


def show_settings(*, as_json: bool) -> None:
    loaded = config.load_with_sources()
    rows = {name: (_shown(value), loaded.source(name)) for name, value in loaded.settings}
    if as_json:
        found = {name: {"value": value, "from": source} for name, (value, source) in rows.items()}
        print(json.dumps(found, default=str))
        return
    print(f"File: {loaded.file}{'' if loaded.file.exists() else ' (not there)'}\n")
    for name, (value, source) in rows.items():
        print(f"{name:<24} {source:<12} {value}")


def _shown(value: object) -> object:
    """A setting as it may be seen."""
    if isinstance(value, SecretStr):
        return "(set)" if value.get_secret_value() else ""
    if isinstance(value, str) and "@" in value and "://" in value:  # an address that bears a password
        parts = urlsplit(value)
        return f"{parts.scheme}://(set)@{parts.netloc.rpartition('@')[2]}"
    if isinstance(value, dict):
        return {name: getattr(inner, "issuer", inner) for name, inner in value.items()}
    return value
