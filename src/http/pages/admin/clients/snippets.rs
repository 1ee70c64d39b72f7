//! Code to log users in with, or to get tokens with: the beginning of an application for its
//! framework, with the client's values. The secret is an environment variable.

use crate::model::client::{Client, GrantType};

/// What an application is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framework {
    Express,
    NextJs,
    Browser,
    SpringBoot,
    Axum,
    Go,
    Python,
    Curl,
}

impl Framework {
    pub const ALL: [Self; 8] = [
        Self::Express,
        Self::NextJs,
        Self::Browser,
        Self::SpringBoot,
        Self::Axum,
        Self::Go,
        Self::Python,
        Self::Curl,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Express => "express",
            Self::NextJs => "nextjs",
            Self::Browser => "browser",
            Self::SpringBoot => "spring-boot",
            Self::Axum => "axum",
            Self::Go => "go",
            Self::Python => "python",
            Self::Curl => "curl",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// Its name, the same in every language.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Express => "Express (openid-client)",
            Self::NextJs => "Next.js (Auth.js)",
            Self::Browser => "JavaScript (oidc-client-ts)",
            Self::SpringBoot => "Spring Boot",
            Self::Axum => "axum (propusk-client)",
            Self::Go => "Go (go-oidc, x/oauth2)",
            Self::Python => "Python (Authlib, Flask)",
            Self::Curl => "curl",
        }
    }

    /// The code. A client that logs no users in gets its tokens with curl; one whose tokens are
    /// bound to a key needs a library that signs its proofs.
    pub fn snippet(self, issuer: &str, client: &Client) -> String {
        let has_secret = client.metadata.token_endpoint_auth_method.has_secret();
        let logs_in = client.may(GrantType::AuthorizationCode);
        let template = match self {
            _ if client.metadata.dpop_bound_access_tokens && logs_in => DPOP_CODE,
            _ if client.metadata.dpop_bound_access_tokens => DPOP_SERVICE,
            Self::Axum if has_secret => AXUM,
            _ if client.may(GrantType::DeviceCode) && !logs_in => DEVICE,
            _ if !logs_in => SERVICE,
            Self::Express => EXPRESS,
            Self::NextJs => NEXT_JS,
            Self::Browser => BROWSER,
            Self::SpringBoot => SPRING_BOOT,
            Self::Go => GO,
            Self::Python => PYTHON,
            Self::Axum | Self::Curl => CODE,
        };
        // A line for clients with a secret, or for those without one, begins with its mark.
        let (own, other) = if has_secret { ("§", "¤") } else { ("¤", "§") };
        let is_local = issuer.starts_with("http:");
        let kept = template.lines().filter(|line| !line.starts_with(other));
        let kept: Vec<&str> = kept.map(|line| line.strip_prefix(own).unwrap_or(line)).collect();
        let redirect = client.metadata.redirect_uris.first();
        let redirect = redirect.map(String::as_str).filter(|uri| is_plain(uri));
        let scopes: Vec<&str> = client.metadata.scope.iter().filter(|one| is_plain(one)).collect();
        let quoted: Vec<String> = scopes.iter().map(|one| format!("\"{one}\"")).collect();
        // No value has these marks: those that are not plain ASCII are left out.
        kept.join("\n")
            .replace("‹insecure›", if is_local { INSECURE } else { "" })
            .replace("‹issuer›", issuer)
            .replace("‹id›", if is_plain(&client.id) { &client.id } else { "CLIENT_ID" })
            .replace("‹redirect›", redirect.unwrap_or("https://app.example.org/callback"))
            .replace("‹scope›", &scopes.join(" "))
            .replace("‹scopes›", &quoted.join(", "))
    }
}

/// Whether a text means nothing else in the quotation marks of any of the languages.
fn is_plain(text: &str) -> bool {
    let is_safe = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?[]@!&*+,;=%#".contains(&b);
    text.bytes().all(is_safe)
}

/// For an issuer without TLS, on the developer's machine.
const INSECURE: &str = ", { execute: [client.allowInsecureRequests] }";

const EXPRESS: &str = r"// npm install express express-session openid-client
import express from 'express';
import session from 'express-session';
import * as client from 'openid-client';

const redirectUri = '‹redirect›';
const scope = '‹scope›';
const issuer = new URL('‹issuer›');
§const secret = process.env.OIDC_CLIENT_SECRET;
§const config = await client.discovery(issuer, '‹id›', secret, undefined‹insecure›);
¤const config = await client.discovery(issuer, '‹id›', undefined, client.None()‹insecure›);

const app = express();
app.use(session({ secret: process.env.SESSION_SECRET, resave: false, saveUninitialized: false }));

app.get('/login', async (request, response) => {
  const [verifier, state, nonce] = [
    client.randomPKCECodeVerifier(), client.randomState(), client.randomNonce(),
  ];
  request.session.login = { verifier, state, nonce };
  const url = client.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    scope,
    state,
    nonce,
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  });
  response.redirect(url.href);
});

