import { register, type Tokens } from '../../src/tokens.js';
import { PASSWORD } from './server.js';

let count = 0;

/** A user with a session. */
export interface Person {
  name: string;
  email: string;
  access: string;
  refresh: string;
  tokens: Tokens;
}

/** Registers a user of its own. */
export async function newUser(baseUrl: string): Promise<Person> {
  count += 1;
  const name = `u${process.pid}x${Date.now() % 1_000_000}x${count}`;
  const email = `${name}@example.org`;
  const tokens = await register({ email, username: name, password: PASSWORD }, { baseUrl });
  return {
    name,
    email,
    access: tokens.accessToken ?? '',
    refresh: tokens.refreshToken ?? '',
    tokens,
  };
}

/** Waits until something holds; fails after `within` milliseconds. */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
  within = 15_000,
): Promise<number> {
  const began = Date.now();
  while (!(await holds())) {
    if (Date.now() - began > within) throw new Error(`not within ${within} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return Date.now() - began;
}
