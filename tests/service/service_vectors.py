"""Makes `tests/vectors/service_messages.json`: every message of `fairyring.messages`, good and bad, from fixed keys.

python -m tests.service.service_vectors
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fairyring import messages
from fairyring.aggregation.contract import Masking, MessageSpec
from fairyring.messages.manifest import Array, Limits, Manifest, Promise, sign
from fairyring.messages.signing import Signature
from fairyring.secagg import Identity, Terms

FILE = Path(__file__).parents[1] / "vectors" / "service_messages.json"
DEVICE, AUTHOR, SERVICE = (Identity(bytes([number]) * 32) for number in (1, 2, 3))


def forms() -> list[Any]:
    """One of each form, with all entries given."""
    session, digest = bytes(range(16)), bytes(range(32))
    return [
        messages.About(SERVICE.public, "1.0", (1,)),
        messages.Enrol("a token", "a device"),
        messages.Enrolled("a device", (AUTHOR.public,)),
        messages.CheckIn("1.0", (1,), ("iree-vmvx", "jax"), (digest,), False),
        messages.Later(12.5, "no run"),
        messages.Invitation("run", session, digest, 3, digest[::-1], digest, (7, 1 << 31), 60.0, 2, 5),
        messages.Invitation("run", session, digest, 1, digest, None, (0, 0), 1.0, 0, 0),
        messages.Turn("sharing", (b"a message", b""), "", 0.5),
        messages.Turn("done", (), "summed"),
        messages.Leave("own_ledger"),
        messages.Left(),
        messages.Problem("busy", "a service that is busy", "one that is not", "Try again.", 1.0),
    ]


def manifest(**changes: Any) -> Manifest:
    """A manifest under masks."""
    masking = Masking(24, minimum_cohort=3)
    given = {
        "name": "a plan",
        "description": "a plan in a sentence",
        "statements": ("What it promises.",),
        "plan": bytes(range(32)),
        "document": b"{}",
        "author": AUTHOR.public,
        "columns": (Array("x", (2,), "<f4"),),
        "examples": 4,
        "arguments": (Array("params", (3,), "<f4"),),
        "results": (Array("vector", (4,), "<u4"),),
        "model": (Array("w", (3,), "<f4"),),
        "programs": {"jax": bytes(32)},
        "message": MessageSpec(4, 5, (), bits=24, integer=True, modulus_bits=24, masking=masking),
        "terms": Terms(bytes(range(32)), 4, 24, 3, 5),
        "step_noise": None,
        "rate": None,
        "limits": Limits(10, 4, 2, 60.0, 1 << 30),
        "promise": Promise(2.0, 1e-5, "device"),
        "expires": 2e9,
    }
    return Manifest(**given | changes)


def requests() -> list[dict[str, Any]]:
    rows = []
    for method, target, body in (
        ("POST", "/v1/check-in", messages.encode(forms()[3])),
        ("GET", f"/v1/blobs/{bytes(32).hex()}?from={bytes(range(32)).hex()}", b""),
        ("POST", f"/v1/sessions/{bytes(16).hex()}?seen=masking", bytes(300)),
    ):
        unsigned = Signature(DEVICE.public, 1_700_000_000_123, bytes(range(16)), bytes(64))
        payload = unsigned.payload(SERVICE.public, method, target, body)
        signed = unsigned._replace(signature=DEVICE.sign(payload))
        rows.append({
            "private": DEVICE.private_bytes().hex(), "service": SERVICE.public.hex(), "method": method, "target": target,
            "body": body.hex(), "payload": payload.hex(), "headers": signed.headers(),
        })  # fmt: skip
    return rows


def changed_requests(good: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Requests of which one thing is another than was signed."""
    first = good[0]
    headers = first["headers"]
    flipped = headers["fairyring-signature"][:-2] + "00"
    return [
        first | {"why": why, **change}
        for why, change in {
            "another service": {"service": AUTHOR.public.hex()},
            "another method": {"method": "PUT"},
            "another target": {"target": "/v1/check-in?"},
            "another body": {"body": first["body"] + "00"},
            "another time": {"headers": headers | {"fairyring-time": "1700000000124"}},
            "another nonce": {"headers": headers | {"fairyring-nonce": "00" * 16}},
            "another key": {"headers": headers | {"fairyring-key": AUTHOR.public.hex()}},
            "another signature": {"headers": headers | {"fairyring-signature": flipped}},
            "a short nonce": {"headers": headers | {"fairyring-nonce": "00" * 15}},
            "a time in words": {"headers": headers | {"fairyring-time": "now"}},
        }.items()
    ]


