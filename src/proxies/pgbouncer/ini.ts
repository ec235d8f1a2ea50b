import { VerdigrisError } from '../../core/errors.ts';

/** One `name = connect string` of the [databases] section. */
export interface IniEntry {
  readonly name: string;
  /** 1-based. */
  readonly line: number;
  /** The line up to the connect string. */
  readonly head: string;
  readonly connect: string;
  /** Blanks and the line's carriage return after the connect string. */
  readonly tail: string;
}

interface Pair {
  readonly key: string;
  readonly value: string;
  /** Where the value, with its quotes, stands in the connect string. */
  readonly start: number;
  readonly end: number;
}

/**
 * The entries of the [databases] section. Lines before the first section count as well: an included file goes on in the
 * section of the file that includes it. PgBouncer 1.25 reads a key as `[A-Za-z0-9_.*-]+` or anything in single quotes.
 */
export function databaseEntries(text: string): IniEntry[] {
  const entries: IniEntry[] = [];
  let inside = true;
  for (const [index, line] of text.split('\n').entries()) {
    const section = /^\s*\[([^\]]*)\]/.exec(line);
    if (section) {
      inside = section[1] === 'databases';
      continue;
    }
    const match = inside ? /^(\s*(?:'([^']+)'|([A-Za-z0-9_.*-]+))[ \t]*=[ \t]*)(.*?)(\s*)$/.exec(line) : null;
    if (!match) continue;
    const name = match[2] ?? match[3];
    if (name === undefined) continue;
    entries.push({
      name,
      line: index + 1,
      head: match[1] as string,
      connect: match[4] as string,
      tail: match[5] as string,
    });
  }
  return entries;
}

/**
 * The connect string as PgBouncer reads it: only blanks separate, a value may stand in single quotes with '' for one, and
 * a comment at the end of the line would be part of it.
 * @throws VerdigrisError PROXY_UNEXPECTED
 */
export function connectPairs(entry: Pick<IniEntry, 'name' | 'line' | 'connect'>): Pair[] {
  const text = entry.connect;
  const pairs: Pair[] = [];
  let at = 0;
  const skip = (): void => {
    while (text[at] === ' ') at++;
  };
  const fail = (): never => {
    throw new VerdigrisError(
      'PROXY_UNEXPECTED',
      `Line ${entry.line} of the ini file, database ${entry.name}: not a connect string.`,
      {
        remedy: 'Correct the line: key=value pairs with blanks between them.',
      },
    );
  };
  for (skip(); at < text.length; skip()) {
    const from = at;
    while (at < text.length && text[at] !== '=' && text[at] !== ' ') at++;
    const key = text.slice(from, at);
    skip();
    if (key === '' || text[at] !== '=') fail();
    at++;
    skip();
    const start = at;
    let value = '';
    if (text[at] === "'") {
      at++;
      for (;;) {
        if (at >= text.length) fail();
        if (text[at] === "'") {
          if (text[at + 1] !== "'") break;
          at++;
        }
        value += text[at++];
      }
      at++;
      if (at < text.length && text[at] !== ' ') fail();
    } else {
      while (at < text.length && text[at] !== ' ') at++;
      value = text.slice(start, at);
    }
    pairs.push({ key, value, start, end: at });
  }
  return pairs;
}

/** The value of a key of the connect string; the last one counts; undefined when it is not there. */
export const connectValue = (pairs: readonly Pair[], key: string): string | undefined =>
  pairs.findLast((pair) => pair.key === key)?.value;

const quoted = (value: string): string =>
  /^[A-Za-z0-9_.:/@%+,-]+$/.test(value) ? value : `'${value.replaceAll("'", "''")}'`;

function withValues(entry: IniEntry, values: ReadonlyMap<string, string>): string {
  const pairs = connectPairs(entry);
  let text = '';
  let from = 0;
  for (const pair of pairs) {
    const value = values.get(pair.key);
    if (value === undefined) continue;
    text +=
      entry.connect.slice(from, pair.start) +
      (value === pair.value ? entry.connect.slice(pair.start, pair.end) : quoted(value));
    from = pair.end;
  }
  text += entry.connect.slice(from);
  for (const [key, value] of values) {
    if (!pairs.some((pair) => pair.key === key)) text += `${text === '' ? '' : ' '}${key}=${quoted(value)}`;
  }
  return text;
}

/**
 * The file with the given values in the entries of these databases; everything else (comments, other keys, other
 * databases, line ends) stays byte for byte.
 * @throws VerdigrisError PROXY_UNEXPECTED when a database has no entry: one is never added, a typing error would make it.
 */
export function rewriteDatabases(
  text: string,
  databases: readonly string[],
  values: ReadonlyMap<string, string>,
): string {
  const lines = text.split('\n');
  const entries = databaseEntries(text);
  for (const database of databases) {
    const own = entries.filter((entry) => entry.name === database);
    if (own.length === 0) {
      throw new VerdigrisError('PROXY_UNEXPECTED', `The ini file has no entry for database ${database}.`, {
        remedy: 'Name the file that holds the entry, or add the entry and RELOAD.',
      });
    }
    for (const entry of own) lines[entry.line - 1] = entry.head + withValues(entry, values) + entry.tail;
  }
  return lines.join('\n');
}
