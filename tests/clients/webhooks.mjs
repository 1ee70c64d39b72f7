// Verifies requests of webhooks with the library of Standard Webhooks. Reads from standard input
// [[name, { secret, headers, body }, whether it must be accepted], …]; started by
// tests/it/webhooks.rs.
import { Webhook } from "standardwebhooks";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const cases = JSON.parse(Buffer.concat(chunks).toString("utf8"));
let passed = 0;
for (const [name, { secret, headers, body }, expected] of cases) {
  let accepted = true;
  try {
    new Webhook(secret).verify(body, headers);
  } catch (error) {
    accepted = false;
    console.log(`${name}: ${error.message}`);
  }
  if (accepted !== expected) throw new Error(`${name}: accepted is ${accepted}`);
  passed += 1;
}
console.log(`${passed} cases passed`);
