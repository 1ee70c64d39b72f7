"""Authlib: a Flask application with its OpenID Connect client, and its OAuth sessions."""

import logging
import os
import sys
import threading
import time
import traceback

# The test server is on loopback, without TLS.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import OAuth
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oidc.discovery import OpenIDProviderMetadata, get_well_known_url
from browser import Browser, User
from flask import Flask
from joserfc.jwk import ECKey
from werkzeug.serving import make_server

SCOPE = "openid profile email offline_access"


class Application:
    """A web application that users log in to. Its tokens are in `tokens`, by the client's name."""

    def __init__(self, issuer):
        self.issuer = issuer
        self.tokens = {}
        self.app = Flask(__name__)
        # Cookies ignore the port: the test server is on the same host.
        self.app.config.update(SECRET_KEY=os.urandom(32), SESSION_COOKIE_NAME="application")
        self.oauth = OAuth(self.app)
        self.app.add_url_rule("/login/<name>", view_func=self.login)
        self.app.add_url_rule("/callback/<name>", view_func=self.callback)
        self.app.add_url_rule("/logout/<name>", view_func=self.logout)
        self.app.add_url_rule("/goodbye/<name>", view_func=self.goodbye)
        self.server = make_server("127.0.0.1", 0, self.app, threaded=True)
        self.base = f"http://127.0.0.1:{self.server.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add_client(self, name, **client):
        """Adds an OAuth client to the application."""
        self.oauth.register(
            name,
            server_metadata_url=get_well_known_url(self.issuer, external=True),
            client_kwargs={
                "scope": SCOPE,
                "code_challenge_method": "S256",
                "token_endpoint_auth_method": client.pop("token_endpoint_auth_method"),
            },
            **client,
        )

    def login(self, name):
        return getattr(self.oauth, name).authorize_redirect(f"{self.base}/callback/{name}")

    def callback(self, name):
        try:
            # Checks state, then the ID token: signature, iss, aud, exp, nonce, at_hash.
            token = getattr(self.oauth, name).authorize_access_token()
        except OAuthError as error:
            return f"refused: {error.error}"
        self.tokens[name] = token
        return f"logged in as {token['userinfo']['sub']}"

    def logout(self, name):
        goodbye = f"{self.base}/goodbye/{name}"
        token = self.tokens[name]["id_token"]
        return getattr(self.oauth, name).logout_redirect(goodbye, id_token_hint=token)

    def goodbye(self, name):
        getattr(self.oauth, name).validate_logout_response()
        return "logged out"


class Scenario:
    """Prints each step that passed when the next one begins."""

    current = None
    passed = 0

    def step(self, what):
        self.end()
        self.current = what

    def end(self):
        if self.current:
            self.passed += 1
            print(f"ok  {self.current}", flush=True)


