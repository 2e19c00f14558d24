"""What the catalogue refuses."""

from __future__ import annotations

from doorbuster.platform.errors import Refusal


class UnknownItem(Refusal):
    code, status, title = "unknown_item", 404, "There is no such item"


class UnknownMedia(Refusal):
    code, status, title = "unknown_media", 404, "There is no such picture"


class HandleTaken(Refusal):
    code, status, title = "handle_taken", 409, "Another item has this handle"


class DuplicateOption(Refusal):
    code, status, title = "duplicate_option", 400, "Two options of one item have the same values or the same id"


class DuplicateHandle(Refusal):
    code, status, title = "duplicate_handle", 400, "Two items of one import have the same handle"


class InvalidItem(Refusal):
    code, status, title = "invalid_item", 400, "The item contradicts itself"
