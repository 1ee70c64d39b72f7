// openid-client: every flow that both it and this server support.

import assert from 'node:assert/strict';

import * as client from 'openid-client';

import { keys, refused, scenario } from './scenario.mjs';

/** Of the service in tests/it/client_libraries.rs that may exchange tokens. */
const EXCHANGER_SECRET = "a secret of the application's own";
const SCOPE = 'openid profile email offline_access';

await scenario(async ({ issuer, user, application, step, rest: [resource] }) => {
  // Makes the library check the signatures of ID tokens too (over TLS it may skip them).
  const execute = [client.allowInsecureRequests, client.enableNonRepudiationChecks];

  const register = (metadata, authentication) =>
    client.dynamicClientRegistration(
      issuer,
      {
        client_name: 'openid-client',
        redirect_uris: [application.callback],
        post_logout_redirect_uris: [application.goodbye],
        grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
        response_types: ['code'],
        scope: SCOPE,
        ...metadata,
      },
      authentication,
      { execute },
    );

  /** An authorization request, and what its response is checked against. */
  const request = async (more = {}) => {
    const pkceCodeVerifier = client.randomPKCECodeVerifier();
    const expectedState = client.randomState();
    const expectedNonce = client.randomNonce();
    const parameters = {
      redirect_uri: application.callback,
      scope: SCOPE,
      code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
      code_challenge_method: 'S256',
      state: expectedState,
      nonce: expectedNonce,
      ...more,
    };
    return { parameters, checks: { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true } };
  };

  const config = await step('discovery and dynamic registration', () =>
    register({ token_endpoint_auth_method: 'client_secret_basic' }),
  );
  const server = config.serverMetadata();
  assert.equal(server.issuer, issuer.href.replace(/\/$/, ''));
  assert.ok(config.clientMetadata().client_secret);
  await step('discovery with the registered credentials', async () => {
    const { client_id, client_secret } = config.clientMetadata();
    const found = await client.discovery(issuer, client_id, client_secret, undefined, { execute });
    assert.deepEqual(found.serverMetadata().token_endpoint, server.token_endpoint);
  });

  const first = await step('code with PKCE through login and consent', async () => {
    const { parameters, checks } = await request({ max_age: '3600' });
    const back = await user.follow(client.buildAuthorizationUrl(config, parameters));
    assert.deepEqual(back.pages, ['login', 'consent']);
    assert.equal(back.url.searchParams.get('iss'), server.issuer);
    return client.authorizationCodeGrant(config, back.url, { ...checks, maxAge: 3600 });
  });
  const { sub } = first.claims();
  assert.equal(first.token_type, 'bearer');
  assert.ok(first.expiresIn() > 0 && first.refresh_token && first.claims().auth_time);

  await step('userinfo', async () => {
    const claims = await client.fetchUserInfo(config, first.access_token, sub);
    assert.equal(claims.email, user.name);
  });
  const second = await step('refresh', () => client.refreshTokenGrant(config, first.refresh_token));
  assert.equal(second.claims().sub, sub);
  assert.notEqual(second.refresh_token, first.refresh_token);
  await step('introspection of an access token and a refresh token', async () => {
    const access = await client.tokenIntrospection(config, second.access_token);
    assert.deepEqual([access.active, access.sub, access.iss], [true, sub, server.issuer]);
    const refresh = await client.tokenIntrospection(config, second.refresh_token, { token_type_hint: 'refresh_token' });
    assert.equal(refresh.active, true);
  });
  await step('client credentials', async () => {
    const token = await client.clientCredentialsGrant(config);
    const claims = await client.tokenIntrospection(config, token.access_token);
    assert.deepEqual([claims.active, claims.client_id], [true, config.clientMetadata().client_id]);
  });

  await step('token exchange with an actor, by a service', async () => {
    const service = new client.Configuration(server, 'exchanger', EXCHANGER_SECRET);
    client.allowInsecureRequests(service);
    const own = await client.clientCredentialsGrant(service);
    const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
    const parameters = { subject_token: second.access_token, subject_token_type: ACCESS_TOKEN, audience: resource };
    const actor = { actor_token: own.access_token, actor_token_type: ACCESS_TOKEN };
    const exchange = (more) =>
      client.genericGrantRequest(service, 'urn:ietf:params:oauth:grant-type:token-exchange', { ...parameters, ...more });
    const exchanged = await exchange(actor);
    assert.equal(exchanged.issued_token_type, ACCESS_TOKEN);
    assert.equal(exchanged.refresh_token, undefined);
    const claims = await client.tokenIntrospection(service, exchanged.access_token);
    assert.deepEqual([claims.active, claims.sub, claims.aud, claims.act], [true, sub, resource, { sub: 'exchanger' }]);
    await refused('invalid_scope', exchange({ scope: 'notes:read' }));
    await refused('invalid_target', exchange({ audience: 'https://other.example' }));
    await refused('invalid_request', exchange({ subject_token: own.access_token }));
    // Each grant is registered by itself.
    const bearer = client.genericGrantRequest(service, 'urn:ietf:params:oauth:grant-type:jwt-bearer', { assertion: 'x' });
    await refused('unauthorized_client', bearer);
  });

  await step('a pushed authorization request without pages: logged in and consented', async () => {
    const { parameters, checks } = await request();
    const url = await client.buildAuthorizationUrlWithPAR(config, parameters);
    assert.deepEqual([...url.searchParams.keys()].sort(), ['client_id', 'request_uri']);
    const back = await user.follow(url);
    assert.deepEqual(back.pages, []);
    const tokens = await client.authorizationCodeGrant(config, back.url, checks);
    assert.equal(tokens.claims().sub, sub);
  });
  await step('form_post', async () => {
    const { parameters, checks } = await request({ response_mode: 'form_post' });
    const back = await user.follow(client.buildAuthorizationUrl(config, parameters));
    assert.equal(back.method, 'POST');
    const posted = new Request(back.url, {
      method: 'POST',
      headers: { 'content-type': back.type },
      body: back.body,
    });
    await client.authorizationCodeGrant(config, posted, checks);
  });
  await step('prompt=login asks for the password again', async () => {
    const { parameters, checks } = await request({ prompt: 'login', max_age: '0' });
    const back = await user.follow(client.buildAuthorizationUrl(config, parameters));
    assert.deepEqual(back.pages, ['login']);
    await client.authorizationCodeGrant(config, back.url, { ...checks, maxAge: 0 });
  });
  await step('a user denies consent', async () => {
    const { parameters, checks } = await request({ prompt: 'consent' });
    const back = await user.follow(client.buildAuthorizationUrl(config, parameters), { consent: 'deny' });
    assert.deepEqual(back.pages, ['consent']);
    await refused('access_denied', client.authorizationCodeGrant(config, back.url, checks));
  });

  await step('revocation of a refresh token revokes the session', async () => {
    await client.tokenRevocation(config, second.refresh_token);
    const claims = await client.tokenIntrospection(config, second.access_token);
    assert.deepEqual(claims, { active: false });
    await refused('invalid_grant', client.refreshTokenGrant(config, second.refresh_token));
    await assert.rejects(client.fetchUserInfo(config, second.access_token, sub), { status: 401 });
  });

  const { key, jwks } = await keys('ES256');
  const signing = await step('registration for private_key_jwt and signed requests', () =>
    register(
      {
        client_name: 'openid-client with a key',
        token_endpoint_auth_method: 'private_key_jwt',
        token_endpoint_auth_signing_alg: 'ES256',
        request_object_signing_alg: 'ES256',
        id_token_signed_response_alg: 'ES256',
        jwks,
      },
      client.PrivateKeyJwt(key),
    ),
  );
  assert.equal(signing.clientMetadata().client_secret, undefined);
  await step('private_key_jwt: a signed, pushed request, code, refresh, introspection, revocation', async () => {
    const { parameters, checks } = await request();
    const signed = await client.buildAuthorizationUrlWithJAR(signing, parameters, key);
    const pushed = await client.buildAuthorizationUrlWithPAR(signing, signed.searchParams);
    const back = await user.follow(pushed);
    assert.deepEqual(back.pages, ['consent']);
    const tokens = await client.authorizationCodeGrant(signing, back.url, checks);
    const next = await client.refreshTokenGrant(signing, tokens.refresh_token);
    assert.equal((await client.tokenIntrospection(signing, next.access_token)).active, true);
    await client.tokenRevocation(signing, next.access_token);
    assert.equal((await client.tokenIntrospection(signing, next.access_token)).active, false);
    await client.clientCredentialsGrant(signing);
  });
  await step('a signed request in the URL', async () => {
    const { parameters, checks } = await request();
    const back = await user.follow(await client.buildAuthorizationUrlWithJAR(signing, parameters, key));
    await client.authorizationCodeGrant(signing, back.url, checks);
  });

  await step('a public client: PKCE alone', async () => {
    const open = await register(
      {
        client_name: 'openid-client without a secret',
        token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code', 'refresh_token'],
      },
      client.None(),
    );
    const { parameters, checks } = await request();
    const back = await user.follow(client.buildAuthorizationUrl(open, parameters));
    const tokens = await client.authorizationCodeGrant(open, back.url, checks);
    const next = await client.refreshTokenGrant(open, tokens.refresh_token);
    await client.tokenRevocation(open, next.refresh_token);
    await refused('invalid_grant', client.refreshTokenGrant(open, next.refresh_token));
  });

  await step('device authorization: allowed, and denied', async () => {
    const device = await register(
      {
        client_name: 'openid-client on a device',
        token_endpoint_auth_method: 'none',
        redirect_uris: [],
        response_types: [],
        grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
      },
      client.None(),
    );
    for (const decision of ['allow', 'deny']) {
      const codes = await client.initiateDeviceAuthorization(device, { scope: SCOPE });
      const polled = client.pollDeviceAuthorizationGrant(device, codes);
      const expected = decision === 'allow' ? polled : refused('access_denied', polled);
      const [tokens] = await Promise.all([expected, user.decide(codes.verification_uri_complete, decision)]);
      if (decision === 'deny') continue;
      assert.equal(tokens.claims().sub, sub);
      const next = await client.refreshTokenGrant(device, tokens.refresh_token);
      assert.equal((await client.fetchUserInfo(device, next.access_token, sub)).email, user.name);
    }
  });

  await step('RP-initiated logout', async () => {
    const state = client.randomState();
    const parameters = { id_token_hint: first.id_token, post_logout_redirect_uri: application.goodbye, state };
    const back = await user.follow(client.buildEndSessionUrl(config, parameters));
    assert.equal(back.url.pathname, '/goodbye');
    assert.equal(back.url.searchParams.get('state'), state);
    const silent = await request({ prompt: 'none' });
    const answer = await user.follow(client.buildAuthorizationUrl(config, silent.parameters));
    await refused('login_required', client.authorizationCodeGrant(config, answer.url, silent.checks));
  });
});
