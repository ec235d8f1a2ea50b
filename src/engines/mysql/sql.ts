import { VerdigrisError } from '../../core/errors.ts';
import type { TableName } from '../../core/table.ts';

/** Longest identifier in characters. */
export const MAX_IDENTIFIER = 64;

/** Quotes one identifier. Names come from catalogs and logs: they may hold anything but NUL. */
export function ident(name: string): string {
  if (name === '' || name.includes('\0'))
    throw new VerdigrisError('INTERNAL', 'An identifier is empty or holds NUL.');
  if (name.length > MAX_IDENTIFIER)
    throw new VerdigrisError(
      'CONFIG_INVALID',
      `Identifier of more than ${MAX_IDENTIFIER} characters: ${name}`,
    );
  return `\`${name.replaceAll('`', '``')}\``;
}

export const qualified = (table: TableName): string => `${ident(table.schema)}.${ident(table.name)}`;

const SPECIAL = /['\\\0\n\r\x1a]/;
const SPECIALS = /['\\\0\n\r\x1a]/g;
const ESCAPES: Readonly<Record<string, string>> = {
  "'": "''",
  '\\': '\\\\',
  '\0': '\\0',
  '\n': '\\n',
  '\r': '\\r',
  '\x1a': '\\Z',
};

/** Quotes a string. Connections are pinned to utf8mb4 and to an sql_mode in which the backslash escapes. */
export function literal(text: string): string {
  if (!SPECIAL.test(text)) return `'${text}'`;
  return `'${text.replace(SPECIALS, (found) => ESCAPES[found] as string)}'`;
}

/** A number that comes from our own code. */
export const number = (value: number | bigint): string => String(value);
