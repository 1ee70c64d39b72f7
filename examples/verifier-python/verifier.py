"""Verifies access tokens in this process, without a call per request: the keys come from the JWKS,
the revoked tokens from the feed by gRPC (docs/revocation-feed.md). Reads a token per line."""

import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
import grpc_tools
import requests
from grpc_tools import protoc
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

ISSUER = os.environ.get("ISSUER", "http://127.0.0.1:8080")
AUDIENCE = os.environ.get("AUDIENCE", ISSUER)
GRPC = os.environ.get("PROPUSK_GRPC", "127.0.0.1:50051")
PROTO = os.environ.get("PROTO", Path(__file__).parent / "../../proto")
MAX_STALE = 10  # seconds that the list is trusted without a connection

# Of proto/propusk/v1/revocation.proto; a project runs protoc in its build.
with tempfile.TemporaryDirectory() as folder:
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    out = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", *out, "propusk/v1/revocation.proto"])
    sys.path.insert(0, folder)
    from propusk.v1 import revocation_pb2, revocation_pb2_grpc


def access_token():
    """A token for the feed, by client credentials."""
    client = os.environ.get("CLIENT_ID", "gateway"), os.environ["CLIENT_SECRET"]
    form = {"grant_type": "client_credentials", "scope": "propusk:revocations"}
    reply = requests.post(f"{ISSUER}/oauth2/token", form, auth=client, timeout=10)
    reply.raise_for_status()
    return reply.json()["access_token"]


class Revocations:
    """A copy of the revocation list, which a thread keeps up to date."""

    def __init__(self):
        self.number = None  # of the list; None: it must be fetched
        self.entries = {}  # (kind, id…) → the last second of issue that is revoked, and the expiry
        self.lost_at = 0.0  # when the connection was lost; None: it is there
        self.complete = threading.Event()
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        options = [("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 20_000)]
        stub = revocation_pb2_grpc.RevocationServiceStub(grpc.insecure_channel(GRPC, options))
        pause = 0.1
        while True:
            try:
                metadata = [("authorization", f"Bearer {access_token()}")]
                request = revocation_pb2.WatchRequest(since=self.number)
                snapshot = {}
                for message in stub.Watch(request, metadata=metadata):
                    self.apply(message, snapshot)
                    pause = 0.1
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.OUT_OF_RANGE:
                    self.number = None
                print(f"revocation feed: {error.code().name}", file=sys.stderr)
            except (requests.RequestException, ValueError) as error:
                print(f"revocation feed: {error}", file=sys.stderr)
            if self.lost_at is None:
                self.lost_at = time.monotonic()
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, 5)

    def apply(self, message, snapshot):
        if message.WhichOneof("message") == "snapshot":
            self.add(message.snapshot.entries, snapshot)
            if message.snapshot.more:
                return
            self.entries, self.number = snapshot, message.snapshot.number
        else:
            delta = message.delta
            if getattr(delta, "from") != self.number:
                self.number = None
                raise ValueError("changes are missing: the list must be fetched")
            self.add(delta.entries, self.entries)
            if delta.more:
                return
            self.number = delta.to
            if not delta.entries:  # at least every 15 seconds
                now, entries = time.time(), self.entries.items()
                self.entries = {key: entry for key, entry in entries if entry[1] > now}
        self.lost_at = None
        self.complete.set()

    @staticmethod
    def add(entries, to):
        for entry in entries:
            kind = entry.WhichOneof("target")
            target = getattr(entry, kind) if kind else None
            if kind in ("subject", "client"):
                key, until = (kind, target.id), target.issued_until
            elif kind == "subject_scope":
                key, until = (kind, target.subject, target.scope), target.issued_until
            else:  # a token, a session, a key; None: of a newer server, so that everything is refused
                key, until = (kind, target), float("inf")
            known_until, known_expiry = to.get(key, (0, 0))
            to[key] = max(until, known_until), max(entry.expires_at, known_expiry)

    def match(self, claims, kid):
        """Whether the list revokes a token: also by those that it was exchanged for."""
        if self.lost_at is not None and time.monotonic() - self.lost_at > MAX_STALE:
            raise ConnectionError("the revocation list is out of date")
        derived = claims.get("derived_from", [])
        first = min([claims["iat"], *(origin["iat"] for origin in derived)])
        since = {(None, None): first, ("session", claims.get("sid")): first}
        since[("subject", claims["sub"])] = first
        for scope in claims.get("scope", "").split():
            since[("subject_scope", claims["sub"], scope)] = first
        for token in [{**claims, "kid": kid}, *derived]:
            since[("token", token.get("jti"))] = since[("key", token.get("kid"))] = token["iat"]
            client = ("client", token.get("client_id"))
            since[client] = min(token["iat"], since.get(client, token["iat"]))
        return any(issued <= self.entries.get(key, (-1, 0))[0] for key, issued in since.items())


class Verifier:
    def __init__(self):
        self.revocations = Revocations()
        self.keys, self.fetched_at = None, float("-inf")
        self.registry = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": ISSUER},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
        )

    def verify(self, token):
        """The claims of a valid token (RFC 9068 section 4)."""
        if time.monotonic() - self.fetched_at > 3600:  # keys are published a day before they sign
            reply = requests.get(f"{ISSUER}/oauth2/jwks", timeout=10)
            self.keys, self.fetched_at = KeySet.import_key_set(reply.json()), time.monotonic()
        decoded = jwt.decode(token, self.keys, algorithms=["ES256", "RS256", "PS256", "EdDSA"])
        if decoded.header.get("typ") != "at+jwt":
            raise ValueError("not an access token")
        self.registry.validate(decoded.claims)
        if "cnf" in decoded.claims:  # RFC 9449: its sender must prove to have the key
            raise ValueError("it is bound to a key (DPoP) and no bearer token")
        if self.revocations.match(decoded.claims, decoded.header.get("kid")):
            raise ValueError("revoked")
        return decoded.claims


def main():
    verifier = Verifier()
    if not verifier.revocations.complete.wait(30):
        sys.exit("no revocation list after 30 seconds")
    print(f"ready at {verifier.revocations.number}", flush=True)
    for line in sys.stdin:
        try:
            print(f"valid: {verifier.verify(line.strip())['sub']}", flush=True)
        except (JoseError, ValueError, ConnectionError, requests.RequestException) as error:
            print(f"refused: {error}", flush=True)


if __name__ == "__main__":
    main()
