'use client';
/**
 * The session in React components.
 *
 * @module
 */
import {
  createContext,
  createElement,
  useContext,
  useEffect,
  useState,
  useSyncExternalStore,
  type ReactNode,
} from 'react';

import { SessionStore, type SessionState, type StoreOptions } from './session-store.js';
import type { Session } from './tokens.js';

export { ErrorCode, PropuskError } from './errors.js';
export { safeReturnTo } from './return-to.js';
export type { Session } from './tokens.js';

const SessionContext = createContext<SessionStore | null>(null);

export interface SessionProviderProps extends StoreOptions {
  children?: ReactNode;
}

/**
 * Holds the session for the components below it: one request for all of them. Give it the `session`
 * that the server has determined, and there is none.
 */
export function SessionProvider({ children, ...options }: SessionProviderProps): ReactNode {
  const [store] = useState(() => new SessionStore(options));
  useEffect(() => store.start(), [store]);
  return createElement(SessionContext.Provider, { value: store }, children);
}

/** The session, and what can be done with it. */
export interface UseSession extends SessionState {
  /**
   * Looks the session up, after a login for example. Rejects if the server could not be asked.
   */
  update(): Promise<Session | null>;
  /**
   * Logs out, in all tabs. Rejects if the server could not be asked: the user is still logged in.
   */
  signOut(): Promise<void>;
}

/** The session of the `SessionProvider` above. */
export function useSession(): UseSession {
  const store = useContext(SessionContext);
  if (store === null)
    throw new Error('useSession: there is no <SessionProvider> above this component');
  const state = useSyncExternalStore(store.subscribe, store.getState, store.getState);
  const [actions] = useState(() => ({
    update: () => store.update(),
    signOut: () => store.signOut(),
  }));
  return { ...state, ...actions };
}
