"""A certificate authority of the tests' own, and the certificates that it issues, as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = "127.0.0.1"
VALID = datetime.timedelta(days=2)
SKEW = datetime.timedelta(minutes=5)
"""How long before now a certificate begins to be valid: clocks differ."""


class Issued(NamedTuple):
    """A certificate and its key (PKCS #8), as files."""

    certificate: Path
    key: Path

    def both(self) -> Path:
        """Write key and certificate into one file, as Kafka's key stores of type PEM have it."""
        file = self.certificate.with_suffix(".both.pem")
        file.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())
        return file


class Authority:
    """A certificate authority of a test's own."""

    def __init__(self, folder: Path, name: str = "test-ca") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key, self._name = ec.generate_private_key(ec.SECP256R1()), _named(name)
        self.own = self._write(name, self._key, self._signed(self._name, self._key, ca=True), "")

    @property
    def certificate(self) -> Path:
        return self.own.certificate

    def issue(
        self,
        name: str,
        *,
        subject: str = "",
        address: str = f"IP:{LOOPBACK}",
        expired: bool = False,
        password: str = "",
    ) -> Issued:
        """Return a certificate of a server or a user.

        Args:
            name: of the files
            subject: the common name, if it is another
            address: `IP:…` and `DNS:…`, with commas
            password: the key is encrypted with it
        """
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._signed(_named(subject or name), key, addresses=address.split(","), expired=expired)
        return self._write(name, key, signed, password)

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        addresses: list[str] | None = None,
        expired: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC) if expired else now - SKEW
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + (VALID if expired else SKEW + VALID))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if addresses:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_address, addresses))), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, signed: x509.Certificate, password: str) -> Issued:
        issued = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        issued.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            locked = serialization.BestAvailableEncryption(password.encode())
        form = serialization.PrivateFormat.PKCS8
        issued.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))
        issued.key.chmod(0o600)
        return issued


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _address(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    return x509.IPAddress(ipaddress.ip_address(value)) if kind == "IP" else x509.DNSName(value)
