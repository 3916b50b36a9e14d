"""Fetches the scripts and styles of the API's documentation pages again, with npm, and writes down what they are.

    python scripts/renew_assets.py                           the versions of VERSIONS.json, again: nothing should change
    python scripts/renew_assets.py swagger-ui-dist@5.35.0    another version of one of them

Afterwards run tests/kit/test_docs_pages.py with a Chromium at hand, and read the licences if they changed.

redoc stays at 2: its 3 reports to its makers unless told not to, takes icons from their servers, and is twice as large.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tarfile
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).resolve().parent.parent / "src/muelle/kit/http/assets"
VERSIONS = ASSETS / "VERSIONS.json"
NPM_SECONDS = 300

# What is taken of each package (a pattern within it), and under which name.
WANTED = {
    "swagger-ui-dist": {
        "swagger-ui-bundle.js": "swagger-ui-bundle.js",
        "swagger-ui.css": "swagger-ui.css",
        "favicon-32x32.png": "favicon.png",
        "LICENSE": "swagger-ui.LICENSE.txt",
        "NOTICE": "swagger-ui.NOTICE.txt",
        "swagger-ui-bundle.js.LICENSE.txt": "swagger-ui-bundle.js.LICENSE.txt",
    },
    "redoc": {
        "bundles/redoc.standalone.js": "redoc.standalone.js",
        "LICENSE": "redoc.LICENSE.txt",
        "bundles/redoc.standalone.js.LICENSE.txt": "redoc.standalone.js.LICENSE.txt",
        "bundles/*.worker.js.LICENSE.txt": "redoc.worker.js.LICENSE.txt",
    },
}


def main() -> None:
    reader = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    reader.add_argument("package", nargs="*", help="NAME@VERSION; those not named stay at their version")
    versions = {entry["name"]: entry["version"] for entry in _written_down()}
    for package in reader.parse_args().package:
        name, _, version = package.rpartition("@")
        versions[name] = version
    if versions.keys() != WANTED.keys():
        reader.error(f"the packages are {' and '.join(WANTED)}, each with a version: NAME@VERSION")
    entries = [_renew(name, versions[name]) for name in WANTED]
    VERSIONS.write_text(json.dumps({"packages": entries}, indent=2) + "\n", encoding="utf-8")


def _written_down() -> list[dict[str, Any]]:
    if not VERSIONS.exists():
        return []
    entries: list[dict[str, Any]] = json.loads(VERSIONS.read_text(encoding="utf-8"))["packages"]
    return entries


def _renew(name: str, version: str) -> dict[str, Any]:
    contents = _fetch(name, version)
    about = json.loads(contents["package.json"])
    files = {}
    for pattern, kept_as in WANTED[name].items():
        (found,) = (path for path in contents if fnmatch(path, pattern))
        (ASSETS / kept_as).write_bytes(contents[found])
        files[kept_as] = hashlib.sha256(contents[found]).hexdigest()
    return {"name": name, "version": about["version"], "licence": about["license"], "files": files}


def _fetch(name: str, version: str) -> dict[str, bytes]:
    """The files of the package, by their paths in it. npm checks the archive's own checksum; no script of it runs."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(  # noqa: S603
            ["npm", "pack", "--silent", "--ignore-scripts", f"{name}@{version}"],  # noqa: S607
            cwd=folder,
            check=True,
            timeout=NPM_SECONDS,
            stdout=subprocess.DEVNULL,
        )
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as packed:
            members = [member for member in packed if member.isfile()]
            return {
                member.name.removeprefix("package/"): reader.read()
                for member in members
                if (reader := packed.extractfile(member)) is not None
            }


if __name__ == "__main__":
    main()
