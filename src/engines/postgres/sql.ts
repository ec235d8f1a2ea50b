import { VerdigrisError } from '../../core/errors.ts';
import type { TableName } from '../../core/table.ts';

/** Longest identifier in bytes; the server truncates longer ones in silence (NAMEDATALEN 64). */
export const MAX_IDENTIFIER_BYTES = 63;

/** Quotes one identifier. Names come from catalogs and logs: they may hold anything but NUL. */
export function ident(name: string): string {
  if (name === '' || name.includes('\0'))
    throw new VerdigrisError('INTERNAL', 'An identifier is empty or holds NUL.');
  if (Buffer.byteLength(name) > MAX_IDENTIFIER_BYTES) {
    throw new VerdigrisError(
      'CONFIG_INVALID',
      `Identifier of more than ${MAX_IDENTIFIER_BYTES} bytes: ${name}`,
    );
  }
  return `"${name.replaceAll('"', '""')}"`;
}

export const qualified = (table: TableName): string => `${ident(table.schema)}.${ident(table.name)}`;

/** Quotes a string literal; correct whatever standard_conforming_strings says. */
export function literal(text: string): string {
  if (text.includes('\0')) throw new VerdigrisError('INTERNAL', 'A literal holds NUL.');
  const quoted = text.replaceAll("'", "''");
  return quoted.includes('\\') ? ` E'${quoted.replaceAll('\\', '\\\\')}'` : `'${quoted}'`;
}
