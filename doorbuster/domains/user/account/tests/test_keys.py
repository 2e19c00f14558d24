"""The signing key and the tokens it makes, checked with another library's reading of the standards."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from doorbuster.domains.user.account import keys
from doorbuster.platform import ids


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "deep" / "signing.pem"
    keys.ensure_signing_key(file)
    return file


def test_key_is_readable_by_its_owner_alone(key_file: Path) -> None:
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert [file.name for file in key_file.parent.iterdir()] == [key_file.name]


def test_existing_key_is_kept(key_file: Path) -> None:
    before = key_file.read_bytes()
    keys.ensure_signing_key(key_file)
    assert key_file.read_bytes() == before


def test_of_makers_at_once_one_key_wins(tmp_path: Path) -> None:
    file = tmp_path / "signing.pem"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(keys.ensure_signing_key, [file] * 4))
    assert [one.name for one in tmp_path.iterdir()] == ["signing.pem"]
    assert json.loads(keys.jwks(file))["keys"]


def test_token_verifies_with_the_published_key_and_says_who(key_file: Path) -> None:
    subject = ids.uuid7()
    token = keys.mint_access_token(key_file, "https://shop.test", subject, {"shopper", "merchant"}, 900)
    published = jwt.PyJWKSet.from_json(keys.jwks(key_file))
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(
        token, published[header["kid"]].key, algorithms=["RS256"], audience="doorbuster", issuer="https://shop.test"
    )
    assert header["alg"] == "RS256"
    assert claims["sub"] == str(subject)
    assert claims["roles"] == "merchant shopper"
    assert claims["exp"] - claims["iat"] == 900
    assert abs(claims["iat"] - time.time()) < 5
    assert claims["jti"]


def test_key_id_is_the_thumbprint_of_rfc_7638(key_file: Path) -> None:
    jwk = json.loads(keys.jwks(key_file))["keys"][0]
    thumb = f'{{"e":"{jwk["e"]}","kty":"RSA","n":"{jwk["n"]}"}}'
    digest = base64.urlsafe_b64encode(hashlib.sha256(thumb.encode()).digest()).rstrip(b"=").decode()
    assert jwk["kid"] == digest
    assert set(jwk) == {"kty", "n", "e", "kid", "use", "alg"}


def test_tokens_of_one_subject_differ(key_file: Path) -> None:
    subject = ids.uuid7()
    tokens = {keys.mint_access_token(key_file, "https://shop.test", subject, ["shopper"], 900) for _ in range(3)}
    assert len(tokens) == 3


def test_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ec.pem"
    file.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(ValueError, match="holds no RSA key"):
        keys.jwks(file)
