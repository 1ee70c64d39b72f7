// What every scenario has: its arguments, a user with a browser, steps that are printed when they pass.

import assert from 'node:assert/strict';

import { exportJWK, generateKeyPair } from 'jose';

import { Application, Browser, User } from './browser.mjs';

/** Runs `body({ issuer, user, application, step, rest })` and ends the process: 0 if every step passed. */
export async function scenario(body) {
  const [issuer, driver, name, password, ...rest] = process.argv.slice(2);
  if (!password) {
    console.error(`usage: node ${process.argv[1]} ISSUER WEBDRIVER_URL LOGIN PASSWORD`);
    process.exit(2);
  }
  let current = 'the browser opens';
  let passed = 0;
  const step = async (what, act) => {
    current = what;
    const result = await act();
    passed += 1;
    console.log(`ok  ${what}`);
    return result;
  };
  let browser, application;
  try {
    application = await Application.listen();
    browser = await Browser.open(driver);
    const user = new User(browser, application, name, password);
    await body({ issuer: new URL(issuer), user, application, step, rest });
    console.log(`all ${passed} steps passed`);
  } catch (error) {
    console.log(`FAILED  ${current}`);
    console.log(error);
    process.exitCode = 1;
  } finally {
    await browser?.close();
    application?.close();
  }
}

/** Fails unless the call fails with this OAuth error. */
export async function refused(code, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.error, code, `another error: ${error.stack}`);
    return true;
  });
}

/** A key pair for `private_key_jwt` and request objects, and the JWK Set that a client registers. */
export async function keys(alg) {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  const kid = 'first';
  const published = { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' };
  return { key: { key: privateKey, kid }, jwks: { keys: [published] } };
}
