import { cookies } from 'next/headers';
import { notFound } from 'next/navigation';

import { propusk } from '../../lib/propusk.js';

export default async function Page() {
  const session = await propusk.getSession(await cookies());
  // proxy.js has refused users without the module; the page does not rely on it.
  if (!session?.modules.includes('crm')) notFound();
  return <h1>Customers</h1>;
}
