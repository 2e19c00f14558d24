"""Sends webhooks as a PSP does: in order, again after the delays of its schedule, on demand twice or turned round."""

import asyncio
import contextlib
import heapq
import json
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp
import msgspec
from msgspec import Struct, structs

from doorbuster.simulators.host.clock import Clock

DEADLINE_S = 10.0
MAX_PENDING = 100_000
MAX_SHOWN = 10_000
MAX_COPIES = 10
MAX_RECEIPT_BYTES = 1024


class Webhook(Struct, frozen=True, order=True):
    """`id` is the same after a restart: it is made from the ledger entry that caused it."""

    id: str
    body: bytes
    at_ms: int


class Delivery(Struct, frozen=True, order=True):
    """Ordered by when it is due, then by when it was made."""

    due_ms: int
    seq: int
    webhook: Webhook
    attempts: int = 0


class Shown(Struct, frozen=True):
    """What the admin door tells of one webhook; `outcome` is pending, delivered or given_up."""

    id: str
    body: msgspec.Raw
    attempts: int
    outcome: str


class Style(Struct, frozen=True, forbid_unknown_fields=True):
    """`held` keeps all back until it is false again; each is sent `copies` times; `newest_first` turns it round."""

    held: bool = False
    copies: int = 1
    newest_first: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.copies <= MAX_COPIES:
            raise ValueError(f"copies is 1 to {MAX_COPIES}")


class Receipt(Struct, frozen=True):
    """What came back for a webhook: status 0 when nothing did; of the body only its beginning."""

    status: int
    content_type: str = ""
    body: bytes = b""


Headers = Callable[[Webhook, int], Mapping[str, str]]
Taken = Callable[[Receipt], bool]


def taken_with_200(receipt: Receipt) -> bool:
    return receipt.status == 200


class Outbox:
    """Guards what is to be sent. What is over is remembered in a file, so that a restart sends the rest and no more."""

    def __init__(
        self,
        url: str | None,
        schedule_ms: tuple[int, ...],
        headers: Headers,
        clock: Clock,
        file: Path,
        taken: Taken = taken_with_200,
    ) -> None:
        self._taken = taken
        self._url = url
        self._schedule_ms = schedule_ms
        self._headers = headers
        self._clock = clock
        self._heap: list[Delivery] = []
        self._sending: Delivery | None = None
        self._made = 0
        self._shown: dict[str, Shown] = {}
        self._order: deque[str] = deque()
        self._wake = asyncio.Event()
        self._done = set(file.read_text("ascii").split()) if file.exists() else set()
        self._file = file.open("a", encoding="ascii")
        self._session: aiohttp.ClientSession | None = None
        self.style = Style()

    def add(self, webhook: Webhook) -> None:
        """Never fails: without a URL, or too far behind, a webhook is only shown."""
        finished = webhook.id in self._done or self._url is None or len(self._heap) >= MAX_PENDING
        self._show(webhook, 0, "delivered" if webhook.id in self._done else "given_up" if finished else "pending")
        if not finished:
            self._made += 1
            heapq.heappush(self._heap, Delivery(webhook.at_ms, self._made, webhook))
            self._wake.set()

    def restyle(self, style: Style) -> None:
        self.style = style
        self._wake.set()

    def wake(self) -> None:
        """The clock was moved: something may be due."""
        self._wake.set()

    def shown(self) -> list[Shown]:
        return [self._shown[id_] for id_ in self._order]

    @property
    def is_idle(self) -> bool:
        """Nothing is on its way, and nothing is due now."""
        return self._sending is None and not (self._heap and self._heap[0].due_ms <= self._clock.now_ms())

    async def send_now(self, ids: list[str]) -> list[int]:
        """Send these, in this order, whatever became of them before; the HTTP status of each, 0 for none."""
        now_ms = self._clock.now_ms()
        webhooks = [Webhook(id_, bytes(self._shown[id_].body), now_ms) for id_ in ids]
        return [(await self._post(webhook, 0)).status for webhook in webhooks]

    async def run(self) -> None:
        """Until cancelled. One at a time, so the order is that of the events unless the style says otherwise."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session:
            self._session = session
            while True:
                self._wake.clear()
                self._sending = self._next()
                if self._sending is None:
                    # The machine's clock runs too: look again before long, also when nobody moved ours.
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), 0.25)
                    continue
                await self._deliver(self._sending)

    def close(self) -> None:
        self._file.close()

    def _next(self) -> Delivery | None:
        now_ms = self._clock.now_ms()
        if self.style.held or not self._heap or self._heap[0].due_ms > now_ms:
            return None
        if not self.style.newest_first:
            return heapq.heappop(self._heap)
        newest = max(delivery for delivery in self._heap if delivery.due_ms <= now_ms)
        self._heap.remove(newest)
        heapq.heapify(self._heap)
        return newest

    async def _deliver(self, delivery: Delivery) -> None:
        webhook = delivery.webhook
        receipts = [await self._post(webhook, delivery.attempts) for _ in range(self.style.copies)]
        attempts = delivery.attempts + 1
        if any(self._taken(receipt) for receipt in receipts):
            self._finish(webhook, attempts, "delivered")
        elif delivery.attempts >= len(self._schedule_ms):
            self._finish(webhook, attempts, "given_up")
        else:
            due_ms = self._clock.now_ms() + self._schedule_ms[delivery.attempts]
            heapq.heappush(self._heap, structs.replace(delivery, due_ms=due_ms, attempts=attempts))
            self._show(webhook, attempts, "pending")

    async def _post(self, webhook: Webhook, attempts: int) -> Receipt:
        if self._session is None or self._url is None:
            return Receipt(0)
        headers = {"content-type": "application/json", **self._headers(webhook, attempts)}
        try:
            async with self._session.post(
                self._url, data=webhook.body, headers=headers, allow_redirects=False
            ) as answer:
                return Receipt(answer.status, answer.content_type, await answer.content.read(MAX_RECEIPT_BYTES))
        except (aiohttp.ClientError, TimeoutError):
            return Receipt(0)

    def _finish(self, webhook: Webhook, attempts: int, outcome: str) -> None:
        self._done.add(webhook.id)
        self._file.write(webhook.id + "\n")
        self._file.flush()
        self._show(webhook, attempts, outcome)

    def _show(self, webhook: Webhook, attempts: int, outcome: str) -> None:
        if webhook.id not in self._shown:
            self._order.append(webhook.id)
            if len(self._order) > MAX_SHOWN:
                del self._shown[self._order.popleft()]
        self._shown[webhook.id] = Shown(webhook.id, msgspec.Raw(webhook.body), attempts, outcome)


class SendNow(Struct, frozen=True, forbid_unknown_fields=True):
    ids: list[str]


def parse_send_now(raw: bytes, known: list[Shown]) -> list[str]:
    """Raises ValueError for an id that is not shown, or more than 1000."""
    ids = msgspec.json.decode(raw, type=SendNow).ids
    unknown = set(ids) - {shown.id for shown in known}
    if unknown or len(ids) > 1000:
        raise ValueError(f"not shown: {json.dumps(sorted(unknown))}")
    return ids
