"""A till of its own for each test of reconciliation, and sound books after all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from doorbuster.domains.commerce.ledger.tests.till import Till
from doorbuster.engines import payment_router
from doorbuster.platform import settings
from doorbuster.platform.settings import Settings


@pytest.fixture
async def till(shop: Settings, sandbox: Any, tmp_path: Path) -> AsyncIterator[Till]:
    """A shop with one account, at a sandbox where nobody else pays."""
    folder = tmp_path / "psp"
    folder.mkdir()
    process = type(sandbox)(folder)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16)) as client:
        made = Till(process, client)
        settings.use(msgspec.structs.replace(shop, providers={made.account: made.login()}))
        yield made
    await payment_router.close()
    settings.use(shop)
    if process.process.poll() is None:
        process.stop()
