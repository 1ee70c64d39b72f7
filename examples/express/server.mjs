// An Express application whose users log in at Propusk's pages, at the same host: cookies do not
// distinguish ports. See docs/quickstarts/express.md.

import {
  chain,
  toExpress,
  withPrivateRoutes,
  withRefresh,
  withRequestId,
  withSession,
} from '@propusk/client/middleware';
import { createPropusk } from '@propusk/client/server';
import { logout } from '@propusk/client/tokens';
import express from 'express';

const { PROPUSK_URL = 'http://127.0.0.1:8080', PROPUSK_FEED_SECRET, PORT = '3000' } = process.env;
const propusk = createPropusk({
  issuer: PROPUSK_URL,
  // With a client for the revocation feed, tokens are verified in this process.
  feed: PROPUSK_FEED_SECRET
    ? { clientId: 'gateway', clientSecret: PROPUSK_FEED_SECRET }
    : undefined,
});
const loginUrl = `${PROPUSK_URL}/session/start`;

const application = express();
application.use(
  toExpress(
    propusk,
    chain([
      withRequestId,
      withSession,
      withPrivateRoutes({ match: ['/account', '/sign-out'], loginUrl }),
      withPrivateRoutes({ match: '/crm', loginUrl, modules: ['crm'] }),
      withRefresh,
    ]),
  ),
);

application.get('/', (request, response) => {
  const { session } = response.locals;
  response.json({ user: session?.email ?? null });
});

application.get('/account', (request, response) => {
  response.type('html').send(`<h1>Account</h1>
<p>User ${response.locals.session.userId}</p>
<form method="post" action="/sign-out"><button>Sign out</button></form>`);
});

application.get('/crm', (request, response) => {
  response.json({ modules: response.locals.session.modules });
});

application.post('/sign-out', async (request, response) => {
  const { access } = propusk.cookies.read(request);
  await logout({}, { baseUrl: PROPUSK_URL, accessToken: access[0] });
  for (const cookie of propusk.cookies.clear()) response.append('set-cookie', cookie);
  response.redirect(303, '/');
});

application.listen(Number(PORT), '127.0.0.1', () =>
  console.log(`http://127.0.0.1:${PORT}/account`),
);
