// The page of tests/react.test.ts: two components that use the session.

import { createElement, StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { SessionProvider, useSession } from '../../src/react.js';
import { login } from '../../src/tokens.js';

function Name() {
  const { data, status } = useSession();
  return createElement('p', { id: 'name' }, `${status} ${data?.username ?? 'nobody'}`);
}

function Actions() {
  const { update, signOut, status } = useSession();
  Object.assign(window, {
    kit: {
      update,
      signOut,
      async login(name: string, password: string) {
        await login({ login: name, password, delivery: 'cookie' });
        return update();
      },
    },
  });
  return createElement('p', { id: 'status' }, status);
}

const seen: string[] = [];
Object.assign(window, { seen });
const root = document.getElementById('root')!;
new MutationObserver(() => seen.push(document.getElementById('name')?.textContent ?? '')).observe(
  root,
  {
    childList: true,
    characterData: true,
    subtree: true,
  },
);
createRoot(root).render(
  createElement(
    StrictMode,
    null,
    createElement(SessionProvider, null, createElement(Name), createElement(Actions)),
  ),
);