app.get(new URL(redirectUri).pathname, async (request, response) => {
  const { verifier, state, nonce } = request.session.login ?? {};
  const url = new URL(request.originalUrl, redirectUri);
  const tokens = await client.authorizationCodeGrant(config, url, {
    pkceCodeVerifier: verifier,
    expectedState: state,
    expectedNonce: nonce,
    idTokenExpected: true,
  });
  request.session.regenerate(() => {
    request.session.user = tokens.claims();
    response.redirect('/');
  });
});

app.listen(3000);
";

const NEXT_JS: &str = r"// npm install next-auth@beta
// auth.js: its redirect URI is /api/auth/callback/propusk at your host, here ‹redirect›
import NextAuth from 'next-auth';

export const { handlers, signIn, signOut, auth } = NextAuth({
  providers: [
    {
      id: 'propusk',
      name: 'Propusk',
      type: 'oidc',
      issuer: '‹issuer›',
      clientId: '‹id›',
§      clientSecret: process.env.OIDC_CLIENT_SECRET,
¤      client: { token_endpoint_auth_method: 'none' },
      authorization: { params: { scope: '‹scope›' } },
      checks: ['pkce', 'state', 'nonce'],
    },
  ],
});

// app/api/auth/[...nextauth]/route.js
import { handlers } from '@/auth';

export const { GET, POST } = handlers;
";

const BROWSER: &str = r"// npm install oidc-client-ts
§// A page keeps no secret: create a client for a single-page application instead.
import { InMemoryWebStorage, UserManager, WebStorageStateStore } from 'oidc-client-ts';

const manager = new UserManager({
  authority: '‹issuer›',
  client_id: '‹id›',
  redirect_uri: '‹redirect›',
  scope: '‹scope›',
  userStore: new WebStorageStateStore({ store: new InMemoryWebStorage() }),
  // The state of the login survives the redirect in this tab only.
  stateStore: new WebStorageStateStore({ store: sessionStorage }),
  automaticSilentRenew: true,
  loadUserInfo: true,
});

if (new URLSearchParams(location.search).has('code')) {
  await manager.signinRedirectCallback();
  history.replaceState(null, '', location.pathname);
}
const user = await manager.getUser();
if (!user) await manager.signinRedirect();
";

const SPRING_BOOT: &str = r#"# src/main/resources/application.yaml
# with the starters webmvc and security-oauth2-client
spring.security.oauth2.client:
  registration.propusk:
    client-id: "‹id›"
§    client-secret: ${OIDC_CLIENT_SECRET}
¤    client-authentication-method: none
    redirect-uri: "‹redirect›"
    scope: [‹scopes›]
  provider.propusk:
    issuer-uri: "‹issuer›"
    user-name-attribute: sub
"#;

const AXUM: &str = r#"// cargo add axum && cargo add tokio --features macros,net,rt-multi-thread
// and propusk-client with the feature axum, from clients/rust of the repository.
// For an application at this server's host or behind the same proxy, whose users log in by its
// cookies. The client's scope must have propusk:revocations.
use std::env::var;

use axum::{Router, routing::get};
use propusk_client::{Propusk, Session, SessionLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let propusk = Propusk::builder("‹issuer›")
        .feed("‹id›", var("OIDC_CLIENT_SECRET")?)
        .login_url("‹issuer›/session/start".to_owned())
        .application_url("http://127.0.0.1:3000".to_owned())
        .build()?;
    let application =
        Router::new().route("/account", get(account)).layer(SessionLayer::new(&propusk));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, application).await?)
}

/// Private, since it extracts a session.
async fn account(session: Session) -> String {
    session.email
}
"#;

const GO: &str = r#"// go get github.com/coreos/go-oidc/v3/oidc golang.org/x/oauth2
provider, err := oidc.NewProvider(ctx, "‹issuer›")
if err != nil {
	log.Fatal(err)
}
client := oauth2.Config{
	ClientID:     "‹id›",
§	ClientSecret: os.Getenv("OIDC_CLIENT_SECRET"),
	Endpoint:     provider.Endpoint(),
	RedirectURL:  "‹redirect›",
	Scopes:       []string{‹scopes›},
}
idTokens := provider.Verifier(&oidc.Config{ClientID: client.ClientID})

// The beginning of a login: keep state and verifier in a cookie of the browser.
state, verifier := rand.Text(), oauth2.GenerateVerifier()
url := client.AuthCodeURL(state, oidc.Nonce(state), oauth2.S256ChallengeOption(verifier))

// At the redirect URI, if r.FormValue("state") is that of the cookie:
token, err := client.Exchange(ctx, r.FormValue("code"), oauth2.VerifierOption(verifier))
if err != nil {
	return err
}
raw, _ := token.Extra("id_token").(string)
id, err := idTokens.Verify(ctx, raw) // and id.Nonce must be the state
"#;

const PYTHON: &str = r#"# pip install Authlib Flask requests
import os

from authlib.integrations.flask_client import OAuth
from flask import Flask, redirect, session

