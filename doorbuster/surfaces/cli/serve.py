"""`doorbuster serve`: one service in the foreground, as a container runs it, with what its settings file says."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from doorbuster import map, services
from doorbuster.engines.embedded import StartError
from doorbuster.platform import settings


def serve(
    names: Annotated[list[str], typer.Argument(metavar="GROUP[.DOMAIN]...", help="Groups, domains, and `storefront`.")],
    listen: Annotated[
        str, typer.Option(help="Where: `unix:/path/to.sock`, or `host:port` with an edge_secret_file in the settings.")
    ],
    settings_file: Annotated[
        Path, typer.Option("--settings", envvar="DOORBUSTER_SETTINGS", help="Databases, addresses, keys (JSON).")
    ],
) -> None:
    """Serve some groups or domains: routes, verbs for the other services, consumers and sweepers."""
    try:
        read = settings.load(str(settings_file))
    except (OSError, msgspec.MsgspecError) as error:
        raise StartError(f"{settings_file} cannot be read: {error}", "It is one JSON object; see Settings.") from error
    serves = _domains(names)
    missing = [one for one in serves if one != services.STOREFRONT and one not in read.databases]
    if missing:
        raise StartError(f"{settings_file} says no database for {', '.join(missing)}.", "Add it under `databases`.")
    if not listen.startswith("unix:") and not read.edge_secret_file:
        raise StartError(
            "On a network anybody could claim to be the edge.",
            "Name an edge_secret_file in the settings, the same as the edge's, or listen on unix:/path.",
        )
    argv = [sys.executable, "-m", "doorbuster.app", "--listen", listen, "--settings", str(settings_file)]
    os.execv(sys.executable, [*argv, "--service", "+".join(names), "--serve", *serves])  # noqa: S606  (no shell)


def _domains(names: list[str]) -> tuple[str, ...]:
    """The domains that groups and domains name, once each. Raises StartError for what is not built."""
    found: dict[str, None] = {}
    for name in names:
        built = services.domains_of(name) if name != services.WHOLE else ()
        if not built and name != services.STOREFRONT:
            known = ", ".join(dict.fromkeys([d.group for d in map.BUILT] + [d.id for d in map.BUILT]))
            raise StartError(f"There is no service {name!r} to run.", f"There are {known}, {services.STOREFRONT}.")
        found |= dict.fromkeys(built or (services.STOREFRONT,))
    return tuple(found)
