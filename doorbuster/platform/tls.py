"""A certificate authority of this machine's own, and the server certificate that Envoy shows for localhost.

Made on the first start and kept in the keys directory. The authority stays for ten years, so a browser is told once to
trust it; the server's certificate lives at most 397 days (the longest that browsers accept) and is renewed on a start.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 397
_RENEW_WITH_DAYS_LEFT = 30
_CLOCK_SKEW = timedelta(hours=1)
_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


class DamagedCertificate(Exception):
    """A kept file of the authority cannot be used; it is not replaced silently, for people were told to trust it."""

    def __init__(self, file: Path, how: str) -> None:
        self.message = f"The local certificate authority is damaged: {file} {how}."
        self.hint = f"Restore it, or remove ca.pem and ca.key from {file.parent} to make a new one to trust."
        super().__init__(self.message)


@dataclass(frozen=True)
class LocalCertificates:
    """Where the files are. `authority` is what clients trust; the server shows `certificate` and holds `key`."""

    authority: Path
    certificate: Path
    key: Path


def ensure_local_certificates(keys_dir: Path, now: datetime | None = None) -> LocalCertificates:
    """Make or renew what is needed in `keys_dir` (an existing private directory) and say where it is.

    The server's certificate is for localhost, 127.0.0.1, ::1 and this machine's host name; it is replaced when fewer
    than 30 days are left or it no longer fits the authority, its key or the host name. Private keys are written with
    mode 0600, every file by rename. Raises DamagedCertificate when the authority's own files cannot be used.
    """
    now = now or datetime.now(UTC)
    files = LocalCertificates(keys_dir / "ca.pem", keys_dir / "server.pem", keys_dir / "server.key")
    authority_key_file = keys_dir / "ca.key"
    authority, authority_key = _kept_authority(files.authority, authority_key_file, now)
    if authority is None or authority_key is None:
        authority_key = ec.generate_private_key(ec.SECP256R1())
        authority = _make_authority(authority_key, now)
        # The key first: a key alone is a start that was killed and is made anew, a certificate alone is damage.
        _write(authority_key_file, _key_pem(authority_key), 0o600)
        _write(files.authority, authority.public_bytes(serialization.Encoding.PEM), 0o644)
    names = _names_of_this_machine()
    if not _server_certificate_serves(files, authority, names, now):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _make_server_certificate(key, authority, authority_key, names, now)
        _write(files.key, _key_pem(key), 0o600)
        _write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return files


def fingerprint(certificate: Path) -> str:
    """The SHA-256 fingerprint in the form browsers show it, to compare by eye."""
    return x509.load_pem_x509_certificate(certificate.read_bytes()).fingerprint(hashes.SHA256()).hex(":").upper()


def client_context(authority: Path) -> ssl.SSLContext:
    """A client's context that trusts this authority and no other, and checks host names."""
    context = ssl.create_default_context(cafile=str(authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _kept_authority(
    certificate_file: Path, key_file: Path, now: datetime
) -> tuple[x509.Certificate | None, ec.EllipticCurvePrivateKey | None]:
    """The kept authority; nothing when there is none yet or its ten years are over."""
    if not certificate_file.exists():
        return None, None
    if not key_file.exists():
        raise DamagedCertificate(key_file, "is missing")
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    except ValueError as error:
        raise DamagedCertificate(certificate_file, "is not a certificate") from error
    key = _load_key(key_file)
    if key is None:
        raise DamagedCertificate(key_file, "is not a private key")
    if key.public_key() != certificate.public_key():
        raise DamagedCertificate(key_file, "does not belong to ca.pem")
    if certificate.not_valid_after_utc - now < timedelta(days=_SERVER_DAYS):
        return None, None
    return certificate, key


def _load_key(file: Path) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _server_certificate_serves(
    files: LocalCertificates, authority: x509.Certificate, names: list[x509.GeneralName], now: datetime
) -> bool:
    if not files.certificate.exists() or not files.key.exists():
        return False
    with contextlib.suppress(ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        certificate.verify_directly_issued_by(authority)
        key = _load_key(files.key)
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        left = certificate.not_valid_after_utc - now
        return (
            key is not None
            and key.public_key() == certificate.public_key()
            and left >= timedelta(days=_RENEW_WITH_DAYS_LEFT)
            and certificate.not_valid_before_utc <= now
            and set(names) <= set(held)
        )
    return False


def _names_of_this_machine() -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    host = socket.gethostname().lower()
    if host != "localhost" and _HOST_NAME.fullmatch(host):
        names.append(x509.DNSName(host))
    return [*names, *(x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", "::1"))]


def _subject(common_name: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Doorbuster")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _make_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # The serial in the name keeps two authorities of one machine (two shops) apart in a browser's list and cache.
    serial = x509.random_serial_number()
    subject = _subject(f"Doorbuster local CA {serial % 0x1000000:06x}")
    public_key = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=_AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .sign(key, hashes.SHA256())
    )


def _make_server_certificate(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    now: datetime,
) -> x509.Certificate:
    issuer_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(_subject("localhost"))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now - _CLOCK_SKEW + timedelta(days=_SERVER_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(file: Path, content: bytes, mode: int) -> None:
    part = file.with_name(file.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)
