"""The signing key: RSA 2048 in a PEM file, its public JWK set, and RS256 access tokens made with it. No database.

Formats: RFC 7517 (JWK set), RFC 7638 (key id), RFC 9068 (claims; `roles` is one string, because the edge copies it
into one header).
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from uuid import UUID

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from doorbuster.platform import ids

AUDIENCE = "doorbuster"
_BITS = 2048


def ensure_signing_key(path: str | Path) -> None:
    """Make the key (mode 0600) unless there is one. Safe at once from several processes: one key wins."""
    file = Path(path)
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=_BITS)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(pem)
            opened.flush()
            os.fsync(opened.fileno())
        # link() never replaces: a reader sees a whole key, and the second of two makers keeps the first one's.
        os.link(part, file)
    except FileExistsError:
        return
    finally:
        part.unlink()


@lru_cache(maxsize=8)
def _key(path: str) -> tuple[rsa.RSAPrivateKey, dict[str, str]]:
    key = serialization.load_pem_private_key(Path(path).read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < _BITS:
        raise ValueError(f"{path} holds no RSA key of at least {_BITS} bits; remove it, and a new one is made")
    numbers = key.public_key().public_numbers()
    thumb = {"e": _base64url(_octets(numbers.e)), "kty": "RSA", "n": _base64url(_octets(numbers.n))}
    kid = _base64url(hashlib.sha256(msgspec.json.encode(thumb, order="sorted")).digest())
    return key, thumb | {"kid": kid, "use": "sig", "alg": "RS256"}


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def jwks(path: str | Path) -> str:
    """The public JWK set as JSON: what verifies the tokens, and nothing that signs them."""
    return msgspec.json.encode({"keys": [_key(str(path))[1]]}).decode()


def mint_access_token(path: str | Path, issuer: str, subject: UUID, roles: Iterable[str], lifetime_s: int) -> str:
    """A signed access token for `subject`, good from now for `lifetime_s` seconds."""
    key, jwk = _key(str(path))
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": str(subject),
        "roles": " ".join(sorted(roles)),
        "jti": str(ids.uuid7()),
        "iat": now,
        "exp": now + lifetime_s,
    }
    return jwt.encode(claims, key, algorithm="RS256", headers={"kid": jwk["kid"]})