app = Flask(__name__)
app.secret_key = os.environ["SESSION_SECRET"]
oauth = OAuth(app)
oauth.register(
    "propusk",
    client_id="‹id›",
§    client_secret=os.environ["OIDC_CLIENT_SECRET"],
    server_metadata_url="‹issuer›/.well-known/openid-configuration",
§    client_kwargs={"scope": "‹scope›", "code_challenge_method": "S256"},
¤    client_kwargs={
¤        "scope": "‹scope›",
¤        "code_challenge_method": "S256",
¤        "token_endpoint_auth_method": "none",
¤    },
)


@app.get("/login")
def login():
    return oauth.propusk.authorize_redirect("‹redirect›")


@app.get("/callback")  # the path of ‹redirect›
def callback():
    token = oauth.propusk.authorize_access_token()  # verifies state, nonce and the ID token
    session["user"] = token["userinfo"]["sub"]
    return redirect("/")
"#;

const CODE: &str = r#"# 1. Make a verifier and its challenge (RFC 7636), and open this URL in a browser.
verifier=$(openssl rand -base64 48 | tr -d '\n' | tr '+/' '-_')
challenge=$(printf %s "$verifier" | openssl dgst -sha256 -binary | base64 | tr '+/' '-_' | tr -d =)
state=$(openssl rand -hex 16)
curl -sS -G -o /dev/null -w '%{url_effective}\n' '‹issuer›/oauth2/authorize' \
  -d response_type=code -d 'client_id=‹id›' --data-urlencode 'redirect_uri=‹redirect›' \
  --data-urlencode 'scope=‹scope›' -d "state=$state" \
  -d "code_challenge=$challenge" -d code_challenge_method=S256

# 2. Exchange the code that arrives at the redirect URI with the same state.
§curl -sS -u "‹id›:$OIDC_CLIENT_SECRET" '‹issuer›/oauth2/token' \
¤curl -sS -d 'client_id=‹id›' '‹issuer›/oauth2/token' \
  -d grant_type=authorization_code -d "code=$code" \
  --data-urlencode 'redirect_uri=‹redirect›' -d "code_verifier=$verifier"
"#;

const DPOP_CODE: &str = r"// npm install openid-client; each request has a proof of a key (RFC 9449)
import * as client from 'openid-client';

const redirectUri = '‹redirect›';
const issuer = new URL('‹issuer›');
§const secret = process.env.OIDC_CLIENT_SECRET;
§const config = await client.discovery(issuer, '‹id›', secret, undefined‹insecure›);
¤const config = await client.discovery(issuer, '‹id›', undefined, client.None()‹insecure›);
// Keep the key as long as the session; in a browser in IndexedDB.
const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'));

// 1. Send the user to this URL; keep the verifier, the state and the nonce.
const [verifier, state, nonce] = [
  client.randomPKCECodeVerifier(), client.randomState(), client.randomNonce(),
];
const url = client.buildAuthorizationUrl(config, {
  redirect_uri: redirectUri,
  scope: '‹scope›',
  state,
  nonce,
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
  dpop_jkt: await DPoP.calculateThumbprint(),
});

// 2. At the redirect URI, with the URL that the browser opens:
export async function loggedIn(current) {
  const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce };
  const tokens = await client.authorizationCodeGrant(config, current, checks, undefined, { DPoP });
  return client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub, { DPoP });
}
";

const DPOP_SERVICE: &str = r"// npm install openid-client; each request has a proof of a key (RFC 9449)
import * as client from 'openid-client';

const issuer = new URL('‹issuer›');
§const secret = process.env.OIDC_CLIENT_SECRET;
§const config = await client.discovery(issuer, '‹id›', secret, undefined‹insecure›);
¤// This client authenticates by a key: client.PrivateKeyJwt(key) instead of client.None().
¤const config = await client.discovery(issuer, '‹id›', undefined, client.None()‹insecure›);
const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'));
const tokens = await client.clientCredentialsGrant(config, { scope: '‹scope›' }, { DPoP });

const response = await client.fetchProtectedResource(
  config, tokens.access_token, new URL('https://api.example.org/'), 'GET', null, new Headers(),
  { DPoP },
);
console.log(response.status);
";

const SERVICE: &str = r#"§curl -sS -u "‹id›:$OIDC_CLIENT_SECRET" '‹issuer›/oauth2/token' \
¤# This client authenticates by a key: add client_assertion (RFC 7523).
¤curl -sS -d 'client_id=‹id›' '‹issuer›/oauth2/token' \
  -d grant_type=client_credentials --data-urlencode 'scope=‹scope›'
"#;

const DEVICE: &str = r#"# 1. Show the user verification_uri and user_code of the response.
§curl -sS -u "‹id›:$OIDC_CLIENT_SECRET" '‹issuer›/oauth2/device_authorization' \
¤curl -sS -d 'client_id=‹id›' '‹issuer›/oauth2/device_authorization' \
  --data-urlencode 'scope=‹scope›'

# 2. Poll with its device_code, no more often than its interval.
§curl -sS -u "‹id›:$OIDC_CLIENT_SECRET" '‹issuer›/oauth2/token' \
¤curl -sS -d 'client_id=‹id›' '‹issuer›/oauth2/token' \
  -d grant_type=urn:ietf:params:oauth:grant-type:device_code -d "device_code=$device_code"
"#;
