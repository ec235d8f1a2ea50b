import type { Link } from './connect.ts';

/** Runs an operator's schema file statement by statement, as it stands: DDL of this engine commits by itself. */
export async function runSchemaFile(link: Link, sql: string): Promise<void> {
  for (const statement of splitStatements(sql)) await link.run(statement);
}

/** Statements of a file, cut at semicolons outside of quotes and comments. `DELIMITER` is a word of the client, not of the server. */
export function splitStatements(sql: string): readonly string[] {
  const statements: string[] = [];
  let start = 0;
  let at = 0;
  const take = (end: number): void => {
    const text = sql.slice(start, end).trim();
    if (text.replace(/\/\*[^!][\s\S]*?\*\/|--\s.*|#.*/g, '').trim() !== '') statements.push(text);
    start = end + 1;
  };
  while (at < sql.length) {
    const end = skip(sql, at);
    if (end > at) {
      at = end;
      continue;
    }
    if (sql[at] === ';') take(at);
    at += 1;
  }
  take(sql.length);
  return statements;
}

/** The place behind the quoted text or comment that begins at `at`; `at` itself when none does. */
export function skip(sql: string, at: number): number {
  const char = sql[at];
  if (char === "'" || char === '"' || char === '`') {
    let end = at + 1;
    while (end < sql.length) {
      if (sql[end] === '\\' && char !== '`') end += 2;
      else if (sql[end] !== char) end += 1;
      else if (sql[end + 1] === char) end += 2;
      else return end + 1;
    }
    return sql.length;
  }
  if (char === '#' || (char === '-' && /^--(\s|$)/.test(sql.slice(at, at + 3)))) {
    const end = sql.indexOf('\n', at);
    return end < 0 ? sql.length : end + 1;
  }
  // A comment that begins with an exclamation mark is code.
  if (char === '/' && sql[at + 1] === '*' && sql[at + 2] !== '!' && !sql.startsWith('/*M!', at)) {
    const end = sql.indexOf('*/', at + 2);
    return end < 0 ? sql.length : end + 2;
  }
  return at;
}
