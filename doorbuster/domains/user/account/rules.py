"""Pure decisions of account: which addresses are one, may a login be tried, what is a refresh token good for."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from doorbuster.domains.user.account.errors import InvalidEmail

ACCESS_LIFETIME_S = 900
REFRESH_LIFETIME = timedelta(days=30)
ATTEMPT_LIMIT = 10
ATTEMPT_WINDOW = timedelta(minutes=15)

# The dot-atom of RFC 5322 §3.2.3, with letters of any script as RFC 6531 has them; quoted local parts are not taken.
_LOCAL = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def normalised_email(text: str) -> str:
    """The one spelling of an address: NFC, lower case, the domain in ASCII (IDNA). Refuses `InvalidEmail`.

    Mail systems treat the local part as they like; two accounts that differ only in capitals would fool people.
    """
    local, at, domain = unicodedata.normalize("NFC", text).strip().lower().rpartition("@")
    try:
        host = domain.encode("idna").decode()
    except UnicodeError:
        raise InvalidEmail() from None
    labels = host.split(".")
    sound = bool(at) and len(local.encode()) <= 64 and _LOCAL.fullmatch(local) is not None
    if not sound or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidEmail()
    email = f"{local}@{host}"
    if len(email) > 254 or email != email.lower():
        raise InvalidEmail()
    return email


def normalised_password(text: str) -> str:
    """One spelling for what is typed on different keyboards (NFKC, as NIST SP 800-63B §5.1.1.2 advises)."""
    return unicodedata.normalize("NFKC", text)


def retry_after_s(attempts: int, began_at: datetime, now: datetime) -> int:
    """Seconds until the next login may be tried; 0 when it may be tried now. `attempts` counts this one."""
    if attempts <= ATTEMPT_LIMIT:
        return 0
    return max(1, int((began_at + ATTEMPT_WINDOW - now).total_seconds()) + 1)


class TokenRow(msgspec.Struct, frozen=True):
    """What the store knows of a refresh token, read under the lock of its family."""

    used: bool
    expires_at: datetime
    revoked: bool


class Verdict(StrEnum):
    """What a presented refresh token is good for."""

    GOOD = "good"
    REUSED = "reused"
    """It was used before: somebody has a copy, and nobody can say who; the family is revoked (RFC 9700 §4.14.2)."""
    INVALID = "invalid"


def judged(token: TokenRow | None, now: datetime) -> Verdict:
    """Strict: there is no grace in which a used token is good again."""
    if token is None:
        return Verdict.INVALID
    if token.used:
        return Verdict.REUSED
    if token.revoked or now >= token.expires_at:
        return Verdict.INVALID
    return Verdict.GOOD
