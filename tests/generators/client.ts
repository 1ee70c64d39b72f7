// A first-party application with the client that openapi-typescript and openapi-fetch make.
//
//   node client.js BASE_URL ADMIN_LOGIN PASSWORD

import createClient from "openapi-fetch";

import type { components, paths } from "./schema.js";

type Tokens = components["schemas"]["Tokens"];
type ErrorCode = components["schemas"]["ErrorCode"];

const [base, admin, password] = process.argv.slice(2);
if (!base || !admin || !password) throw new Error("BASE_URL ADMIN_LOGIN PASSWORD");
const client = createClient<paths>({ baseUrl: base });

function check(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what);
  console.log(`ok: ${what}`);
}

// An optional field with a default may be absent: `delivery`, everywhere here.
const email = "typescript@example.org";
const registered = await client.POST("/api/v1/auth/register", {
  body: { email, username: "typescript", password },
});
// 201; where registrations are confirmed by mail, it is 202 without tokens.
const account = registered.data?.data as Tokens | undefined;
check(account?.user.email === email, "register");

const refused = await client.POST("/api/v1/auth/login", {
  body: { login: email, password: "wrong" },
});
const expected: ErrorCode = "INVALID_CREDENTIALS";
check(refused.error?.errorCode === expected, "a wrong password is refused");

const loggedIn = await client.POST("/api/v1/auth/login", { body: { login: email, password } });
const tokens: Tokens | undefined = loggedIn.data?.data;
check(tokens?.tokenType === "Bearer" && tokens.refreshToken !== undefined, "log in");

const refreshed = await client.POST("/api/v1/auth/token/refresh", {
  body: { refreshToken: tokens.refreshToken },
});
const fresh = refreshed.data?.data;
check(fresh?.refreshToken !== undefined && fresh.refreshToken !== tokens.refreshToken, "refresh");

const authorization = (token: string | undefined) => ({ Authorization: `Bearer ${token}` });
const session = await client.GET("/api/v1/auth/session", {
  headers: authorization(fresh.accessToken),
});
check(session.data?.data?.username === "typescript", "get the session");

const administrator = await client.POST("/api/v1/auth/login", { body: { login: admin, password } });
const emails: string[] = [];
let cursor: string | undefined;
do {
  const page = await client.GET("/api/v1/admin/users", {
    headers: authorization(administrator.data?.data.accessToken),
    params: { query: { limit: 1, cursor } },
  });
  check(page.data !== undefined, "list a page of users");
  emails.push(...page.data.data.items.map((user) => user.email));
  cursor = page.data.data.nextCursor ?? undefined;
} while (cursor !== undefined);
check(emails.length === 2 && emails.includes(email), "every user is listed");
