"""A main project that keeps its own users and asks Propusk for their tokens, in each of three ways.

Its table of users, with the hashes of their passwords, is its own (SQLite here). Propusk is asked
when somebody has logged in, and when a session ends; registration does not concern it. See README.md.
"""

import base64
import hashlib
import json
import os
import pathlib
import secrets
import sqlite3
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

SCOPE = "orders:read"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Users:
    """The main project's own table of users."""

    def __init__(self, path=":memory:"):
        self.db = sqlite3.connect(path)
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, email TEXT UNIQUE, salt BLOB, hash BLOB, role TEXT)"
        )

    def register(self, email, password, role="buyer"):
        salt = secrets.token_bytes(16)
        row = (email, salt, self.hash(password, salt), role)
        with self.db:
            return self.db.execute("INSERT INTO users (email, salt, hash, role) VALUES (?, ?, ?, ?)", row).lastrowid

    def check(self, email, password):
        """The user whose password this is, else None."""
        found = self.db.execute("SELECT id, salt, hash, role FROM users WHERE email = ?", (email,)).fetchone()
        id, salt, expected, role = found or (None, b"", b"", None)
        if secrets.compare_digest(self.hash(password, salt), expected):
            return {"id": str(id), "email": email, "role": role}
        return None

    @staticmethod
    def hash(password, salt):
        return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


