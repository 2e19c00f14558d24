"""Single cells of a Shopify product CSV turned into values: prices, quantities, handles, links. Pure; a cell that is
wrong raises `BadCell` with a sentence for the person who has the file open."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

from doorbuster.platform import money

MAX_TEXT = 255
"""Characters in a handle, title, brand, category, tag, option name, option value, SKU or barcode."""
MAX_DESCRIPTION_BYTES = 64 * 1024
MAX_QUANTITY = 1_000_000_000
MAX_TAGS = 250
_MAX_URL = 2_048
_MAX_ALT = 512
_MAX_POSITION = 10_000

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_LINE_BREAKS = re.compile(r"[\r\n\t]+")
_PRICE = re.compile(r"[0-9]{1,18}(?:\.([0-9]{1,6}))?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,12}", re.ASCII)
_GROUPED = re.compile(r"[0-9]{1,3}([ ,.'’_\u00a0\u202f])[0-9]{3}(?:\1[0-9]{3})*(?:[.,][0-9]+)?", re.ASCII)


class BadCell(ValueError):
    """This cell cannot be taken; the message says why and what to write instead."""


def has_forbidden_character(text: str) -> bool:
    """Whether the text holds a control character (also NUL) or half a surrogate pair: no column can store it."""
    return _FORBIDDEN.search(text) is not None


def price_minor(text: str, currency: str) -> int:
    """An amount as integer minor units of `currency` (ISO 4217 exponent), exactly; raises `BadCell`.

    At most two decimals, or as many as the currency has if more: Shopify writes `50000.00` for won, but `1.000` in
    dollars may be a thousand to whoever typed it, so it is refused and not guessed.
    """
    digits = money.exponent(currency)
    if text.startswith(("-", "−", "(")):
        raise BadCell(f"{_shown(text)} is negative; a price is zero or more")
    if "," in text or (_GROUPED.fullmatch(text) and not _PRICE.fullmatch(text)):
        raise BadCell(f"{_shown(text)} has a comma or a thousands separator; write digits and one point, like 1234.50")
    match = _PRICE.fullmatch(text)
    if match is None:
        raise BadCell(f"{_shown(text)} is not a price; write digits and at most one point, like 1234.50")
    amount = Decimal(text).scaleb(digits)
    if len(match[1] or "") > max(digits, 2) or amount != amount.to_integral_value():
        raise BadCell(f"{_shown(text)} has too many decimals; {currency} has {digits}")
    if amount > money.MAX_MINOR:
        raise BadCell(f"{_shown(text)} is more than the largest price, {money.display(money.MAX_MINOR, currency)}")
    return int(amount)


def selling_price_minor(text: str, currency: str) -> int:
    """`price_minor` of something that is sold: one unit at least. Raises `BadCell`, also for an empty cell."""
    minor = price_minor(text or "0", currency)
    if minor == 0:
        raise BadCell("the price is missing or zero; this shop sells nothing for nothing")
    return minor


def quantity(text: str) -> int:
    """Pieces in stock; an empty cell is 0. Raises `BadCell`."""
    if not text:
        return 0
    if text.startswith(("-", "−")):
        raise BadCell(f"{_shown(text)} is negative; a quantity is zero or more")
    if not _WHOLE.fullmatch(text):
        raise BadCell(f"{_shown(text)} is not a whole number")
    if int(text) > MAX_QUANTITY:
        raise BadCell(f"{_shown(text)} is more than the largest quantity, {MAX_QUANTITY}")
    return int(text)


def check_handle(text: str) -> None:
    """Raises `BadCell` unless the text is lower-case letters of any script, digits, `-` and `_`."""
    if not text:
        raise BadCell("the handle is empty; every row names its product")
    if len(text) > MAX_TEXT:
        raise BadCell(f"the handle has {len(text)} characters; at most {MAX_TEXT}")
    wrong = next((c for c in text if c not in "-_" and unicodedata.category(c)[0] not in "LMN"), None)
    if wrong is not None:
        raise BadCell(f"{_shown(text)} holds {wrong!r}; a handle has letters, digits and hyphens only")
    if text != text.lower():
        raise BadCell(f"{_shown(text)} has capitals; write {_shown(text.lower())}")


def line_of_text(text: str, limit: int = MAX_TEXT) -> str:
    """A cell that must fit on one line: breaks inside become a space. Raises `BadCell` when it is too long."""
    text = flattened(text)
    if len(text) > limit:
        raise BadCell(f"it has {len(text)} characters; at most {limit}")
    return text


def flattened(text: str) -> str:
    """The text on one line: every line break inside becomes a space."""
    return _LINE_BREAKS.sub(" ", text)


def description(text: str) -> str:
    """The description as it stands, with its HTML. Raises `BadCell` above 64 KiB of UTF-8."""
    if len(text) * 4 > MAX_DESCRIPTION_BYTES and len(text.encode("utf-8", "replace")) > MAX_DESCRIPTION_BYTES:
        raise BadCell(f"the description is longer than {MAX_DESCRIPTION_BYTES // 1024} KiB")
    return text


def tags(text: str) -> tuple[str, ...]:
    """Tags apart at commas, each once, in order. Raises `BadCell`."""
    found = tuple(dict.fromkeys(tag for part in text.split(",") if (tag := line_of_text(part.strip()))))
    if len(found) > MAX_TAGS:
        raise BadCell(f"{len(found)} tags; at most {MAX_TAGS}")
    return found


def flag(text: str) -> bool:
    """TRUE or FALSE in any case; an empty cell is TRUE, as Shopify publishes it. Raises `BadCell`."""
    plain = text.casefold()
    if plain not in ("", "true", "false"):
        raise BadCell(f"{_shown(text)} is neither TRUE nor FALSE")
    return plain != "false"


def is_active(text: str) -> bool:
    """Shopify's status: active (or empty) is for sale; draft, archived and unlisted are not. Raises `BadCell`."""
    plain = text.casefold()
    if plain not in ("", "active", "draft", "archived", "unlisted"):
        raise BadCell(f"{_shown(text)} is not a status; write active, draft or archived")
    return plain in ("", "active")


def url(text: str) -> str:
    """A link to a picture: https, or a picture of this shop, as the catalogue takes it. Raises `BadCell`."""
    if len(text) > _MAX_URL:
        raise BadCell(f"the link has {len(text)} characters; at most {_MAX_URL}")
    if not text.startswith(("https://", "/api/v1/catalog/media/")):
        raise BadCell(f"{_shown(text)} is not a link to a picture; it begins with https://")
    if any(c <= " " or c == "\x7f" or c in "<>\"'`\\" for c in text):
        raise BadCell(f"{_shown(text)} holds a space, quote or bracket; write it as %20 and so on")
    return text


def alt(text: str) -> str:
    """What a picture shows, in words. Raises `BadCell`."""
    return line_of_text(text, _MAX_ALT)


def position(text: str, following: int) -> int:
    """A picture's place, from 1; an empty cell is `following`. Raises `BadCell`."""
    if not text:
        return following
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= _MAX_POSITION:
        raise BadCell(f"{_shown(text)} is not a position from 1 to {_MAX_POSITION}")
    return int(text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
