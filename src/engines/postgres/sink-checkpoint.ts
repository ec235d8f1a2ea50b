import { crc32 } from 'node:zlib';
import { VerdigrisError } from '../../core/errors.ts';
import { asPosition, type Position } from '../../core/position.ts';
import type { HoleChanges, SinkGroup } from '../../core/sink.ts';
import { plain, signature, type SinkStream } from './sink-session.ts';
import { cellText, textArray } from './sink-text.ts';
import type { Statement, Wire } from './sink-wire.ts';
import { STATE_FORMAT, stateTable } from './state-tables.ts';

/** Notices a row that was edited, or copied from another migration. */
function checksum({ env, options }: SinkStream, position: string): string {
  return String(crc32(JSON.stringify([STATE_FORMAT, env.migration, options.direction, position])));
}

const table = (stream: SinkStream): string => stateTable(stream.env.stateSchema, 'checkpoint');
const lease = (stream: SinkStream): string => stateTable(stream.env.stateSchema, 'lease');

/** What the guards of a group have in common: term, stream and the position it builds on. */
const identity = ({ env, options }: SinkStream, previous: Position): readonly string[] => [
  env.migration,
  options.direction,
  String(options.term),
  previous,
];

/**
 * Guard of a group in one piece, and its new checkpoint at once. Statements are pipelined, so it must fail on the server: with
 * another term or position there, it divides by zero and COMMIT becomes ROLLBACK.
 * @param begins it is the first statement of the transaction
 */
export function checkpointStatement(stream: SinkStream, group: SinkGroup, begins: boolean): Statement {
  const end = group.end as Position;
  return plain(
    `WITH l AS (SELECT 1 FROM ${lease(stream)} WHERE id = $1 AND term = $3::bigint FOR KEY SHARE),
      u AS (UPDATE ${table(stream)} SET position = $5, crc = $6::bigint, term = $3::bigint, transactions = transactions + $7::bigint,
        newest_commit_ms = coalesce($8::bigint, newest_commit_ms)
        FROM l WHERE id = $1 AND direction = $2 AND position = $4 RETURNING 1)
     SELECT 1 / count(*)${begins ? `, ${signature(stream)}` : ''} FROM u`,
    [
      ...identity(stream, group.previous),
      end,
      checksum(stream, end),
      String(group.transactions),
      group.newestCommitMs === null ? null : String(group.newestCommitMs),
    ],
  );
}

/** Guard of the first part of a transaction that comes in parts; the last one writes the checkpoint. */
export function partGuard(stream: SinkStream, group: SinkGroup): Statement {
  return plain(
    `WITH l AS (SELECT 1 FROM ${lease(stream)} WHERE id = $1 AND term = $3::bigint FOR KEY SHARE),
      c AS (SELECT 1 FROM ${table(stream)} WHERE id = $1 AND direction = $2 AND position = $4 FOR UPDATE)
     SELECT 1 / count(*), ${signature(stream)} FROM l, c`,
    identity(stream, group.previous),
  );
}

export const firstCheckpoint = (stream: SinkStream, start: Position): Statement =>
  plain(
    `INSERT INTO ${table(stream)} (id, direction, position, term, format, crc) VALUES ($1, $2, $3, $4::bigint, ${STATE_FORMAT}, $5::bigint)
     ON CONFLICT DO NOTHING RETURNING 1`,
    [
      stream.env.migration,
      stream.options.direction,
      start,
      String(stream.options.term),
      checksum(stream, start),
    ],
  );

/** @throws VerdigrisError STATE_FORMAT when the row is not what we wrote */
export async function readCheckpoint(wire: Wire, stream: SinkStream): Promise<Position | null> {
  const { rows } = await wire.one(
    `SELECT position, format::text, crc::text FROM ${table(stream)} WHERE id = $1 AND direction = $2`,
    [stream.env.migration, stream.options.direction],
  );
  const [row] = rows;
  if (row === undefined) return null;
  const [position, format, crc] = row as readonly [string, string, string];
  if (format !== String(STATE_FORMAT) || crc !== checksum(stream, position)) {
    throw new VerdigrisError(
      'STATE_FORMAT',
      `The checkpoint of ${stream.env.migration} (${stream.options.direction}) is damaged or of another version.`,
      {
        context: { format: Number(format) },
      },
    );
  }
  return asPosition(position);
}

/** Holes that open and close, as statements of the transaction of the rows. A hole opened again keeps the newer reason. */
export function holeStatements(stream: SinkStream, changes: HoleChanges): readonly Statement[] {
  const statements: Statement[] = [];
  const name = stateTable(stream.env.stateSchema, 'holes');
  const { migration } = stream.env;
  const { direction } = stream.options;
  const keys = (rows: readonly { readonly key: readonly unknown[] }[]): string =>
    textArray(
      rows.map((row) =>
        textArray((row.key as Parameters<typeof cellText>[0][]).map((cell) => cellText(cell))),
      ),
    );
  const texts = textArray;
  if (changes.closed.length > 0) {
    statements.push(
      plain(
        `DELETE FROM ${name} AS h USING unnest($3::text[], $4::text[], $5::text[]) AS u(s, t, k)
         WHERE h.id = $1 AND h.direction = $2 AND h.table_schema = u.s AND h.table_name = u.t AND h.key = u.k::text[]`,
        [
          migration,
          direction,
          texts(changes.closed.map((hole) => hole.table.schema)),
          texts(changes.closed.map((hole) => hole.table.name)),
          keys(changes.closed),
        ],
      ),
    );
  }
  if (changes.opened.length > 0) {
    statements.push(
      plain(
        `INSERT INTO ${name} (id, direction, table_schema, table_name, key, kind, column_name, reason, stale)
         SELECT DISTINCT ON (u.s, u.t, u.k) $1, $2, u.s, u.t, u.k::text[], u.kind, u.col, u.reason, u.stale::integer[]
         FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
           WITH ORDINALITY AS u(s, t, k, kind, col, reason, stale, n)
         ORDER BY u.s, u.t, u.k, u.n DESC
         ON CONFLICT (id, direction, table_schema, table_name, key) DO UPDATE
         SET kind = excluded.kind, column_name = excluded.column_name, reason = excluded.reason, stale = excluded.stale, at = excluded.at`,
        [
          migration,
          direction,
          texts(changes.opened.map((hole) => hole.table.schema)),
          texts(changes.opened.map((hole) => hole.table.name)),
          keys(changes.opened),
          texts(changes.opened.map((hole) => hole.kind)),
          texts(changes.opened.map((hole) => hole.column)),
          texts(changes.opened.map((hole) => hole.reason)),
          texts(changes.opened.map((hole) => (hole.stale === undefined ? null : `{${hole.stale.join()}}`))),
        ],
      ),
    );
  }
  return statements;
}
