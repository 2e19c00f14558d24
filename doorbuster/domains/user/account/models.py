"""Public values of account: what people send and what they get."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

Role = Literal["shopper", "merchant", "admin"]
Email = Annotated[str, Meta(min_length=3, max_length=254)]
NewPassword = Annotated[str, Meta(min_length=10, max_length=128)]
RefreshToken = Annotated[str, Meta(min_length=1, max_length=128)]


class _Secret(Struct, frozen=True, forbid_unknown_fields=True):
    """A struct whose fields never show in a log or a traceback."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class SignUp(_Secret, frozen=True, forbid_unknown_fields=True):
    """A new account. The password has 10 to 128 characters of any kind."""

    email: Email
    password: NewPassword
    name: Annotated[str, Meta(max_length=255, pattern=r"^[^\u0000-\u001f\u007f]*$")] = ""


class Credentials(_Secret, frozen=True, forbid_unknown_fields=True):
    """Who wants to log in."""

    email: Email
    password: Annotated[str, Meta(min_length=1, max_length=128)]


class Refresh(_Secret, frozen=True, forbid_unknown_fields=True):
    """The refresh token of the last answer; each is good once."""

    refresh_token: RefreshToken


class Account(Struct, frozen=True):
    """Who somebody is."""

    id: UUID
    email: str
    name: str
    roles: tuple[Role, ...]
    created_at: datetime


class Tokens(_Secret, frozen=True):
    """What a login gives: an access token for `expires_in` seconds and the refresh token to get the next ones."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
