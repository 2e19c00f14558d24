"""Keys, certificates and access tokens for the edge's tests, good ones and bent ones."""

from __future__ import annotations

import datetime
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

ISSUER = "https://shop.test"
AUDIENCE = "doorbuster"


@cache
def key(kid: str) -> rsa.RSAPrivateKey:
    """The private key that this test run signs with under `kid`."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwks(*kids: str) -> str:
    keys = [
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key(kid).public_key()))
        | {"kid": kid, "alg": "RS256", "use": "sig"}
        for kid in kids
    ]
    return json.dumps({"keys": keys})


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims with changes; a change to None removes the claim."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u-1", "roles": "shopper", "iat": now, "exp": now + 600}
    return {name: value for name, value in (good | changes).items() if value is not None}


def token(kid: str = "one", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key(kid), algorithm="RS256", headers={"kid": kid})


def bearer(kid: str = "one", **changes: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(kid, **changes)}"}


def make_certificate(directory: Path, name: str) -> tuple[str, str]:
    """A self-signed certificate for localhost; returns (certificate path, key path)."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    certificate_path, key_path = directory / f"{name}.crt", directory / f"{name}.key"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return str(certificate_path), str(key_path)
