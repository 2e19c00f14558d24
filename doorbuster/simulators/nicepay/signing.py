"""The hashes and the encrypted card of NICEPAY, purely; each formula with the page it stands on.

Pages are those of github.com/nicepayments/nicepay-manual.
"""

import hashlib
import hmac
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from msgspec import Struct

KEY_128_BYTES = 16
KEY_256_BYTES = 32
BLOCK_BITS = 128
MAX_PARTS = 10


class NotReadable(Exception):
    """Expected: encData cannot be decrypted with this key."""


class CardFields(Struct, frozen=True):
    """What encData carries, as it came; an absent field is empty."""

    card_no: str
    exp_year: str
    exp_month: str


def hashed(*parts: object) -> str:
    """hex(sha256(parts joined without a separator)), lower case."""
    return hashlib.sha256("".join(str(part) for part in parts).encode()).hexdigest()


def auth_signature(auth_token: str, client_key: str, amount: int, secret: str) -> str:
    """api/payment-window-server.md: hex(sha256(authToken + clientId + amount + SecretKey))."""
    return hashed(auth_token, client_key, amount, secret)


def answer_signature(tid: str, amount: int, edi_date: str, secret: str) -> str:
    """api/payment-window-server.md: hex(sha256(tid + amount + ediDate + SecretKey)); amount is the payment's."""
    return hashed(tid, amount, edi_date, secret)


def fits(sign_data: str, *parts: object) -> bool:
    """Whether a caller's signData is the hash of these parts. Upper case does not fit."""
    return hmac.compare_digest(sign_data.encode(), hashed(*parts).encode())


def card_fields(enc_data: str, mode: str | None, secret: str) -> CardFields:
    """api/payment-subscribe.md: hex of AES-CBC with PKCS5 padding, IV the first 16 bytes of the SecretKey.

    The key is those 16 bytes, with mode A2 all 32. Raises NotReadable.
    """
    key = secret.encode()
    size = KEY_256_BYTES if mode == "A2" else KEY_128_BYTES
    if len(key) < size:
        raise NotReadable(f"a secret key of {len(key)} bytes")
    try:
        decryptor = Cipher(algorithms.AES(key[:size]), modes.CBC(key[:KEY_128_BYTES])).decryptor()
        padded = decryptor.update(bytes.fromhex(enc_data)) + decryptor.finalize()
        unpadder = padding.PKCS7(BLOCK_BITS).unpadder()
        plain = (unpadder.update(padded) + unpadder.finalize()).decode()
        parts = dict(parse_qsl(plain, keep_blank_values=True, max_num_fields=MAX_PARTS))
    except ValueError as error:
        raise NotReadable(str(error)) from error
    return CardFields(parts.get("cardNo", ""), parts.get("expYear", ""), parts.get("expMonth", ""))
