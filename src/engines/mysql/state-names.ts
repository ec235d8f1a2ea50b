import { ident } from './sql.ts';

export const STATE_TABLES = [
  'format',
  'run',
  'lease',
  'term',
  'journal',
  'checkpoint',
  'ranges',
  'holes',
  'deferred',
  'own',
  'marks',
  'fence',
] as const;
export type StateTable = (typeof STATE_TABLES)[number];

/** Quoted name of a table of ours. */
export const stateTable = (schema: string, table: StateTable): string => `${ident(schema)}.${ident(table)}`;
