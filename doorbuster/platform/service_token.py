"""Which service calls: a token it signs with its own key for one callee, good for a minute (EdDSA).

Not mTLS alone: a mesh proves the other machine, and many have none; this proves the service wherever it runs, costs a
signature every half minute, and holds on a Unix socket, through a proxy and in a test alike. Encryption on the way is
the mesh's task (docs/how-to/run-services-apart.md).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from doorbuster.platform.errors import Unauthenticated

LIFETIME_S = 60
_RENEW_S = 30
_LEEWAY_S = 5
_KNOWN = 1_024
_ALGORITHM = "EdDSA"


def ensure_key(file: Path) -> str:
    """Make a service's private key (mode 0600) unless it is there; returns the public key as PEM."""
    if not file.exists():
        private = Ed25519PrivateKey.generate()
        part = file.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        part.replace(file)
    key = load_pem_private_key(file.read_bytes(), None)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class Signer:
    """Guards one service's tokens: one per callee, renewed in time."""

    def __init__(self, service: str, key_file: str) -> None:
        self._service = service
        self._key = Path(key_file).read_text()
        self._made: dict[str, tuple[float, str]] = {}

    def token_for(self, domain: str) -> str:
        """A token for calling this domain, good for at least half a minute."""
        now = time.time()
        until, token = self._made.get(domain, (0.0, ""))
        if now >= until:
            claims = {"iss": self._service, "aud": domain, "iat": int(now), "exp": int(now) + LIFETIME_S}
            token = jwt.encode(claims, self._key, algorithm=_ALGORITHM)
            self._made[domain] = (now + LIFETIME_S - _RENEW_S, token)
        return token


class Verifier:
    """Guards the tokens seen lately, so that each signature is checked once."""

    def __init__(self, public_keys: Mapping[str, str]) -> None:
        self._keys = dict(public_keys)
        self._known: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()

    def caller_of(self, token: str, domain: str) -> str:
        """The service that signed this token for calling `domain`. Raises Unauthenticated, which never says more."""
        now = time.time()
        until, service = self._known.get((token, domain), (0.0, ""))
        if now < until:
            return service
        try:
            service = str(jwt.decode(token, options={"verify_signature": False})["iss"])
            claims = jwt.decode(
                token, self._keys[service], algorithms=[_ALGORITHM], audience=domain, leeway=_LEEWAY_S,
                options={"require": ["iss", "aud", "iat", "exp"]},
            )  # fmt: skip
        except (jwt.PyJWTError, KeyError, ValueError):
            raise Unauthenticated("This call needs a token of a service of this shop") from None
        if claims["exp"] - claims["iat"] > LIFETIME_S:
            raise Unauthenticated("A service's token lives a minute at most")
        self._known[(token, domain)] = (float(claims["exp"]), service)
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return service