def run(scenario, issuer, user, application):
    step = scenario.step

    step("discovery")
    metadata = requests.get(get_well_known_url(issuer, external=True), timeout=30).json()
    OpenIDProviderMetadata(metadata).validate()
    assert metadata["issuer"] == issuer

    def register(name, **more):
        """Dynamic registration: Authlib has no client for it."""
        wanted = {
            "client_name": f"Authlib, {name}",
            "redirect_uris": [f"{application.base}/callback/{name}"],
            "post_logout_redirect_uris": [f"{application.base}/goodbye/{name}"],
            "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
            "response_types": ["code"],
            "scope": SCOPE,
            **more,
        }
        answer = requests.post(metadata["registration_endpoint"], json=wanted, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.json()

    step("dynamic registration")
    method = "client_secret_basic"
    client = register("web", token_endpoint_auth_method=method)
    application.add_client(
        "web",
        client_id=client["client_id"],
        client_secret=client["client_secret"],
        token_endpoint_auth_method=method,
    )

    step("a Flask application: code with PKCE through login and consent, the ID token checked")
    pages, text = user.follow(f"{application.base}/login/web")
    assert pages == ["login", "consent"], pages
    token = application.tokens["web"]
    subject = token["userinfo"]["sub"]
    assert text == f"logged in as {subject}", text
    assert token["userinfo"]["at_hash"], "the library checks it if it is present"

    step("userinfo")
    with application.app.app_context():
        result = application.oauth.web.userinfo(token=token)
    assert (result["sub"], result["email"]) == (subject, user.name), result

    session = OAuth2Session(
        client["client_id"],
        client["client_secret"],
        token_endpoint_auth_method=method,
        token=token,
        token_endpoint=metadata["token_endpoint"],
    )
    introspection = metadata["introspection_endpoint"]

    step("refresh")
    fresh = session.refresh_token(metadata["token_endpoint"], token["refresh_token"])
    assert fresh["refresh_token"] != token["refresh_token"]
    assert session.get(metadata["userinfo_endpoint"]).json()["sub"] == subject

    step("introspection")
    result = session.introspect_token(introspection, fresh["access_token"]).json()
    assert (result["active"], result["sub"], result["iss"]) == (True, subject, issuer), result

    step("revocation")
    answer = session.revoke_token(metadata["revocation_endpoint"], fresh["refresh_token"])
    assert answer.status_code == 200, answer.text
    result = session.introspect_token(introspection, fresh["access_token"]).json()
    assert result == {"active": False}, result
    try:
        session.refresh_token(metadata["token_endpoint"], fresh["refresh_token"])
        raise AssertionError("a revoked token was refreshed")
    except OAuthError as error:
        assert error.error == "invalid_grant", error

    step("client credentials")
    machine = OAuth2Session(
        client["client_id"], client["client_secret"], token_endpoint_auth_method=method
    )
    created = machine.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
    assert created["token_type"] == "Bearer" and created["expires_in"] > 0, created

    step("a logged-in user sees no page")
    pages, text = user.follow(f"{application.base}/login/web")
    assert (pages, text) == ([], f"logged in as {subject}"), (pages, text)

    step("private_key_jwt: code, refresh, client credentials")
    key = ECKey.generate_key("P-256")
    public = {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig", "alg": "ES256"}

    class Assertion(PrivateKeyJWT):
        """Its audience is the issuer alone (RFC 10070) and it expires after a minute; the library's own lifetime, an
        hour, is longer than the server accepts."""

        def __init__(self):
            super().__init__(issuer, headers={"kid": key.thumbprint()}, alg="ES256")

        def sign(self, auth, token_endpoint):
            self.claims = {"exp": int(time.time()) + 60}
            return super().sign(auth, token_endpoint)

    signing = register("key", token_endpoint_auth_method="private_key_jwt", jwks={"keys": [public]})
    assert "client_secret" not in signing
    application.add_client(
        "key",
        client_id=signing["client_id"],
        client_secret=key,
        token_endpoint_auth_method="private_key_jwt",
        client_auth_methods=[Assertion()],
    )
    pages, text = user.follow(f"{application.base}/login/key")
    assert (pages, text) == (["consent"], f"logged in as {subject}"), (pages, text)
    session = OAuth2Session(
        signing["client_id"], key, token_endpoint_auth_method="private_key_jwt"
    )
    session.register_client_auth_method(Assertion())
    old = application.tokens["key"]["refresh_token"]
    fresh = session.refresh_token(metadata["token_endpoint"], old)
    assert fresh["refresh_token"] != old
    session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")

    step("RP-initiated logout")
    pages, text = user.follow(f"{application.base}/logout/web")
    assert (pages, text) == ([], "logged out"), (pages, text)
    pages, _ = user.follow(f"{application.base}/login/web")
    assert pages == ["login"], pages
    scenario.end()
    print(f"all {scenario.passed} steps passed")


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    issuer, driver, name, password = sys.argv[1:5]
    scenario, browser = Scenario(), None
    try:
        application = Application(issuer)
        browser = Browser(driver)
        run(scenario, issuer, User(browser, application.base, name, password), application)
    except Exception:
        print(f"FAILED  {scenario.current}")
        traceback.print_exc(file=sys.stdout)
        sys.exit(1)
    finally:
        if browser:
            browser.close()


main()
