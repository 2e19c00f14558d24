"""Asks beside the crowd: reads of the deal, and orders that must be refused; sees that refusals are problem+json.

The load generator keeps codes, not media types; this does, also in the seconds around a kill.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from typing import Any

import aiohttp
import msgspec

from doorbuster.drills.temporary_shop import DrilledShop
from doorbuster.drills.timedeal.crowd_plan import Sale
from doorbuster.drills.timedeal.shop_findings import Probes
from doorbuster.platform import tls

EVERY_S = 0.1
MAX_PROBES = 5_000
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_NAMED_MOST = 20
# What each probe is answered when all is well; 503 and 504 are allowed beside it.
_ASKS: tuple[tuple[str, str, int], ...] = (
    ("deal", "GET", 200),
    ("unknown_option", "POST", 404),
    ("bad_quantity", "POST", 400),
    ("no_token", "POST", 401),
)


async def probe_until(stop: asyncio.Event, shop: DrilledShop, sale: Sale, token: str) -> Probes:
    """Ask in turn until `stop`, EVERY_S apart, at most MAX_PROBES times."""
    counts: Counter[str] = Counter()
    odd: list[str] = []
    sent = 0
    connector = aiohttp.TCPConnector(ssl=tls.client_context(shop.as_client().authority))
    async with aiohttp.ClientSession(shop.url, connector=connector, timeout=_TIMEOUT) as session:
        while not stop.is_set() and sent < MAX_PROBES:
            name, method, usual = _ASKS[sent % len(_ASKS)]
            sent += 1
            try:
                said, fault = await _ask(session, name, method, usual, sale, token)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                said, fault = type(error).__name__, f"the edge did not answer: {error!r}"
            counts[f"{name} {said}"] += 1
            if fault:
                odd.append(f"probe {name}: {fault}")
            await asyncio.sleep(EVERY_S)
    return Probes(sent, dict(counts.most_common()), tuple(odd[:_NAMED_MOST]))


async def _ask(
    session: aiohttp.ClientSession, name: str, method: str, usual: int, sale: Sale, token: str
) -> tuple[str, str]:
    """(what was answered, what is wrong with it or "")."""
    headers = {} if name == "no_token" else {"authorization": f"Bearer {token}"}
    if method == "GET":
        async with session.get(f"/api/v1/deal/{sale.deal_id}") as answer:
            return await _judge(answer, usual)
    option = sale.option_ids[0] if name == "bad_quantity" else "00000000-0000-7000-8000-000000000000"
    body = {"lines": [{"option_id": option, "quantity": 0 if name == "bad_quantity" else 1}]}
    headers |= {"content-type": "application/json", "idempotency-key": secrets.token_hex(16)}
    async with session.post("/api/v1/order", data=msgspec.json.encode(body), headers=headers) as answer:
        return await _judge(answer, usual)


async def _judge(answer: aiohttp.ClientResponse, usual: int) -> tuple[str, str]:
    body = await answer.read()
    said = str(answer.status)
    if answer.status not in (usual, 503, 504):
        return said, f"answered {answer.status} instead of {usual}"
    if answer.status < 400:
        return said, ""
    try:
        problem: dict[str, Any] = msgspec.json.decode(body)
        said = f"{answer.status} {problem['code']}"
        complete = problem["status"] == answer.status and problem["detail"] and problem["request_id"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return said, f"{answer.status} without a readable problem document"
    if answer.content_type != "application/problem+json" or not complete:
        return said, f"{answer.status} as {answer.content_type}"
    return said, ""
