/**
 * Where to go after a login: a path of this application, or `fallback`. Other origins are refused,
 * however they are written (`//evil.example`, `/\evil.example`, `javascript:…`): an open redirect
 * makes the application's own login page lead to an attacker's (RFC 9700 §4.11).
 */
export function safeReturnTo(value: string | null | undefined, fallback = '/'): string {
  if (typeof value !== 'string' || !value.startsWith('/')) return fallback;
  // URL parsers drop tabs and line breaks, and read a backslash as a slash (WHATWG URL §4.4).
  if (/[\u0000-\u0020\u007f\\]/.test(value)) return fallback;
  const base = 'http://application.invalid';
  let url: URL;
  try {
    url = new URL(value, base);
  } catch {
    return fallback;
  }
  const path = url.pathname + url.search + url.hash;
  // `/.//evil.example` is a path of this origin that reads as another origin once it is written.
  return url.origin !== base || path.startsWith('//') ? fallback : path;
}
