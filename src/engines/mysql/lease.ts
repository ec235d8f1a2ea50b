import { literal } from './sql.ts';
import { stateTable } from './state-names.ts';

/** Fails on the server: a subquery that may return one row returns two. Nothing else in what we send raises that error. */
const FAIL = '(SELECT 1 UNION ALL SELECT 2)';

/**
 * First statement of every transaction on the sink but a group: fails on the server when another term stands there, and holds the row
 * so that a takeover waits.
 */
export const leaseGuard = (schema: string, id: string, term: number): string =>
  `SELECT IF(coalesce((SELECT term FROM ${stateTable(schema, 'term')} WHERE id = ${literal(id)} LOCK IN SHARE MODE), -1) = ${term}, 1, ${FAIL})`;

/** `@verdigris` of our sessions; a takeover ends those of an older term by it. */
export const sessionName = (migration: string, purpose: string, term: number): string =>
  `verdigris:${migration}:${purpose}:t${term}`;
