"""An image of a pretended world: what it runs, in place of files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from muelle.engines.fake.program import Program
from muelle.engines.protocol import Image

BASE_BYTES = 40 * 2**20


@dataclass(frozen=True)
class Site:
    files: Mapping[str, bytes]
    fallback: bool


@dataclass(frozen=True)
class KnownImage:
    image: Image
    program: Program
    environment: Mapping[str, str] = field(default_factory=dict)
    site: Site | None = None


def known_image(name: str, program: Program, environment: Mapping[str, str], site: Site | None = None) -> KnownImage:
    told = json.dumps([name, asdict(program), dict(environment)], sort_keys=True)
    size = BASE_BYTES + (sum(len(data) for data in site.files.values()) if site else 0)
    ports = (program.port_declared,) if program.port_declared else ()
    image = Image(f"sha256:{hashlib.sha256(told.encode()).hexdigest()}", size, ports)
    return KnownImage(image, program, environment, site)
