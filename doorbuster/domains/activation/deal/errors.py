"""What deal refuses, with stable codes."""

from __future__ import annotations

from doorbuster.platform.errors import Refusal


class WindowPast(Refusal):
    code, status, title = "window_past", 422, "The deal would close before it could open"


class NoListPrice(Refusal):
    code, status, title = "no_list_price", 409, "An option of this deal has no list price"


class NotCheaper(Refusal):
    code, status, title = "not_cheaper", 422, "A deal price must be below the list price"
