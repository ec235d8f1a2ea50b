const MASK = '****';

// Any scheme: database addresses, proxy consoles, webhooks. The user part may be empty. The password goes to the last @ of
// the word, since people forget to encode @ and /; rather a path too much is masked than a password too little.
const URL_PASSWORD = /([a-z][a-z0-9+.-]*:\/\/[^\s:@/"']*):([^\s]+)@/gi;
const ASSIGNMENT =
  /\b(password|passwd|pwd|passphrase|secret|token|pgpassword)(["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;&)}\]]+)/gi;
const SECRET_KEY =
  /(?:^|[_.-])(?:pass(?:word|wd|phrase)?|pwd|secret|token|private_?key|api_?key|authorization|credentials?)$/i;

/** Whether values under this key are secrets. Names of files that hold them are not. */
export const isSecretKey = (key: string): boolean => SECRET_KEY.test(key.replace(/([a-z])([A-Z])/g, '$1_$2'));

// The `key` of a hash operation is an HMAC secret; every other `key` in a mapping is a list or map of columns.
const isSecret = (holder: object, key: string): boolean =>
  isSecretKey(key) ||
  (key === 'key' && 'op' in holder && typeof (holder as { key?: unknown }).key === 'string');

/** Passwords in addresses and `password=…` become `****`. */
export const maskText = (text: string): string =>
  text
    .replace(URL_PASSWORD, `$1:${MASK}@`)
    .replace(ASSIGNMENT, (_, key: string, sign: string) => `${key}${sign}${MASK}`);

/** Replaces everything that is, or looks like, a secret in texts and in structures. */
export class Redactor {
  readonly #known: readonly string[];

  /** @param known secrets of this run's configuration; those shorter than six characters are found by pattern only. */
  constructor(known: Iterable<string> = []) {
    const all = new Set<string>();
    for (const secret of known) {
      if (secret.length < 6) continue;
      all.add(secret);
      all.add(encodeURIComponent(secret));
      all.add(JSON.stringify(secret).slice(1, -1));
    }
    // The longest first: one may be part of another.
    this.#known = [...all].sort((left, right) => right.length - left.length);
  }

  text(text: string): string {
    let result = text;
    for (const secret of this.#known) result = result.replaceAll(secret, MASK);
    return maskText(result);
  }

  /** A copy without secrets. Errors keep name, code, message and cause; anything deeper than eight levels is cut. */
  value(value: unknown, depth = 0): unknown {
    if (typeof value === 'string') return this.text(value);
    if (typeof value === 'bigint') return value.toString();
    if (typeof value === 'symbol' || typeof value === 'function') return `[${typeof value}]`;
    if (value === null || typeof value !== 'object') return value;
    if (depth > 8) return '[deep]';
    if (value instanceof Uint8Array) return `[${value.byteLength} bytes]`;
    if (value instanceof Error) return this.#error(value, depth);
    if (value instanceof Date) return value.toISOString();
    if (value instanceof Map || value instanceof Set) return this.value([...value], depth + 1);
    if (Array.isArray(value)) return value.map((item) => this.value(item, depth + 1));
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [
        key,
        isSecret(value, key) && inner !== null && inner !== undefined ? MASK : this.value(inner, depth + 1),
      ]),
    );
  }

  // Not every property: drivers put rows, statements and whole connections on their errors.
  #error(error: Error, depth: number): Record<string, unknown> {
    const { code } = error as { code?: unknown };
    return {
      name: error.name,
      ...(typeof code === 'string' ? { code } : {}),
      message: this.text(error.message),
      ...(error.stack === undefined ? {} : { stack: this.text(stackFrames(error.stack)) }),
      ...(error.cause === undefined ? {} : { cause: this.value(error.cause, depth + 1) }),
    };
  }
}

const stackFrames = (stack: string): string =>
  stack
    .split('\n')
    .filter((line) => /^\s+at /.test(line))
    .map((line) => line.trim())
    .join('\n');

/** Secrets inside one value of the configuration: the passwords of addresses, raw and decoded. */
export function secretsIn(text: string): string[] {
  const found: string[] = [];
  for (const match of text.matchAll(URL_PASSWORD)) {
    const raw = match[2] ?? '';
    // A password that is the user's name would blot out every mention of that user.
    const user = (match[1] ?? '').replace(/^.*\/\//, '');
    if (raw === '' || raw === user) continue;
    found.push(raw);
    try {
      found.push(decodeURIComponent(raw));
    } catch {
      // Not encoded: the raw form is all there is.
    }
  }
  return found;
}

/** Every secret of a configuration: passwords in addresses and what stands under the name of a secret. */
export function collectSecrets(value: unknown): string[] {
  if (typeof value === 'string') return secretsIn(value);
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    typeof inner === 'string' && isSecret(value, key) ? [inner] : collectSecrets(inner),
  );
}
