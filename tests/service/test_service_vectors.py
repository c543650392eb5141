"""Published messages: fairyring and the second device make and take the good ones, and refuse the bad ones."""

import json
import math

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fairyring import messages
from fairyring.core.errors import PlanError, WireError
from fairyring.messages.signing import KEY, NONCE, SIGNATURE, TIME, Signature
from fairyring.secagg import Terms, session_graph
from tests.service import second_device, service_vectors
from tests.service.second_graph import graph
from tests.service.second_masks import Party, pack

VECTORS = json.loads(service_vectors.FILE.read_text("utf-8"))
KINDS = {msgspec.to_builtins(form)["form"]: type(form) for form in service_vectors.forms()}
raw = bytes.fromhex


def test_the_file_is_what_its_script_makes() -> None:
    """But for compressed bytes, which another zlib may make otherwise."""
    made = service_vectors.vectors()
    for one in (made, given := json.loads(service_vectors.FILE.read_text("utf-8"))):
        for row in (*one["models"]["changes"], *one["models"]["bad_changes"]):
            del row["change"]
    assert made == given


def test_every_form_is_there() -> None:
    structs = {name for name in messages.__all__ if hasattr(getattr(messages, name), "__struct_fields__")}
    inside = {"Array", "Limits", "Manifest", "Promise", "SignedManifest"}
    assert {kind.__name__ for kind in KINDS.values()} == structs - inside


@pytest.mark.parametrize("row", VECTORS["forms"], ids=lambda row: row["form"])
def test_both_read_and_write_a_form(row) -> None:
    data = raw(row["data"])
    assert messages.encode(messages.decode(data, KINDS[row["form"]])) == data
    assert pack(second_device.read(data, row["form"])) == data


@pytest.mark.parametrize("row", VECTORS["bad_forms"], ids=lambda row: f"{row['form']}-{row['why']}")
def test_a_bad_form_is_refused(row) -> None:
    with pytest.raises(WireError):
        messages.decode(raw(row["data"]), KINDS[row["form"]])
    if row["why"] in ("cut", "kind"):
        with pytest.raises((ValueError, msgspec.DecodeError)):
            second_device.read(raw(row["data"]), row["form"])


def signature(row) -> Signature:
    headers = row["headers"]
    return Signature.read(headers[KEY], headers[TIME], headers[NONCE], headers[SIGNATURE])


def arguments(row) -> tuple:
    return raw(row["service"]), row["method"], row["target"], raw(row["body"])


@pytest.mark.parametrize("row", VECTORS["requests"], ids=lambda row: row["target"][:20])
def test_both_sign_a_request(row) -> None:
    given, signed = arguments(row), signature(row)
    signed.check(*given, signed.time / 1000)
    assert signed.payload(*given).hex() == row["payload"]
    assert second_device.request_payload(*given, signed.time, signed.nonce).hex() == row["payload"]
    identity = Ed25519PrivateKey.from_private_bytes(raw(row["private"]))
    assert second_device.signed_headers(identity, *given, signed.time, signed.nonce) == row["headers"]


@pytest.mark.parametrize("row", VECTORS["bad_requests"], ids=lambda row: row["why"])
def test_a_changed_request_is_refused(row) -> None:
    with pytest.raises(WireError):
        signature(row).check(*arguments(row), 1_700_000_000.0)


def test_both_read_manifests() -> None:
    for row in VECTORS["manifests"]["good"]:
        ours, theirs = messages.read_manifest(raw(row["data"])), second_device.read_manifest(raw(row["data"]))
        assert ours.author.hex() == theirs["author"].hex() == row["author"]
        assert pack(msgspec.to_builtins(ours, builtin_types=(bytes,))) == pack(theirs)
    for row in VECTORS["manifests"]["bad"]:
        with pytest.raises(WireError):
            messages.read_manifest(raw(row["data"]))
        with pytest.raises((ValueError, msgspec.DecodeError)):
            second_device.read_manifest(raw(row["data"]))


def test_both_read_models_and_changes() -> None:
    models = VECTORS["models"]
    forms = [messages.Array(a["name"], tuple(a["shape"]), a["dtype"]) for a in models["arrays"]]
    ours = messages.model_arrays(raw(models["bytes"]), forms)
    theirs = second_device.arrays_of(raw(models["bytes"]), models["arrays"])
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert messages.model_digest(ours).hex() == second_device.model_digest(theirs).hex() == models["digest"]
    for row in models["changes"]:
        for patched in (messages.patched, second_device.patched):
            assert patched(raw(row["old"]), raw(row["change"])).hex() == row["new"]
    for row in models["bad_changes"]:
        with pytest.raises(WireError):
            messages.patched(raw(row["old"]), raw(row["change"]))
        with pytest.raises((ValueError, second_device.zlib.error)):
            second_device.patched(raw(row["old"]), raw(row["change"]))


@pytest.mark.parametrize("name", ["sessions", "disputes"])
def test_a_second_device_says_every_byte_of_the_masked_sessions(name) -> None:
    file = service_vectors.FILE.with_name(f"secagg_{name}.json")
    for row in json.loads(file.read_text("utf-8"))["sessions"]:
        case, out = row["in"], row["out"]
        dispute = case.get("dispute", {"garbage": [], "liars": []})
        others = {i for i, _ in (*dispute["garbage"], *dispute["liars"])}  # who do not follow the protocol
        bound_to = case["round"], raw(case["model"]), raw(case.get("previous", "")) or None
        for i, device in enumerate(case["devices"]):
            if i in others:
                continue
            identity = Ed25519PrivateKey.from_private_bytes(raw(device["identity"]))
            terms = case | {"plan": raw(case["plan"])}
            party = Party(terms, *bound_to, identity, raw(device["root_secret"]))
            heard, said = out["heard"][i], {"advertise": party.start()}
            answers = {
                "roster": "shares",
                "mailbox": "complaint",
                "accusation": "disclosure",
                "settlement": "",
            }
            answers |= {"vector": "masked_input", "survivors": "consistency", "signatures": "unmask"}
            for kind, answer in answers.items():
                if kind == "vector" and i != case["silent"]:
                    said[answer] = party.contribute(np.array(device["vector"], np.uint64))
                elif kind in heard and (given := party.receive(raw(heard[kind]))):
                    said[answer] = given
            assert {kind: data.hex() for kind, data in said.items()} == out["said"][i]


@pytest.mark.parametrize("threat", ["semi_honest", "semi_malicious"])
@pytest.mark.parametrize("devices", [3, 17, 60, 61, 150])
def test_both_choose_the_same_graph(threat, devices) -> None:
    """The package in floating point, the second device in whole numbers."""
    for rates in ((0.0, 0.0), (0.1, 0.1), (0.05, 0.3), (0.29, 0.2), (0.45, 0.4)):
        try:
            ours = (*session_graph(devices, *rates, threat), *(0, 0))
            size = Terms(bytes(32), 1, 32, 3, devices, threat, *rates).committee(devices)
            ours = (*ours[:2], *size)
        except PlanError:
            ours = None
        terms = {"threat": threat, "adversarial_rate": rates[0], "dropout_rate": rates[1]}
        assert graph(terms, devices) == ours
        assert ours is None or math.isfinite(sum(ours))
