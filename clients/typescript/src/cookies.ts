/**
 * The cookies of a session: their names, reading, building and clearing them.
 *
 * @module
 */

/**
 * Where the cookies of a request are: its Cookie header, its headers, itself, or Next's
 * `cookies()`.
 */
export type CookieSource =
  | string
  | Headers
  | {
      readonly headers: Headers | Readonly<Record<string, string | readonly string[] | undefined>>;
    }
  | { getAll(): readonly { readonly name: string; readonly value: string }[] };

/** What new cookies are made of: the result of a login or refresh with `delivery: 'body'`. */
export interface CookieTokens {
  accessToken?: string;
  refreshToken?: string;
  /** Seconds. */
  expiresIn: number;
  /** Seconds. */
  refreshExpiresIn: number;
}

export interface CookieOptions {
  /** The server's issuer: with https, the names have a prefix. */
  issuer: string;
  /** `gateway.cookie_domain` of the server, if it is set. */
  domain?: string | undefined;
}

/** The cookies that the server of an issuer sets. */
export interface TokenCookies {
  readonly names: { readonly access: string; readonly refresh: string };
  /**
   * The tokens of a request. There are several of one kind where another host of the domain or
   * another program on this machine has set a cookie of the same name: the valid one counts.
   */
  read(source: CookieSource): { access: string[]; refresh: string[] };
  /** The `Set-Cookie` values of both tokens. */
  set(tokens: CookieTokens): [string, string];
  /** The `Set-Cookie` values that remove both. */
  clear(): [string, string];
}

/** Each value may cost a verification. */
const MOST_VALUES = 8;

/** The cookies of an issuer. */
export function tokenCookies({ issuer, domain }: CookieOptions): TokenCookies {
  const secure = issuer.startsWith('https:');
  // RFC 6265bis §4.1.3: `__Host-` binds a cookie to its host, so it cannot have a Domain.
  const prefix = !secure ? '' : domain === undefined ? '__Host-' : '__Secure-';
  const names = { access: `${prefix}propusk_access`, refresh: `${prefix}propusk_refresh` };
  const optional = `${secure ? '; Secure' : ''}${domain ? `; Domain=${domain}` : ''}`;
  const build = (name: string, value: string, seconds: number): string => {
    if (!/^[\w.~+/=-]*$/.test(value)) throw new TypeError(`the value of ${name} is not a token`);
    const lifetime = `Path=/; Max-Age=${Math.floor(seconds)}`;
    return `${name}=${value}; ${lifetime}; HttpOnly; SameSite=Lax${optional}`;
  };
  return {
    names,
    read(source) {
      const pairs = cookiePairs(source);
      const values = (wanted: string): string[] =>
        pairs
          .filter(([name, value]) => name === wanted && value !== '')
          .map(([, value]) => value)
          .slice(0, MOST_VALUES);
      return { access: values(names.access), refresh: values(names.refresh) };
    },
    set({ accessToken, refreshToken, expiresIn, refreshExpiresIn }) {
      if (!accessToken || !refreshToken) {
        throw new TypeError(
          "there are no tokens in the answer: ask for them with `delivery: 'body'`",
        );
      }
      return [
        build(names.access, accessToken, expiresIn),
        build(names.refresh, refreshToken, refreshExpiresIn),
      ];
    },
    clear: () => [build(names.access, '', 0), build(names.refresh, '', 0)],
  };
}

/** The names and values of a request's cookies, in the order sent. */
export function cookiePairs(source: CookieSource): [name: string, value: string][] {
  if (typeof source === 'object' && !(source instanceof Headers) && 'getAll' in source) {
    return source.getAll().map(({ name, value }) => [name, value]);
  }
  return header(source, 'cookie')
    .split(';')
    .map((pair): [string, string] => {
      const at = pair.indexOf('=');
      return at < 0 ? ['', ''] : [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
    })
    .filter(([name]) => name !== '');
}

/** A header of a request; empty if it is missing. */
export function header(source: CookieSource, name: string): string {
  if (typeof source === 'string') return name === 'cookie' ? source : '';
  if (source instanceof Headers) return source.get(name) ?? '';
  if (!('headers' in source)) return '';
  const { headers } = source;
  if (headers instanceof Headers) return headers.get(name) ?? '';
  const value = headers[name];
  return typeof value === 'string' ? value : (value ?? []).join(name === 'cookie' ? '; ' : ', ');
}

/** A Cookie header in which the tokens are replaced. */
export function withTokens(
  source: CookieSource,
  cookies: TokenCookies,
  tokens: CookieTokens | null,
): string {
  const { names } = cookies;
  const others = cookiePairs(source).filter(
    ([name]) => name !== names.access && name !== names.refresh,
  );
  const own =
    tokens === null
      ? []
      : [
          [names.access, tokens.accessToken ?? ''],
          [names.refresh, tokens.refreshToken ?? ''],
        ];
  return [...others, ...own].map(([name, value]) => `${name}=${value}`).join('; ');
}
