"""A second device, written from `docs/service_protocol.md`: the standard library, `cryptography`, NumPy, and msgspec to read MessagePack.

Nothing of fairyring is imported. It enrols, checks in, fetches and checks manifests and models, trains by hand, takes part in masked and plain
sums, and keeps a ledger. It refuses plans whose devices add noise, which needs discrete sampling that it does not have.
"""

import hashlib
import http.client
import os
import random
import time
import zlib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.service.second_masks import Broken, OutOfTurn, Party, pack, pack_words, parts, verified

PIECE = 1 << 20  # bytes of a blob that are asked for at a time


class Refused(Exception):
    """The service refuses a request."""

    def __init__(self, problem):
        self.kind, self.retry = problem["kind"], problem["retry"]
        super().__init__(f"{problem['kind']}: {problem['given']}")


class Leaves(Exception):
    """The device leaves a session, for a reason of one word; with `for_good` it does not take part in this manifest."""

    def __init__(self, reason, *, for_good=False):
        self.reason, self.for_good = reason, for_good
        super().__init__(reason)


# -- what is signed and hashed ------------------------------------------------------------------------------


def tagged(purpose, *pieces):
    return hashlib.sha256(b"fairyring/service/" + purpose.encode() + b"\0" + parts(*pieces)).digest()


def request_payload(service, method, target, body, time_ms, nonce):
    pieces = (
        service,
        method.encode(),
        target.encode(),
        hashlib.sha256(body).digest(),
        time_ms.to_bytes(8, "little"),
        nonce,
    )
    return tagged("request", *pieces)


def signed_headers(identity, service, method, target, body, time_ms, nonce):
    signature = identity.sign(request_payload(service, method, target, body, time_ms, nonce))
    return {
        "fairyring-key": identity.public_key().public_bytes_raw().hex(),
        "fairyring-time": str(time_ms),
        "fairyring-nonce": nonce.hex(),
        "fairyring-signature": signature.hex(),
    }


def read(data, *forms):
    """A form of these kinds."""
    found = msgspec.msgpack.decode(data)
    if not isinstance(found, dict) or found.get("form") not in forms:
        raise ValueError("another form")
    return found


def read_manifest(data):
    """The manifest in its signed bytes, if its author signed it."""
    if len(data) > 4 << 20:
        raise ValueError("too long")
    outer = msgspec.msgpack.decode(data)
    if not isinstance(outer, dict) or outer.keys() != {"manifest", "signature"}:
        raise ValueError("no signed manifest")
    manifest = msgspec.msgpack.decode(outer["manifest"])
    if not isinstance(manifest, dict) or manifest["form"] != 1:
        raise ValueError("a manifest of another form")
    if not verified(manifest["author"], outer["signature"], tagged("manifest", outer["manifest"])):
        raise ValueError("not signed by its author")
    return manifest


# -- models ---------------------------------------------------------------------------------------------------


def arrays_of(data, forms):
    """The arrays in a model's bytes."""
    found, at = [], 0
    for form in forms:
        count = int(np.prod(form["shape"], dtype=np.int64))
        found.append(np.frombuffer(data, form["dtype"], count, at).reshape(form["shape"]))
        at += found[-1].nbytes
    if at != len(data):
        raise ValueError("a model of another length")
    return found


def model_digest(arrays):
    """What a secure sum is bound to."""
    state = hashlib.sha256(b"fairyring/model\0")
    for array in arrays:
        sizes = [str(size) for size in array.shape]
        shape = f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"
        state.update(f"{array.dtype.str} {shape};".encode() + array.tobytes())
    return state.digest()


def patched(old, change):
    """A model from an earlier one and a change."""
    inflater = zlib.decompressobj()
    planes = inflater.decompress(change, len(old) + 1)
    if len(planes) != len(old) or not inflater.eof:
        raise ValueError("no change of this model")
    count = len(old) // 4
    changed = bytearray(planes)
    for place in range(4):
        changed[place : 4 * count : 4] = planes[place * count : (place + 1) * count]
    return bytes(a ^ b for a, b in zip(old, changed, strict=True))


