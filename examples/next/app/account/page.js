import { cookies } from 'next/headers';
import { redirect } from 'next/navigation';

import { propusk } from '../../lib/propusk.js';
import { Account } from './account.js';

export default async function Page() {
  const session = await propusk.getSession(await cookies());
  if (session === null) redirect('/login?return_to=/account');
  return <Account session={session} />;
}