def bad_forms(good: list[Any]) -> list[dict[str, str]]:
    """Forms that are cut short, have an entry more, are of no known kind, or have an entry of another type."""
    rows = []
    for form in good:
        name = msgspec.to_builtins(form)["form"]
        plain = msgspec.msgpack.decode(messages.encode(form))
        first = next((entry for entry in plain if entry != "form"), None)
        cases = {"cut": messages.encode(form)[:-1], "more": msgspec.msgpack.encode(plain | {"more": 1})}
        cases["kind"] = msgspec.msgpack.encode(plain | {"form": "other"})
        if first is not None:
            cases["type"] = msgspec.msgpack.encode(plain | {first: {"a": 1}})
            cases["missing"] = msgspec.msgpack.encode({k: v for k, v in plain.items() if k != first})
        rows += [{"form": name, "why": why, "data": data.hex()} for why, data in cases.items()]
    return rows


def manifests() -> dict[str, list[dict[str, Any]]]:
    signed = [sign(one, AUTHOR) for one in (manifest(), manifest(terms=None, promise=None, expires=None))]
    good = [{"data": one.encode().hex(), "author": AUTHOR.public.hex()} for one in signed]
    stranger = sign(manifest(), DEVICE)
    changed = msgspec.structs.replace(signed[0], manifest=signed[0].manifest.replace(b"a plan", b"b plan"))
    fields = msgspec.msgpack.decode(signed[0].manifest)
    newer = msgspec.msgpack.encode(fields | {"form": 2})
    tagged = messages.signing.tagged
    later = messages.SignedManifest(newer, AUTHOR.sign(tagged("manifest", newer)))
    bad = {"another signer": stranger, "changed": changed, "a newer form": later}
    rows = [{"why": why, "data": one.encode().hex()} for why, one in bad.items()]
    return {"good": good, "bad": [*rows, {"why": "cut", "data": good[0]["data"][:-2]}]}


def models() -> dict[str, Any]:
    draw = np.random.default_rng(4)
    old = [draw.normal(size=shape).astype(np.float32) for shape in ((), (3,), (5, 2))]
    new = [(array * np.float32(1.001)).astype(np.float32) for array in old]
    shapes = [{"name": f"p{i}", "shape": list(array.shape), "dtype": "<f4"} for i, array in enumerate(old)]
    before, after = messages.model_bytes(old), messages.model_bytes(new)
    odd = before[:-3], after[:-3]
    changes = [
        {"old": a.hex(), "new": b.hex(), "change": messages.delta(a, b).hex()}
        for a, b in ((before, after), odd)
    ]
    bad = [("longer", before[:-4], messages.delta(before, after)), ("no zlib", before, b"change")]
    bad += [("cut", before, messages.delta(before, after)[:-5])]
    return {
        "arrays": shapes, "bytes": before.hex(), "digest": messages.model_digest(old).hex(), "changes": changes,
        "bad_changes": [{"why": why, "old": a.hex(), "change": b.hex()} for why, a, b in bad],
    }  # fmt: skip


def vectors() -> dict[str, Any]:
    good = requests()
    return {
        "about": "Messages of a service and its devices, good and bad; bytes are hexadecimal. Made by tests/service/service_vectors.py.",
        "forms": [
            {"form": msgspec.to_builtins(one)["form"], "data": messages.encode(one).hex()} for one in forms()
        ],
        "bad_forms": bad_forms(forms()),
        "requests": good,
        "bad_requests": changed_requests(good),
        "manifests": manifests(),
        "models": models(),
    }


def text() -> str:
    """The file."""
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
