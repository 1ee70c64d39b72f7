// What every story here has: its arguments, a person before a browser, steps that are told as they are done.

import assert from 'node:assert/strict';

import { exportJWK, generateKeyPair } from 'jose';

import { Application, Browser, Person } from './browser.mjs';

/** Runs `tell({ issuer, person, application, step, rest })` and ends the process: 0 where every step held. */
export async function story(tell) {
  const [issuer, driver, name, password, ...rest] = process.argv.slice(2);
  if (!password) {
    console.error(`usage: node ${process.argv[1]} ISSUER WEBDRIVER_URL LOGIN PASSWORD`);
    process.exit(2);
  }
  let current = 'the browser opens';
  let held = 0;
  const step = async (what, act) => {
    current = what;
    const result = await act();
    held += 1;
    console.log(`ok  ${what}`);
    return result;
  };
  let browser, application;
  try {
    application = await Application.listen();
    browser = await Browser.open(driver);
    const person = new Person(browser, application, name, password);
    await tell({ issuer: new URL(issuer), person, application, step, rest });
    console.log(`all ${held} steps held`);
  } catch (error) {
    console.log(`FAILED  ${current}`);
    console.log(error);
    process.exitCode = 1;
  } finally {
    await browser?.close();
    application?.close();
  }
}

/** Fails where the call does not fail with this OAuth error. */
export async function refused(code, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.error, code, `another error: ${error.stack}`);
    return true;
  });
}

/** A key pair for `private_key_jwt` and request objects, and the JWK Set that a client registers. */
export async function keys(alg) {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  const kid = 'the first';
  const published = { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' };
  return { key: { key: privateKey, kid }, jwks: { keys: [published] } };
}
