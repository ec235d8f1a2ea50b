import type pg from 'pg';
import { VerdigrisError } from '../../core/errors.ts';

/**
 * Runs an operator's schema file. Normally the whole file is one transaction, so that a mistake in it leaves nothing
 * behind. A file that controls transactions itself, or holds a statement that refuses to run inside one, is run statement
 * by statement as it stands.
 */
export async function runSchemaFile(client: pg.Client, sql: string): Promise<void> {
  const statements = splitStatements(sql);
  const asIs = statements.some(({ words }) => needsOwnTransaction(words));
  if (!asIs) await client.query('BEGIN');
  try {
    for (const { text } of statements) await client.query(text);
    if (!asIs) await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

/**
 * Runs the file in a transaction, hands the connection to `look`, and rolls back.
 * @throws VerdigrisError SCHEMA_UNSUPPORTED for a file that cannot be tried that way
 */
export async function trySchemaFile<T>(client: pg.Client, sql: string, look: () => Promise<T>): Promise<T> {
  const statements = splitStatements(sql);
  const alone = statements.find(({ words }) => needsOwnTransaction(words));
  if (alone !== undefined) {
    throw new VerdigrisError(
      'SCHEMA_UNSUPPORTED',
      'The schema file cannot be tried without leaving something behind: it controls transactions itself.',
      {
        remedy: 'Run it on green yourself; then plan again.',
      },
    );
  }
  await client.query('BEGIN');
  try {
    for (const { text } of statements) await client.query(text);
    return await look();
  } finally {
    await client.query('ROLLBACK').catch(() => undefined);
  }
}

export interface Statement {
  readonly text: string;
  /** Its first words, upper case, comments left out: enough to know what it does to transactions. */
  readonly words: string;
}

function needsOwnTransaction(words: string): boolean {
  return (
    /^(BEGIN|START TRANSACTION|COMMIT|END|ROLLBACK|ABORT|VACUUM|ALTER SYSTEM|(CREATE|DROP) (DATABASE|TABLESPACE))\b/.test(
      words,
    ) ||
    /^(CREATE (UNIQUE )?INDEX|DROP INDEX|REINDEX\b.*?|REFRESH MATERIALIZED VIEW) CONCURRENTLY\b/.test(words)
  );
}

/**
 * Cuts a file at the semicolons that end statements: not those in strings, quoted names, dollar quotes, comments or
 * parentheses, and not those of a `BEGIN ATOMIC … END` body. Lines with psql's `\restrict` and `\unrestrict`, which pg_dump
 * writes, are left out; any other backslash command is refused, because only psql knows it.
 * @throws VerdigrisError SCHEMA_UNSUPPORTED
 */
export function splitStatements(sql: string): Statement[] {
  const statements: Statement[] = [];
  let start = 0;
  let bare = '';
  let depth = 0;
  let atomic = 0;
  let at = 0;
  const finish = (end: number): void => {
    const text = sql.slice(start, end).trim();
    const words = bare.replace(/\s+/g, ' ').trim().toUpperCase();
    if (words !== '') statements.push({ text, words: words.slice(0, 200) });
    bare = '';
    atomic = 0;
    depth = 0;
  };
  while (at < sql.length) {
    const rest = TOKEN;
    rest.lastIndex = at;
    const token = rest.exec(sql)?.[0] ?? (sql[at] as string);
    const head = token[0] as string;
    if (token.startsWith('--')) {
      bare += ' ';
      at += token.length;
    } else if (token.startsWith('/*')) {
      bare += ' ';
      at = endOfComment(sql, at);
    } else if (head === '$' && token.length > 1) {
      const end = sql.indexOf(token, at + token.length);
      at = end < 0 ? sql.length : end + token.length;
      bare += ' $$ ';
    } else if (head === '\\' && bare.trim() === '') {
      const end = sql.indexOf('\n', at);
      const line = sql.slice(at, end < 0 ? sql.length : end).trim();
      if (!/^\\(un)?restrict\b/.test(line)) {
        throw new VerdigrisError(
          'SCHEMA_UNSUPPORTED',
          `The schema file holds the psql command ${line.split(/\s/)[0] ?? ''}.`,
          {
            remedy: 'Leave psql commands out of the file; it is sent to the server as it is.',
          },
        );
      }
      at = end < 0 ? sql.length : end;
      start = at;
    } else if (token === ';' && depth === 0 && atomic === 0) {
      finish(at);
      at += 1;
      start = at;
    } else {
      if (head === '(') depth += 1;
      if (head === ')') depth = Math.max(0, depth - 1);
      if (/^[A-Za-z_]/.test(head)) atomic = atomicDepth(atomic, token.toUpperCase(), bare);
      bare += head === "'" || head === '"' || /^[eE]'/.test(token) ? ' x ' : token;
      at += token.length;
    }
  }
  finish(sql.length);
  return statements;
}

/** Comment to line end, start of a block comment, dollar quote tag, strings, quoted name, word; else one character. */
const TOKEN =
  /--[^\n]*|\/\*|\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$|[eE]'(?:[^'\\]|\\[\s\S]|'')*(?:'|$)|'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*/y;

/** Inside a `BEGIN ATOMIC` body, CASE … END nests like a block. */
function atomicDepth(depth: number, word: string, before: string): number {
  if (depth === 0) return word === 'ATOMIC' && /\bBEGIN\s+$/i.test(before) ? 1 : 0;
  if (word === 'CASE') return depth + 1;
  return word === 'END' ? depth - 1 : depth;
}

/** Block comments nest. */
function endOfComment(sql: string, from: number): number {
  let depth = 0;
  for (let at = from; at < sql.length; at++) {
    if (sql.startsWith('/*', at)) {
      depth += 1;
      at += 1;
    } else if (sql.startsWith('*/', at)) {
      depth -= 1;
      at += 1;
      if (depth === 0) return at + 1;
    }
  }
  return sql.length;
}
