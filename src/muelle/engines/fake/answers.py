"""What a pretended program answers over HTTP: its site's files, or a description of itself."""

from __future__ import annotations

import mimetypes
from urllib.parse import unquote, urlsplit

from muelle.engines.fake.door import Answer, as_json
from muelle.engines.fake.image import Site
from muelle.engines.fake.instance import Instance

INDEX = "index.html"


def answer_of(instance: Instance, path: str) -> Answer:
    if instance.image.site is not None:
        return page_of(instance.image.site, path)
    order = instance.order
    return as_json(
        instance.program.status,
        {
            "path": path,
            "instance": order.name,
            "workload": order.workload,
            "image": order.image,
            "command": list(order.command),
            "environment": instance.environment(),
        },
    )


def page_of(site: Site, path: str) -> Answer:
    name = unquote(urlsplit(path).path).strip("/")
    for place in (name, f"{name}/{INDEX}".lstrip("/"), INDEX if site.fallback else ""):
        if place in site.files:
            return Answer(200, mimetypes.guess_type(place)[0] or "application/octet-stream", site.files[place])
    return Answer(404, "text/plain", b"not found\n")
