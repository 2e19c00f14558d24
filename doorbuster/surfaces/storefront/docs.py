"""The API's documentation page: Swagger UI from an installed package, so that it works without the network.

The files come from the package flask-swagger-ui, of which nothing but its folder of static files is used: neither it
nor Flask is ever imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_PACKAGE = "flask_swagger_ui"
# Every name that the page may ask for; nothing else is served. The files beside this one are ours.
_VENDORED = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}
_OURS = {"docs.css": "text/css", "docs.js": "text/javascript"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's content-security-policy: files and API of this shop; Swagger UI's own icons are data URLs."""


def docs_page() -> str:
    """The page as HTML. Its links to files change when the files do, so that these may be cached for long."""
    return (_HERE / "docs.html").read_text("utf-8").replace("VERSION", _version())


def asset(name: str) -> tuple[bytes, str] | None:
    """Content and media type of a file that the page uses, or None for any other name."""
    if name in _OURS:
        return (_HERE / name).read_bytes(), _OURS[name]
    if name in _VENDORED:
        return (_vendored() / name).read_bytes(), _VENDORED[name]
    return None


@cache
def _vendored() -> Path:
    """Where the package keeps Swagger UI. Finding a top-level package does not run its code."""
    found = importlib.util.find_spec(_PACKAGE)
    assert found is not None and found.submodule_search_locations, "flask-swagger-ui is a requirement of this package"
    return Path(found.submodule_search_locations[0]) / "dist"


@cache
def _version() -> str:
    """A short name of exactly these files: a browser that kept others asks again after an upgrade."""
    digest = hashlib.sha256()
    for name in sorted(_OURS):
        digest.update((_HERE / name).read_bytes())
    for name in sorted(_VENDORED):
        digest.update((_vendored() / name).read_bytes())
    return digest.hexdigest()[:12]