def packed_report(vector, auxiliary, message):
    """A report that is sent in the clear: all coordinates, then what travels with them."""
    if message["nonzero"] is not None:
        raise Leaves("unsupported", for_good=True)
    body = (
        pack_words(vector.astype("<i8").view("<u8"), message["bits"])
        if message["integer"]
        else vector.astype("<f4").tobytes()
    )
    return body + auxiliary.astype("<f4").tobytes()


# -- random numbers -------------------------------------------------------------------------------------------


def threefry(key, x, y):
    """Threefry-2x32 with 20 rounds, of arrays of words."""
    words = np.array([key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA], np.uint32)
    x, y = x + words[0], y + words[1]
    for turn in range(5):
        for by in ((13, 15, 26, 6), (17, 29, 16, 24))[turn % 2]:
            x = x + y
            y = x ^ (y << np.uint32(by) | y >> np.uint32(32 - by))
        x = x + words[(turn + 1) % 3]
        y = y + words[(turn + 2) % 3] + np.uint32(turn + 1)
    return x, y


def fold_in(key, number):
    x, y = threefry(key, np.zeros(1, np.uint32), np.array([number], np.uint32))
    return int(x[0]), int(y[0])


def sixteen_bits(key, count):
    return (threefry(key, np.arange(count, dtype=np.uint32), np.zeros(count, np.uint32))[0] >> 16).astype(
        np.int64
    )


def own_key(manifest, invitation):
    """Two words that nobody else knows."""
    first = os.urandom(8)
    return int.from_bytes(first[:4], "little"), int.from_bytes(first[4:], "little")


# -- training -------------------------------------------------------------------------------------------------


