"""What account refuses. Login never says whether an address has an account."""

from __future__ import annotations

from doorbuster.platform.errors import Refusal


class EmailTaken(Refusal):
    code, status, title = "email_taken", 409, "This address has an account; log in"


class InvalidEmail(Refusal):
    code, status, title = "invalid_email", 400, "This is not an email address"


class WrongCredentials(Refusal):
    code, status, title = "wrong_credentials", 401, "Address and password do not belong together"


class TooManyAttempts(Refusal):
    code, status, title = "too_many_attempts", 429, "Too many failed logins for this address"


class RefreshTokenInvalid(Refusal):
    code, status, title = "refresh_token_invalid", 401, "This refresh token is not good any more; log in again"


class RefreshTokenReused(Refusal):
    code, status, title = "refresh_token_reused", 401, "This refresh token was used before; log in again"


class UnknownAccount(Refusal):
    code, status, title = "unknown_account", 404, "There is no such account"
