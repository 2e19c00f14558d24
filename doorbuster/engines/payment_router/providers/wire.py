"""What the wire formats of all providers share: strict JSON, references in a narrow charset, labels, headers."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from typing import Any, TypeVar

import msgspec

from doorbuster.engines.payment_router.outcome import ChargeOrder, HttpAnswer, Outcome, Result

T = TypeVar("T")

KST = dt.timezone(dt.timedelta(hours=9))
"""Korean providers count their days in Korean time."""
ID = re.compile(r"[A-Za-z0-9_.=-]{1,200}")
"""What a provider's id may look like before we keep it and put it into a path."""
_REFERENCE = re.compile(r"[A-Za-z0-9-]{1,40}(\.[0-9]{1,6}){0,2}")
_UNDERSCORED = re.compile(r"[A-Za-z0-9-]{1,40}(_[0-9]{1,6}){0,2}")
_LEAST_REFERENCE = 6


def read_json(body: bytes, type: type[T]) -> T | None:
    """This value, or None for anything that is not exactly its JSON.

    Stricter than either decoder alone: the standard one sees duplicate keys, bad UTF-8 in members we do not read and
    numbers without end; msgspec sees NaN, lone surrogates, and `700.0` or `true` where an integer belongs.
    """
    try:
        value = msgspec.json.decode(body, type=type)
        json.loads(body.decode("utf-8"), object_pairs_hook=_unique)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return value


def underscored(reference: str) -> str:
    """`{payment_id}.{n}` as `{payment_id}_{n}`, for providers whose order ids take no dot; 6 to 64 characters.

    Injective, because our references have no underscore. ValueError: this is not a reference of ours.
    """
    if _REFERENCE.fullmatch(reference) is None or len(reference) < _LEAST_REFERENCE:
        raise ValueError("a reference is a payment id and at most two numbers, with dots between them")
    return reference.replace(".", "_")


def dotted(wire: str) -> str:
    """The reverse of `underscored`; empty when it is none of ours."""
    ours = _UNDERSCORED.fullmatch(wire) is not None and len(wire) >= _LEAST_REFERENCE
    return wire.replace("_", ".") if ours else ""


def kept(reference: str) -> str:
    """A reference that came back as we gave it; empty when it is none of ours."""
    ours = _REFERENCE.fullmatch(reference) is not None and len(reference) >= _LEAST_REFERENCE
    return reference if ours else ""


def labelled(text: str, reference: str, limit: int) -> str:
    """Free text for a provider that keeps it, ending in `[reference]`, in at most `limit` bytes of UTF-8.

    So a refund can be recognised as ours where a provider keeps no reference of a refund.
    """
    label = f"[{reference}]"
    room = limit - len(label) - 1
    words = "".join(sign for sign in text if sign.isprintable() and sign not in '[]"')
    cut = words.encode("utf-8", "replace")[: max(room, 0)].decode("utf-8", "ignore").strip()
    return f"{cut} {label}" if cut else label


def is_labelled(text: str, reference: str) -> bool:
    """Whether `labelled` wrote this text for this reference."""
    return text == f"[{reference}]" or text.endswith(f" [{reference}]")


def shortened(text: str, limit: int, otherwise: str) -> str:
    """Printable text in at most `limit` bytes of UTF-8; `otherwise` when nothing is left."""
    words = "".join(sign for sign in text if sign.isprintable() and sign not in '"|')
    return words.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").strip() or otherwise


def basic(user: str, password: str) -> str:
    """The value of an Authorization header, scheme Basic."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def unreadable(answer: HttpAnswer) -> Result:
    """What is known when the bytes are not the document that was promised."""
    return Result(Outcome.UNKNOWN, code=f"unreadable_{answer.status}")


def path_id(text: str) -> str:
    """An id for use in a path. ValueError: it has signs that no id has."""
    if ID.fullmatch(text) is None or set(text) == {"."}:
        raise ValueError("this is not an id of the provider")
    return text


def is_ours(order: ChargeOrder, amount: int, currency: str) -> bool:
    """Whether an answer speaks of exactly our money. Currencies compare in any case of letters."""
    return amount == order.amount_minor and currency.upper() == order.currency


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found