class LogisticRegression:
    """One step of gradient descent on all examples, by hand: what the plan's program computes, for plans of one kind.

    Args:
        x, y: examples: float32 `[n, features]`, and whole numbers below the number of classes.
        key: draws the words of the client's key.
    """

    targets = ("jax",)  # whose results it gives

    def __init__(self, x, y, key=own_key):
        self.x, self.y, self.key = x, y, key

    def __call__(self, manifest, arrays, invitation):
        """The encoded vector, and what travels beside it."""
        plan = msgspec.json.decode(manifest["document"])
        stages = {name: settings for stage in plan["aggregation"] for name, settings in stage.items()}
        local, masked = plan["local"], manifest["terms"] is not None
        known = list(stages) == ["weight_uniformly", "clip", "quantize", *["secure_sum"] * masked]
        known &= (local["epochs"], list(local["optimizer"])) == (1, ["sgd"]) and len(self.y) <= local[
            "batch_size"
        ]
        known &= plan["task"]["name"] == "classification" and list(plan["algorithm"]) == ["averaging"]
        if not known:
            raise Leaves("unsupported", for_good=True)
        b, w = arrays
        outputs = self.x @ w + b
        outputs -= outputs.max(axis=1, keepdims=True)
        chances = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
        rows = np.arange(len(self.y))
        loss = float(-np.log(chances[rows, self.y]).mean())
        right = float((outputs.argmax(axis=1) == self.y).mean())
        chances[rows, self.y] -= 1
        rate = local["optimizer"]["sgd"]["learning_rate"] / len(self.y)
        delta = -rate * np.concatenate([chances.sum(axis=0), (self.x.T @ chances).ravel()])
        norm = float(np.linalg.norm(delta))
        delta *= min(1.0, stages["clip"]["norm"] / norm)
        travels = {"weight": (1.0, 1.0), "loss": (loss, plan["task"]["loss_bound"]), "accuracy": (right, 1.0)}
        return self.encoded(manifest["message"], stages, delta, travels, self.key(manifest, invitation))

    def encoded(self, message, stages, delta, travels, key):
        key = fold_in(key, 5)
        levels = 2 ** (stages["quantize"]["bits"] - 1) - 1
        fine = np.rint(delta.astype(np.float32) * np.float32(65536 * levels / stages["clip"]["norm"]))
        fine = np.clip(fine, -65536 * levels, 65536 * levels).astype(np.int64)
        vector = (fine + sixteen_bits(fold_in(key, 2), len(fine))) >> 16
        values = np.array([min(value, bound) for value, bound in travels.values()], np.float32)
        if "secure_sum" not in stages:
            return vector, values
        modulus = 1 << message["modulus_bits"]
        steps = min(1 << 24, (modulus - 1) // message["cohort"])
        exact = values * np.array([steps / bound for _, bound in travels.values()], np.float32)
        up = (exact - np.floor(exact)) * 65536 > sixteen_bits(fold_in(key, 3), len(exact)) + 0.5
        sides = np.minimum(np.floor(exact).astype(np.int64) + up, steps)
        return np.concatenate([vector % modulus, sides]).astype(np.uint64), np.zeros(0)


# -- the device -----------------------------------------------------------------------------------------------


class SecondDevice:
    """A device of one service.

    Args:
        url: of the service.
        folder: of the device, for its key and its ledger.
        train: `(manifest, arrays, invitation) -> (vector, auxiliary)`, with `targets`.
        authors: public keys that are trusted.

    Attributes:
        contributed: how often it has contributed; `sums`: how its sessions ended.
    """

    def __init__(self, url, folder, train, authors=()):
        parts_of = urlsplit(url)
        self.http = http.client.HTTPConnection(parts_of.hostname, parts_of.port, timeout=60)
        self.train, self.authors = train, set(authors)
        key, self.ledger = Path(folder) / "key", Path(folder) / "ledger"
        if not key.exists():
            key.touch(0o600)
            key.write_bytes(os.urandom(32))
        self.identity = Ed25519PrivateKey.from_private_bytes(key.read_bytes())
        self.public = self.identity.public_key().public_bytes_raw()
        self.refused, self.ends, self.models = {}, [], {}
        self.stopping = False
        self.service = read(self.answer("GET", "/v1/about", sign=False)[1], "about")["service"]

    # -- requests

    def answer(self, method, target, body=b"", headers=None, *, sign=True):
        """Headers and body of an answer; a connection that broke is opened again, with a new signature."""
        for left in range(4, -1, -1):
            given = {"content-type": "application/msgpack", **(headers or {})}
            if sign:
                now = int(time.time() * 1000)
                given |= signed_headers(
                    self.identity, self.service, method, target, body, now, os.urandom(16)
                )
            try:
                self.http.request(method, target, body, given)
                answer = self.http.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException):
                self.http.close()
                if not left:
                    raise
                time.sleep(random.uniform(0.1, 0.3))
                continue
            if answer.status < 400:
                return answer.headers, data
            raise Refused(read(data, "problem"))
        raise AssertionError

    def post(self, target, form, *answers):
        return read(self.answer("POST", target, pack(form))[1], *answers)

    def enrol(self, token, name):
        return self.post("/v1/enrol", {"form": "enrol", "token": token, "name": name}, "enrolled")

    def blob(self, digest, most, earlier=None):
        """The bytes of a digest, a part at a time; or the change from an earlier model, if there is one."""
        target = f"/v1/blobs/{digest.hex()}"
        if earlier is not None:
            headers, data = self.answer("GET", f"{target}?from={earlier.hex()}")
            if "fairyring-change" in headers:
                data = patched(self.models[earlier], data)
            if hashlib.sha256(data).digest() == digest:
                return data
        found = b""
        while True:
            asked = {"range": f"bytes={len(found)}-{len(found) + PIECE - 1}"}
            headers, data = self.answer("GET", target, headers=asked)
            found += data
            total = headers.get("content-range", "").rpartition("/")[2]
            if len(found) > most:
                raise Leaves("blob")
            if not total or len(found) >= int(total):
                break
        if hashlib.sha256(found).digest() != digest:
            raise Leaves("blob")
        return found

    # -- rounds

    def run(self):
        while not self.stopping:
            time.sleep(min(1.0, self.step()))

    def step(self):
        """Check in, and do what is asked; returns the seconds after which to come back."""
        now = time.time()
        self.refused = {digest: until for digest, until in self.refused.items() if until > now}
        form = {"form": "check_in", "version": "second 1", "speaks": [1], "targets": list(self.train.targets)}
        try:
            answer = self.post("/v1/check-in", form | {"refused": list(self.refused)}, "later", "invitation")
            if answer["form"] == "later":
                return answer["seconds"]
            self.ends.append(self.take_part(answer))
        except Refused as error:
            return 1.0 if error.retry is None else error.retry
        except (Leaves, Broken, OutOfTurn) as why:
            if getattr(why, "for_good", False):
                self.refused[answer["manifest"]] = now + 86400
            reason = why.reason if isinstance(why, Leaves) else "protocol"
            self.ends.append(f"left: {why}")
            self.post(
                f"/v1/sessions/{answer['session'].hex()}/leave", {"form": "leave", "reason": reason}, "left"
            )
        return 0.0

    def take_part(self, invitation):
        manifest = self.manifest(invitation["manifest"])
        last = next(reversed(self.models), None)
        size = sum(np.dtype(a["dtype"]).itemsize * int(np.prod(a["shape"])) for a in manifest["model"])
        model = self.blob(invitation["model"], size, last)
        self.models = {invitation["model"]: model}
        arrays = arrays_of(model, manifest["model"])
        self.may(manifest, invitation)
        vector, auxiliary = self.train(manifest, arrays, invitation)
        if manifest["terms"] is None:
            self.note(manifest, invitation)
            turn = self.turn(invitation, packed_report(vector, auxiliary, manifest["message"]), "reporting")
            while not turn["over"]:
                turn = self.turn(invitation, b"", turn["phase"])
            return turn["over"]
        bound_to = invitation["round"], model_digest(arrays), invitation["previous"]
        party = Party(manifest["terms"], *bound_to, self.identity, os.urandom(32))
        message, seen = party.start(), "advertising"
        while True:
            turn = self.turn(invitation, message, seen)
            message, seen = b"", turn["phase"]
            if turn["over"]:
                return turn["over"]
            for told in turn["messages"]:
                message = party.receive(told) or message
            if seen == "masking" and party.phase in ("ready", "masked") and not message:
                if party.phase == "ready":
                    self.note(manifest, invitation)
                message = party.contribute(vector)

    def turn(self, invitation, message, seen):
        target = f"/v1/sessions/{invitation['session'].hex()}?seen={seen}"
        for _ in range(100):
            try:
                turn = read(self.answer("POST", target, message)[1], "turn")
            except Refused as error:
                if error.retry is None:
                    raise Leaves("refused") from error
                time.sleep(error.retry)
                continue
            turn = {"messages": [], "over": "", "wait": 0.0} | turn
            time.sleep(turn["wait"])
            if turn["phase"] or turn["over"]:
                return turn
        raise Leaves("unreachable")

    # -- what it checks

    def manifest(self, digest):
        try:
            manifest = read_manifest(self.blob(digest, 4 << 20))
        except (ValueError, KeyError, TypeError, msgspec.DecodeError):
            raise Leaves("manifest", for_good=True) from None
        if manifest["author"] not in self.authors:
            raise Leaves("untrusted_author", for_good=True)
        noise = manifest["message"]["noise"]
        if manifest["step_noise"] is not None or (noise is not None and noise["shares"] > 0):
            raise Leaves("unsupported", for_good=True)
        if manifest["expires"] is not None and time.time() >= manifest["expires"]:
            raise Leaves("expired", for_good=True)
        return manifest

    def may(self, manifest, invitation):
        """Whether the author lets this device contribute once more, by what the device itself has noted."""
        limits, plan, round = manifest["limits"], manifest["plan"].hex(), invitation["round"]
        lines = self.ledger.read_text().split("\n")[:-1] if self.ledger.exists() else []
        noted = [(run, int(r), session) for of, run, r, session in map(str.split, lines) if of == plan]
        fits = len(noted) < limits["participations"] and round <= limits["rounds"]
        for run, other, session in noted:
            fits &= other == round or abs(other - round) >= limits["separation"]
            fits &= run != invitation["run"] or (other <= round and session != invitation["session"].hex())
        if not fits:
            raise Leaves("own_ledger")

    def note(self, manifest, invitation):
        """Note that it contributes, before it does."""
        self.may(manifest, invitation)
        line = f"{manifest['plan'].hex()} {invitation['run']} {invitation['round']} {invitation['session'].hex()}\n"
        with self.ledger.open("a") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