class Refused(Exception):
    """Propusk has refused a request; the message says why."""


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Http:
    """Requests to Propusk, authenticated by the client secret."""

    def __init__(self, issuer, client_id, secret):
        self.issuer, self.client_id = issuer, client_id
        quoted = f"{urllib.parse.quote(client_id)}:{urllib.parse.quote(secret)}"
        self.authorization = "Basic " + base64.b64encode(quoted.encode()).decode()

    def send(self, path, body=None, content_type=None, authorization=None):
        headers = {"authorization": authorization or self.authorization}
        if content_type:
            headers["content-type"] = content_type
        request = urllib.request.Request(self.issuer + path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            raise Refused(f"{path}: {error.code} {error.read().decode()}") from None

    def post_json(self, path, body):
        answer = self.send(path, json.dumps(body).encode(), "application/json")
        return json.loads(answer)["data"]

    def post_form(self, path, fields):
        body = urllib.parse.urlencode(fields).encode()
        answer = self.send(path, body, "application/x-www-form-urlencoded")
        return json.loads(answer or b"{}")


class ByJson:
    """POST /api/v1/tokens and its neighbours."""

    def __init__(self, http):
        self.http = http

    def login(self, user):
        data = self.http.post_json(
            "/api/v1/tokens",
            {
                "subject": user["id"],
                "scope": SCOPE,
                "email": user["email"],
                "role": user["role"],
                "authTime": int(time.time()),
                "amr": ["pwd"],
            },
        )
        return {"access": data["accessToken"], "refresh": data["refreshToken"], "session": data["sessionId"]}

    def refresh(self, tokens):
        data = self.http.post_json("/api/v1/tokens/refresh", {"refreshToken": tokens["refresh"]})
        return {"access": data["accessToken"], "refresh": data["refreshToken"], "session": data["sessionId"]}

    def is_active(self, token):
        return self.http.post_json("/api/v1/tokens/verify", {"token": token})["active"]

    def log_out(self, tokens):
        self.http.post_json("/api/v1/tokens/revoke", {"token": tokens["refresh"]})

    def end_session(self, session_id):
        self.http.post_json("/api/v1/tokens/revoke", {"sessionId": session_id})

    def end_all_sessions(self, user):
        self.http.post_json("/api/v1/tokens/revoke", {"subject": user["id"]})


class ByOAuth:
    """The JWT bearer grant and OAuth's endpoints. OAuth revokes by token only."""

    def __init__(self, http, key):
        self.http, self.key = http, key

    def login(self, user):
        now = int(time.time())
        assertion = self.sign(
            {
                "iss": self.http.client_id,
                "sub": user["id"],
                "aud": self.http.issuer,
                "iat": now,
                "exp": now + 60,
                "jti": secrets.token_urlsafe(16),
                "email": user["email"],
                "role": user["role"],
                "auth_time": now,
                "amr": ["pwd"],
            }
        )
        return self.tokens({"grant_type": JWT_BEARER, "assertion": assertion, "scope": SCOPE})

    def refresh(self, tokens):
        return self.tokens({"grant_type": "refresh_token", "refresh_token": tokens["refresh"]})

    def is_active(self, token):
        return self.http.post_form("/oauth2/introspect", {"token": token})["active"]

    def log_out(self, tokens):
        self.http.post_form("/oauth2/revoke", {"token": tokens["refresh"]})

    def tokens(self, fields):
        answer = self.http.post_form("/oauth2/token", fields)
        session = json.loads(decode(answer["access_token"].split(".")[1]))["sid"]
        return {"access": answer["access_token"], "refresh": answer["refresh_token"], "session": session}

    def sign(self, claims):
        parts = [{"alg": "ES256", "typ": "JWT"}, claims]
        message = ".".join(encode(json.dumps(part).encode()) for part in parts)
        r, s = decode_dss_signature(self.key.sign(message.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{message}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class ByGrpc:
    """propusk.v1.TokenService, with a client generated from proto/."""

    def __init__(self, address, http):
        import grpc
        from grpc_tools import protoc

        folder = tempfile.mkdtemp()
        proto = pathlib.Path(__file__).resolve().parents[2] / "proto"
        files = [str(proto / "propusk/v1/token.proto")]
        if protoc.main(["protoc", f"-I{proto}", f"--python_out={folder}", f"--grpc_python_out={folder}", *files]):
            raise SystemExit("protoc failed")
        sys.path.insert(0, folder)
        from propusk.v1 import token_pb2, token_pb2_grpc

        self.messages, self.http = token_pb2, http
        self.service = token_pb2_grpc.TokenServiceStub(grpc.insecure_channel(address))

    def metadata(self):
        """An access token of the client itself; one call a run is enough for an example."""
        fields = {"grant_type": "client_credentials", "scope": "propusk:tokens"}
        token = self.http.post_form("/oauth2/token", fields)["access_token"]
        return [("authorization", f"Bearer {token}")]

    def login(self, user):
        request = self.messages.IssueRequest(
            subject=user["id"],
            scope=SCOPE,
            email=user["email"],
            role=user["role"],
            auth_time=int(time.time()),
            amr=["pwd"],
        )
        return self.tokens(self.service.Issue(request, metadata=self.metadata()))

    def refresh(self, tokens):
        request = self.messages.RefreshRequest(refresh_token=tokens["refresh"])
        return self.tokens(self.service.Refresh(request, metadata=self.metadata()))

    def is_active(self, token):
        request = self.messages.ValidateRequest(token=token)
        return self.service.Validate(request, metadata=self.metadata()).active

    def log_out(self, tokens):
        self.revoke(token=tokens["refresh"])

    def end_session(self, session_id):
        self.revoke(session_id=session_id)

    def end_all_sessions(self, user):
        self.revoke(subject=user["id"])

    def revoke(self, **what):
        self.service.Revoke(self.messages.RevokeRequest(**what), metadata=self.metadata())

    @staticmethod
    def tokens(answer):
        return {"access": answer.access_token, "refresh": answer.refresh_token, "session": answer.session_id}


class Verifier:
    """Verifies access tokens without a call per request: the JWKS and the revocation feed. A resource
    server would follow the feed in the background; here `catch_up` is called where that would happen."""

    def __init__(self, http, audience):
        self.http, self.audience = http, audience
        jwks = json.loads(http.send("/oauth2/jwks"))
        self.keys = {key["kid"]: key for key in jwks["keys"] if key["kty"] == "EC"}
        fields = {"grant_type": "client_credentials", "scope": "propusk:revocations"}
        self.bearer = "Bearer " + http.post_form("/oauth2/token", fields)["access_token"]
        # docs/revocation-feed.md: the whole list first.
        _, snapshot = self.verified(self.feed("").decode(), "revocations+jwt")
        self.number, self.entries = snapshot["number"], snapshot["entries"]

    def feed(self, query):
        return self.http.send(f"/oauth2/revocations{query}", authorization=self.bearer)

    def catch_up(self):
        delta = json.loads(self.feed(f"?since={self.number}"))
        assert delta["from"] == self.number, "a gap: the whole list must be fetched"
        self.number = delta["to"]
        self.entries += delta["entries"]

    def verified(self, token, typ):
        """Header and claims of a JWT that Propusk has signed."""
        header, payload, signature = token.split(".")
        read = json.loads(decode(header))
        key = self.keys[read["kid"]]
        if (read["alg"], read["typ"]) != ("ES256", typ):
            raise Refused("unexpected algorithm or type")
        x, y = (int.from_bytes(decode(key[name]), "big") for name in ("x", "y"))
        public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        raw = decode(signature)
        der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        try:
            public.verify(der, f"{header}.{payload}".encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise Refused("wrong signature") from None
        claims = json.loads(decode(payload))
        if claims["iss"] != self.http.issuer:
            raise Refused("another issuer")
        return read, claims

    def claims(self, token):
        header, claims = self.verified(token, "at+jwt")
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if claims["exp"] <= time.time() or self.audience not in audience:
            raise Refused("expired, or for another audience")
        if any(self.revokes(entry, header, claims) for entry in self.entries):
            raise Refused("revoked")
        return claims

    @staticmethod
    def revokes(entry, header, claims):
        kind, id = entry["kind"], entry["id"]
        if kind == "token":
            return claims["jti"] == id
        if kind == "session":
            return claims.get("sid") == id
        if kind == "key":
            return header["kid"] == id
        is_older = claims["iat"] <= entry.get("issued_until", 0)
        if kind == "subject":
            return claims["sub"] == id and is_older
        if kind == "client":
            return claims["client_id"] == id and is_older
        if kind == "scope":
            return claims["sub"] == id and entry["scope"] in claims["scope"].split(" ") and is_older
        return True  # a newer server's kind: every token counts as revoked

    def is_active(self, token):
        try:
            return bool(self.claims(token))
        except Refused:
            return False


def must(holds, what):
    if not holds:
        raise SystemExit(f"failed: {what}")


def main():
    issuer, client_id = os.environ["ISSUER"], os.environ["CLIENT_ID"]
    http = Http(issuer, client_id, os.environ["CLIENT_SECRET"])
    with open(os.environ["KEY_FILE"], "rb") as file:
        key = serialization.load_pem_private_key(file.read(), password=None)
    ways = {"gRPC": ByGrpc(os.environ["GRPC_ADDRESS"], http), "JSON": ByJson(http), "OAuth": ByOAuth(http, key)}
    verifier = Verifier(http, os.environ.get("AUDIENCE", issuer))
    users = Users()

    for name, way in ways.items():
        email, password = f"{name.lower()}@example.org", "seven blue herons at dawn"
        users.register(email, password)  # Propusk is not asked.
        must(users.check(email, "a wrong guess") is None, "a wrong password is refused")
        user = users.check(email, password)
        tokens = way.login(user)
        claims = verifier.claims(tokens["access"])
        must(claims["sub"].endswith(f":{user['id']}") and claims["user_id"] == user["id"], "the user's own id")
        must((claims["email"], claims["role"]) == (email, "buyer"), "what was said of the user")
        must(way.is_active(tokens["access"]), "both ways give the same verdict: active")

        refreshed = way.refresh(tokens)
        must(refreshed["refresh"] != tokens["refresh"], "the refresh token is rotated")
        must(way.refresh(tokens)["refresh"] == refreshed["refresh"], "a retry gets the same successor")
        must(refreshed["session"] == tokens["session"], "the session stays the same")

        # Logout by a token; without one by the session, or by the user. OAuth knows tokens only.
        ends = [lambda t: way.log_out(t)]
        if hasattr(way, "end_session"):
            ends += [lambda t: way.end_session(t["session"]), lambda _: way.end_all_sessions(user)]
        current = refreshed
        for end in ends:
            must(verifier.is_active(current["access"]), "valid before")
            end(current)
            verifier.catch_up()
            must(not verifier.is_active(current["access"]), "a follower of the feed refuses it")
            must(not way.is_active(current["access"]), "both ways give the same verdict: revoked")
            current = way.login(user)
            must(verifier.is_active(current["access"]), "the next login is valid at once")
        print(f"{name}: registration, login, use, refresh, logout", flush=True)
    print("The main project is complete")


if __name__ == "__main__":
    main()
