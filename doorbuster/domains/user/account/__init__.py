"""Account owns who somebody is: addresses, passwords, sessions, roles, and the key that signs access tokens.

Passwords are argon2id hashes; refresh tokens are stored as SHA-256, each good once, and one that comes twice ends its
session. Login neither says nor shows by its time whether an address is known. No secret is ever logged.
"""

from doorbuster.domains.user.account import keys
from doorbuster.domains.user.account.errors import (
    EmailTaken,
    InvalidEmail,
    RefreshTokenInvalid,
    RefreshTokenReused,
    TooManyAttempts,
    UnknownAccount,
    WrongCredentials,
)
from doorbuster.domains.user.account.models import Account, Credentials, Refresh, Role, SignUp, Tokens
from doorbuster.domains.user.account.service import grant_role, log_in, log_out, me, refresh, remove_expired, sign_up

__all__ = [
    "Account",
    "Credentials",
    "EmailTaken",
    "InvalidEmail",
    "Refresh",
    "RefreshTokenInvalid",
    "RefreshTokenReused",
    "Role",
    "SignUp",
    "Tokens",
    "TooManyAttempts",
    "UnknownAccount",
    "WrongCredentials",
    "grant_role",
    "keys",
    "log_in",
    "log_out",
    "me",
    "refresh",
    "remove_expired",
    "sign_up",
]
