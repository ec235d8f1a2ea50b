import type { TableName } from '../../core/table.ts';
import { skip } from './catalog-schema-file.ts';

/** What a statement in the log means for the tables that are replicated. */
export type Meaning =
  /** Nothing for them. */
  | { readonly kind: 'none' }
  | { readonly kind: 'begin' | 'commit' | 'rollback' }
  | { readonly kind: 'xa' }
  | { readonly kind: 'truncate'; readonly table: TableName }
  /** Their layout may have changed; `lost`: their rows may have gone or changed without row events. */
  | { readonly kind: 'change'; readonly table: TableName; readonly lost: boolean }
  /** Rows were changed by a statement instead of row events. */
  | { readonly kind: 'statement'; readonly table: TableName };

const NONE: Meaning = { kind: 'none' };

/**
 * Reads a statement of the log by its words: quoted text and comments are passed over, names are compared without case. Whatever is
 * not known to be harmless for a table that it names is a change of that table.
 */
export function meaningOf(sql: string, schema: string, tables: readonly TableName[]): Meaning {
  const words = wordsOf(sql);
  const head = words.slice(0, 3).map((word) => (word.quoted ? '' : word.text.toUpperCase()));
  const [first = '', second = ''] = head;
  switch (first) {
    case 'BEGIN':
      return { kind: 'begin' };
    case 'START':
      return second === 'TRANSACTION' ? { kind: 'begin' } : NONE;
    case 'COMMIT':
      return { kind: 'commit' };
    case 'ROLLBACK':
      // ROLLBACK TO a savepoint leaves the transaction open.
      return words.length === 1 ? { kind: 'rollback' } : NONE;
    case 'SAVEPOINT':
    case 'RELEASE':
      return NONE;
    case 'XA':
      return { kind: 'xa' };
    default:
      break;
  }
  const named = tables.filter((table) => names(words, schema, table));
  if (first === 'DROP' && (second === 'DATABASE' || second === 'SCHEMA')) {
    const dropped = words.at(-1)?.text.toLowerCase();
    const inside = tables.find((table) => table.schema.toLowerCase() === dropped);
    return inside === undefined ? NONE : { kind: 'change', table: inside, lost: true };
  }
  const table = named[0];
  if (table === undefined) return NONE;
  if (first === 'TRUNCATE') return { kind: 'truncate', table };
  if (/^(INSERT|UPDATE|DELETE|REPLACE|LOAD|WITH|CALL)$/.test(first)) return { kind: 'statement', table };
  if (isHarmless(first, second, words)) return NONE;
  return { kind: 'change', table, lost: losesRows(first, words) };
}

interface Word {
  readonly text: string;
  readonly quoted: boolean;
}

/** Names and words with the marks that separate the parts of a statement. Comments that hold code count as code. */
function wordsOf(sql: string): readonly Word[] {
  const words: Word[] = [];
  let at = 0;
  while (at < sql.length) {
    const char = sql[at] as string;
    if (char === '`' || char === '"') {
      const end = skip(sql, at);
      words.push({ text: sql.slice(at + 1, end - 1).replaceAll(char + char, char), quoted: true });
      at = end;
      continue;
    }
    const end = skip(sql, at);
    if (end > at) {
      at = end;
      continue;
    }
    const word = /^[\p{L}\p{N}_$\u0080-\uffff]+/u.exec(sql.slice(at, at + 256))?.[0];
    if (word !== undefined) {
      words.push({ text: word, quoted: false });
      at += word.length;
      continue;
    }
    if ('.,()'.includes(char)) words.push({ text: char, quoted: true });
    at += 1;
  }
  return words;
}

/** The statement names the table, with its database or in it. */
function names(words: readonly Word[], schema: string, table: TableName): boolean {
  const name = table.name.toLowerCase();
  const database = table.schema.toLowerCase();
  return words.some((word, index) => {
    if (word.text.toLowerCase() !== name) return false;
    if (words[index - 1]?.text !== '.') return schema.toLowerCase() === database;
    return words[index - 2]?.text.toLowerCase() === database;
  });
}

const HARMLESS_CLAUSE =
  /^(ADD (UNIQUE |FULLTEXT |SPATIAL )?(INDEX|KEY)|ADD UNIQUE|ADD CONSTRAINT|ADD FOREIGN|DROP (INDEX|KEY|FOREIGN|CONSTRAINT|CHECK)|RENAME (INDEX|KEY)|ALTER INDEX|AUTO_INCREMENT|COMMENT|ALGORITHM|LOCK|STATS_|ANALYZE|DISABLE KEYS|ENABLE KEYS)/;

/** Statements that leave rows and layout as they are. */
function isHarmless(first: string, second: string, words: readonly Word[]): boolean {
  if (/^(ANALYZE|OPTIMIZE|CHECK|FLUSH|GRANT|REVOKE|SET)$/.test(first)) return true;
  if (first === 'CREATE' || first === 'DROP') {
    const kind = words
      .slice(1, 6)
      .filter((word) => !word.quoted)
      .map((word) => word.text.toUpperCase());
    // A trigger's, view's or routine's text may name the table; a temporary table hides it for its session only.
    // A table that exists is not made again, unless it is replaced; others may be made like it.
    if (first === 'CREATE' && kind.includes('TABLE') && !kind.includes('REPLACE')) return true;
    if (kind.some((word) => /^(INDEX|VIEW|TRIGGER|PROCEDURE|FUNCTION|EVENT|TEMPORARY|USER|ROLE)$/.test(word)))
      return true;
  }
  if (first !== 'ALTER' || second !== 'TABLE') return false;
  return clausesOf(words).every((clause) => HARMLESS_CLAUSE.test(clause));
}

const LOSING_CLAUSE =
  /^(DROP PARTITION|TRUNCATE PARTITION|EXCHANGE|COALESCE|REORGANIZE|RENAME (?!COLUMN|INDEX|KEY)|DISCARD|IMPORT)/;

/** The table is another one afterwards, or a part of its rows is gone. */
function losesRows(first: string, words: readonly Word[]): boolean {
  return first !== 'ALTER' || clausesOf(words).some((clause) => LOSING_CLAUSE.test(clause));
}

/** Clauses of ALTER TABLE: behind the name of the table, cut at commas outside of brackets. */
function clausesOf(words: readonly Word[]): readonly string[] {
  let at = 2;
  if (words[at + 1]?.text === '.') at += 2;
  const clauses: string[][] = [[]];
  let depth = 0;
  for (const word of words.slice(at + 1)) {
    if (word.quoted && word.text === '(') depth += 1;
    else if (word.quoted && word.text === ')') depth -= 1;
    else if (word.quoted && word.text === ',' && depth === 0) clauses.push([]);
    else clauses.at(-1)?.push(word.quoted ? '?' : word.text.toUpperCase());
  }
  return clauses.map((clause) => clause.join(' '));
}
