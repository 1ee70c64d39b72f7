// oauth4webapi: every message, with the signature of every signed response checked.

import assert from 'node:assert/strict';

import * as oauth from 'oauth4webapi';

import { keys, refused, scenario } from './scenario.mjs';

const SCOPE = 'openid profile email offline_access';
const insecure = { [oauth.allowInsecureRequests]: true };

await scenario(async ({ issuer, user, application, step }) => {
  const [as] = await step('discovery, by OpenID Connect and by RFC 8414', async () => {
    const found = [];
    for (const algorithm of ['oidc', 'oauth2']) {
      const response = await oauth.discoveryRequest(issuer, { algorithm, ...insecure });
      found.push(await oauth.processDiscoveryResponse(issuer, response));
    }
    assert.deepEqual(found[0], found[1]);
    return found;
  });

  const register = async (metadata) => {
    const asked = {
      redirect_uris: [application.callback],
      post_logout_redirect_uris: [application.goodbye],
      grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
      response_types: ['code'],
      scope: SCOPE,
      ...metadata,
    };
    const response = await oauth.dynamicClientRegistrationRequest(as, asked, insecure);
    const client = await oauth.processDynamicClientRegistrationResponse(response);
    for (const name of Object.keys(metadata)) assert.deepEqual(client[name], asked[name], name);
    return client;
  };

  /** From the authorization request to the tokens; with `push` the request is pushed first (PAR). */
  const authorize = async (client, authentication, { push = false, more = {}, options = {} } = {}) => {
    const verifier = oauth.generateRandomCodeVerifier();
    const state = oauth.generateRandomState();
    const nonce = oauth.generateRandomNonce();
    let parameters = {
      client_id: client.client_id,
      redirect_uri: application.callback,
      response_type: 'code',
      scope: SCOPE,
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      state,
      nonce,
      ...more,
    };
    if (push) {
      const response = await oauth.pushedAuthorizationRequest(as, client, authentication, parameters, insecure);
      const { request_uri } = await oauth.processPushedAuthorizationResponse(as, client, response);
      parameters = { client_id: client.client_id, request_uri };
    }
    const url = new URL(as.authorization_endpoint);
    url.search = new URLSearchParams(parameters);
    const { url: back, pages } = await user.follow(url);
    const answer = oauth.validateAuthResponse(as, client, back, state);
    const response = await oauth.authorizationCodeGrantRequest(
      as,
      client,
      authentication,
      answer,
      application.callback,
      verifier,
      { ...options, ...insecure },
    );
    const checks = { expectedNonce: nonce, requireIdToken: true };
    const tokens = await oauth.processAuthorizationCodeResponse(as, client, response, checks);
    await oauth.validateApplicationLevelSignature(as, response, insecure);
    return { tokens, pages, claims: oauth.getValidatedIdTokenClaims(tokens) };
  };

  const client = await step('dynamic registration: signed responses, client_secret_post', () =>
    register({
      client_name: 'oauth4webapi',
      token_endpoint_auth_method: 'client_secret_post',
      id_token_signed_response_alg: 'ES256',
      userinfo_signed_response_alg: 'ES256',
      introspection_signed_response_alg: 'ES256',
    }),
  );
  const secret = oauth.ClientSecretPost(client.client_secret);

  const first = await step('a pushed request, login, consent, code with PKCE', () =>
    authorize(client, secret, { push: true }),
  );
  assert.deepEqual(first.pages, ['login', 'consent']);
  const { tokens, claims } = first;

  await step('the access token conforms to RFC 9068', async () => {
    const request = new Request('http://127.0.0.1/', { headers: { authorization: `Bearer ${tokens.access_token}` } });
    const found = await oauth.validateJwtAccessToken(as, request, as.issuer, insecure);
    assert.deepEqual([found.sub, found.client_id, found.scope], [claims.sub, client.client_id, tokens.scope]);
  });
  await step('signed userinfo', async () => {
    const response = await oauth.userInfoRequest(as, client, tokens.access_token, insecure);
    const result = await oauth.processUserInfoResponse(as, client, claims.sub, response);
    assert.match(response.headers.get('content-type'), /^application\/jwt/);
    await oauth.validateApplicationLevelSignature(as, response, insecure);
    assert.equal(result.email, user.name);
  });
  const next = await step('refresh with fewer scopes', async () => {
    const more = { additionalParameters: { scope: 'openid email' } };
    const response = await oauth.refreshTokenGrantRequest(as, client, secret, tokens.refresh_token, {
      ...more,
      ...insecure,
    });
    const refreshed = await oauth.processRefreshTokenResponse(as, client, response);
    await oauth.validateApplicationLevelSignature(as, response, insecure);
    assert.equal(refreshed.scope, 'openid email');
    return refreshed;
  });
  await step('signed introspection (RFC 9701)', async () => {
    const options = { requestJwtResponse: true, ...insecure };
    const response = await oauth.introspectionRequest(as, client, secret, next.access_token, options);
    const result = await oauth.processIntrospectionResponse(as, client, response);
    assert.match(response.headers.get('content-type'), /^application\/token-introspection\+jwt/);
    await oauth.validateApplicationLevelSignature(as, response, insecure);
    assert.deepEqual([result.active, result.sub, result.scope], [true, claims.sub, 'openid email']);
  });
  await step('client credentials', async () => {
    const response = await oauth.clientCredentialsGrantRequest(as, client, secret, {}, insecure);
    const token = await oauth.processClientCredentialsResponse(as, client, response);
    assert.equal(token.token_type, 'bearer');
  });
  await step('revocation of an access token', async () => {
    const revoke = await oauth.revocationRequest(as, client, secret, next.access_token, insecure);
    await oauth.processRevocationResponse(revoke);
    const response = await oauth.introspectionRequest(as, client, secret, next.access_token, {
      requestJwtResponse: true,
      ...insecure,
    });
    const result = await oauth.processIntrospectionResponse(as, client, response);
    await oauth.validateApplicationLevelSignature(as, response, insecure);
    assert.equal(result.active, false);
  });
  await step('a code is single-use, and reuse revokes its tokens', async () => {
    const verifier = oauth.generateRandomCodeVerifier();
    const url = new URL(as.authorization_endpoint);
    url.search = new URLSearchParams({
      client_id: client.client_id,
      redirect_uri: application.callback,
      response_type: 'code',
      scope: 'openid',
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
    });
    const back = await user.follow(url);
    const answer = oauth.validateAuthResponse(as, client, back.url, oauth.expectNoState);
    const exchange = async () => {
      const to = application.callback;
      const response = await oauth.authorizationCodeGrantRequest(as, client, secret, answer, to, verifier, insecure);
      return oauth.processAuthorizationCodeResponse(as, client, response);
    };
    const once = await exchange();
    await refused('invalid_grant', exchange());
    const response = await oauth.userInfoRequest(as, client, once.access_token, insecure);
    await assert.rejects(oauth.processUserInfoResponse(as, client, claims.sub, response), { status: 401 });
  });

  await step('private_key_jwt with RSA: a pushed request, code, client credentials', async () => {
    const { key, jwks } = await keys('RS256');
    const signing = await register({
      client_name: 'oauth4webapi with a key',
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: 'RS256',
      jwks,
    });
    const assertion = oauth.PrivateKeyJwt(key);
    const { pages } = await authorize(signing, assertion, { push: true });
    assert.deepEqual(pages, ['consent']);
    const response = await oauth.clientCredentialsGrantRequest(as, signing, assertion, {}, insecure);
    await oauth.processClientCredentialsResponse(as, signing, response);
    const forged = oauth.PrivateKeyJwt((await keys('RS256')).key);
    const answer = await oauth.clientCredentialsGrantRequest(as, signing, forged, {}, insecure);
    await assert.rejects(oauth.processClientCredentialsResponse(as, signing, answer), {
      status: 400,
      error: 'invalid_client',
    });
  });

  await step('DPoP: code, userinfo, refresh and an API of its own', async () => {
    const spa = await register({
      client_name: 'oauth4webapi with DPoP',
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token'],
      dpop_bound_access_tokens: true,
    });
    const none = oauth.None();
    await refused('invalid_dpop_proof', authorize(spa, none));
    const DPoP = oauth.DPoP(spa, await oauth.generateKeyPair('ES256'));
    const { tokens: bound, claims: about } = await authorize(spa, none, { options: { DPoP } });
    assert.equal(bound.token_type, 'dpop');
    const info = await oauth.userInfoRequest(as, spa, bound.access_token, { DPoP, ...insecure });
    await oauth.processUserInfoResponse(as, spa, about.sub, info);
    const asBearer = await oauth.userInfoRequest(as, spa, bound.access_token, insecure);
    assert.equal(asBearer.status, 401);
    const url = new URL('/orders', issuer);
    const api = async (more) => {
      const sent = await oauth.protectedResourceRequest(bound.access_token, 'GET', url, undefined, null, {
        [oauth.customFetch]: async (to, { method, headers }) => {
          const request = new Request(to, { method, headers });
          await oauth.validateJwtAccessToken(as, request, as.issuer, { requireDPoP: true, ...insecure });
          return new Response('passed');
        },
        ...more,
        ...insecure,
      });
      return sent.text();
    };
    assert.equal(await api({ DPoP }), 'passed');
    await assert.rejects(api({}));
    const again = await oauth.refreshTokenGrantRequest(as, spa, none, bound.refresh_token, { DPoP, ...insecure });
    const renewed = await oauth.processRefreshTokenResponse(as, spa, again);
    assert.equal(renewed.token_type, 'dpop');
    const other = oauth.DPoP(spa, await oauth.generateKeyPair('ES256'));
    const stolen = await oauth.refreshTokenGrantRequest(as, spa, none, renewed.refresh_token, {
      DPoP: other,
      ...insecure,
    });
    await refused('invalid_grant', oauth.processRefreshTokenResponse(as, spa, stolen));
  });

  await step('a pairwise client gets another subject', async () => {
    const pairwise = await register({
      client_name: 'oauth4webapi, pairwise',
      token_endpoint_auth_method: 'client_secret_basic',
      subject_type: 'pairwise',
    });
    const result = await authorize(pairwise, oauth.ClientSecretBasic(pairwise.client_secret));
    assert.notEqual(result.claims.sub, claims.sub);
  });

  await step('logout without a hint asks first', async () => {
    const url = new URL(as.end_session_endpoint);
    url.search = new URLSearchParams({
      client_id: client.client_id,
      post_logout_redirect_uri: application.goodbye,
      state: 'the state',
    });
    const back = await user.follow(url);
    assert.deepEqual(back.pages, ['logout']);
    assert.equal(back.url.searchParams.get('state'), 'the state');
    await refused('login_required', authorize(client, secret, { more: { prompt: 'none' } }));
  });
});
