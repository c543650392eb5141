"""What a service and its devices say to each other: the manifest of a plan, signed requests, and the forms that travel.

No JAX, no HTTP and no clock is in here. Neither party imports the other: what both know is a message.
"""

from fairyring.messages.forms import (
    About,
    CheckIn,
    Enrol,
    Enrolled,
    Invitation,
    Later,
    Leave,
    Left,
    Problem,
    Turn,
    decode,
    encode,
)
from fairyring.messages.manifest import (
    Array,
    Limits,
    Manifest,
    Promise,
    SignedManifest,
    read_manifest,
    sign,
)
from fairyring.messages.models import delta, model_arrays, model_bytes, model_digest, patched
from fairyring.messages.signing import Signature, signed_request

__all__ = [
    "About",
    "Array",
    "CheckIn",
    "Enrol",
    "Enrolled",
    "Invitation",
    "Later",
    "Leave",
    "Left",
    "Limits",
    "Manifest",
    "Problem",
    "Promise",
    "Signature",
    "SignedManifest",
    "Turn",
    "decode",
    "delta",
    "encode",
    "model_arrays",
    "model_bytes",
    "model_digest",
    "patched",
    "read_manifest",
    "sign",
    "signed_request",
]
