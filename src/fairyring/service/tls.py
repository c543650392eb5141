"""A certificate of the service's own, for devices that know its fingerprint."""

import datetime
import hashlib
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fairyring.core.errors import RunDamaged
from fairyring.core.files import replace_file

YEARS = 10


class Certificate(NamedTuple):
    """A certificate: the files that hold it and its key, and the SHA-256 of it, in hexadecimal digits."""

    file: Path
    key: Path
    fingerprint: str


def own_certificate(folder: Path, host: str) -> Certificate:
    """The certificate in a folder; made for a host if there is none. Nobody has signed it but itself.

    Raises:
        RunDamaged: the files are not a certificate.
    """
    file, key = folder / "tls.crt", folder / "tls.key"
    if not file.exists():
        _make(file, key, host)
    return Certificate(file, key, fingerprint_of(file))


def fingerprint_of(file: Path) -> str:
    """SHA-256 of the first certificate in a PEM file, in hexadecimal digits.

    Raises:
        RunDamaged: it is none.
    """
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        raise RunDamaged(
            str(file), given=f"{error}", expected="a certificate in PEM", do="Give another with --tls-cert."
        ) from error
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _make(file: Path, key: Path, host: str) -> None:
    private = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fairyring service")])
    now = datetime.datetime.now(datetime.UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host or "localhost")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, SHA256())
    )
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    replace_file(key, pem, mode=0o600)
    replace_file(file, certificate.public_bytes(Encoding.PEM))
