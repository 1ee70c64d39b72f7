/** Which paths are meant: those that begin with one of these segments; or a test of the URL. */
export type Match = string | readonly string[] | ((url: URL) => boolean);

/**
 * A test whether a path is meant. Frameworks differ in what they take for the same path: Express
 * ignores case, most decode escapes. So the path is compared decoded, in lower case and without
 * empty segments; one that cannot be read unambiguously counts as meant.
 */
export function matcher(match: Match): (url: URL) => boolean {
  if (typeof match === 'function') return match;
  const prefixes = (typeof match === 'string' ? [match] : match).map((prefix) => {
    const canonical = canonicalPath(prefix);
    if (!prefix.startsWith('/') || canonical === undefined || /[*?:()]/.test(prefix)) {
      throw new TypeError(
        `match: \`${prefix}\` must be a path such as /account; it includes what is below it`,
      );
    }
    return canonical;
  });
  return ({ pathname }) => {
    const path = canonicalPath(pathname);
    return (
      path === undefined ||
      prefixes.some((prefix) => `${path}/`.startsWith(prefix === '/' ? '/' : `${prefix}/`))
    );
  };
}

/** The path decoded, in lower case, without empty segments; undefined if it is ambiguous. */
function canonicalPath(path: string): string | undefined {
  // An escaped slash, backslash, percent sign or dot is read in different ways; so is a `;`.
  if (/%(2f|5c|25|2e|00)|[\\;]/i.test(path)) return undefined;
  try {
    const segments = decodeURIComponent(path)
      .split('/')
      .filter((segment) => segment !== '');
    if (segments.includes('..') || segments.includes('.')) return undefined;
    return `/${segments.join('/')}`.toLowerCase();
  } catch {
    return undefined;
  }
}
