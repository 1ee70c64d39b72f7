import { cookies } from 'next/headers';

import { propusk } from '../lib/propusk.js';

export default async function Page() {
  const session = await propusk.getSession(await cookies());
  return (
    <p>
      {session === null ? 'Nobody is logged in.' : `${session.email} is logged in.`}{' '}
      <a href="/account">Account</a>
    </p>
  );
}
