"""Certificates between hub, proxy and sessions: two authorities, elliptic curves, in memory.

One authority signs for the hub and its proxy, the other for sessions. A session believes only the
first, so no session is taken for the hub, and none can call another's server; the hub and the
proxy believe both. A certificate names addresses, never people: who may do what is the tokens'
matter. A session's is made when its node is known, for that node's address and for its time.

JupyterHub's own (certipy's) are RSA, 2048 bits: thirty keys at once hold up the hub of a Pi for
half a minute, and a file of each lies on its disk. These take a millisecond each.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# The authorities' files in a folder of certificates, with .key and .crt
HUB_CA, SESSIONS_CA = "machines", "sessions"
SLACK = timedelta(days=1)  # clocks of nodes that have just booted
# ssl wants all of these spelt out when it checks strictly (Python 3.13 and later do)
USES = {
    "digital_signature": True, "content_commitment": False, "key_encipherment": False,
    "data_encipherment": False, "key_agreement": False, "encipher_only": False,
    "decipher_only": False,
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A private key and its certificate, as PEM."""

    key: str
    certificate: str


@dataclass(frozen=True)
class Authority:
    """Signs certificates. ``certificate`` is what others believe in, as PEM."""

    key: ec.EllipticCurvePrivateKey
    issuer: x509.Certificate

    @classmethod
    def new(cls, name: str, lifetime: timedelta) -> Authority:
        """One that signs for itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = _builder(subject, subject, key.public_key(), lifetime).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        uses = {**USES, "digital_signature": False}
        builder = builder.add_extension(
            x509.KeyUsage(**uses, key_cert_sign=True, crl_sign=True), critical=True
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    @classmethod
    def load(cls, key: Path, certificate: Path) -> Authority:
        """From two PEM files. OSError or ValueError when they are not that."""
        private = load_pem_private_key(key.read_bytes(), password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key} is not a key of an elliptic curve")  # noqa: TRY004
        return cls(private, x509.load_pem_x509_certificate(certificate.read_bytes()))

    @property
    def pair(self) -> Pair:
        return Pair(_key_text(self.key), self.certificate)

    @property
    def certificate(self) -> str:
        return _text(self.issuer)

    @property
    def ends(self) -> datetime:
        return self.issuer.not_valid_after_utc

    def issue(self, name: str, places: Collection[str], lifetime: timedelta) -> Pair:
        """A key and a certificate for ``places`` (addresses, or names of hosts), as server and
        client, no longer than the authority itself. ``name`` is for people."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([_place(place) for place in places])
        life = min(lifetime, self.ends - datetime.now(UTC) - SLACK)
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(_name(name), self.issuer.subject, key.public_key(), life)
            .add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(**USES, key_cert_sign=False, crl_sign=False), critical=True
            )
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
            .add_extension(_signed_by(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Pair(_key_text(key), _text(certificate))


@lru_cache(maxsize=4)
def _sessions(folder: str) -> tuple[Authority, str]:
    """The sessions' authority, and the certificate that sessions believe in."""
    place = Path(folder)
    authority = Authority.load(place / f"{SESSIONS_CA}.key", place / f"{SESSIONS_CA}.crt")
    return authority, (place / f"{HUB_CA}.crt").read_text()


def for_session(folder: str, name: str, address: str, seconds: float) -> dict[str, str]:
    """What a session's server on that address needs, as PEM: {"key", "certificate", "authority"}.

    OSError or ValueError when the files in ``folder`` are not what they should be.
    """
    authority, believed = _sessions(folder)
    pair = authority.issue(name, [address], timedelta(seconds=seconds))
    return {"key": pair.key, "certificate": pair.certificate, "authority": believed}


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(now + lifetime + SLACK)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _signed_by(key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _place(place: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(place))
    except ValueError:
        return x509.DNSName(place)


def _key_text(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
