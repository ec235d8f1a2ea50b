import type { ShowRow } from './admin.ts';
import type { PgBouncerConfig, PgBouncerRoute } from './config.ts';

/** The part of SHOW DATABASES that says where a database points. */
export interface Shown {
  readonly name: string;
  readonly host: string | null;
  readonly port: number;
  readonly dbname: string;
  readonly user: string | null;
  readonly paused: boolean;
  readonly disabled: boolean;
}

export const shownDatabase = (row: ShowRow): Shown => ({
  name: row['name'] ?? '',
  host: row['host'] ?? null,
  port: Number(row['port']),
  dbname: row['database'] ?? '',
  user: row['force_user'] ?? null,
  paused: row['paused'] === '1',
  disabled: row['disabled'] === '1',
});

export const pointsAt = (shown: Shown, route: PgBouncerRoute): boolean =>
  shown.host === route.host &&
  shown.port === route.port &&
  shown.dbname === route.dbname &&
  (route.user === undefined || shown.user === route.user);

export const sideOf = (shown: Shown, config: PgBouncerConfig): 'blue' | 'green' | null =>
  pointsAt(shown, config.blue) ? 'blue' : pointsAt(shown, config.green) ? 'green' : null;

/** Where a database points, for people. */
export const place = (shown: Shown): string =>
  `${shown.name} → ${shown.host ?? 'local socket'}:${shown.port}/${shown.dbname}`;
