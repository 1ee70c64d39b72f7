'use client';
import { SessionProvider, useSession } from '@propusk/client/react';

function Greeting() {
  const { data, status, signOut } = useSession();
  if (status !== 'authenticated') return <a href="/login">Log in</a>;
  return (
    <p>
      Hello, {data.email}. <button onClick={signOut}>Sign out</button>
    </p>
  );
}

export function Account({ session }) {
  return (
    <SessionProvider session={session}>
      <Greeting />
    </SessionProvider>
  );
}
