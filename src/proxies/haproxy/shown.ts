import type { Route } from '../../core/proxy.ts';
import type { HaproxyConfig } from './config.ts';

/** One server as `show servers state` and `show stat` have it. */
export interface ShownServer {
  readonly backend: string;
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** Takes new connections as far as operators are concerned: neither in maintenance nor drained, whoever asked for it. */
  readonly enabled: boolean;
  /** Up as far as health checks are concerned. */
  readonly running: boolean;
}

export interface ShownCounts {
  readonly backend: string;
  /** Of a server, or of the whole backend for BACKEND. */
  readonly name: string;
  readonly sessions: number;
  readonly backup: boolean;
}

/** `srv_op_state`: 0 stopped, 1 starting, 2 running, 3 stopping. */
const RUNNING = '2';
/** `srv_admin_state`: maintenance forced 1, inherited 2, by name resolution 32, by host name change 64; drain forced 8, inherited 16. */
const NOT_ENABLED = 1 | 2 | 8 | 16 | 32 | 64;

const columns = (line: string, separator: RegExp): string[] =>
  line.replace(/^# ?/, '').trim().split(separator);

/** The rows of `show servers state`, whose header names the columns; versions add columns at the end. */
export function parseServersState(text: string): ShownServer[] {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const header = lines.find((line) => line.startsWith('#'));
  if (header === undefined) return [];
  const names = columns(header, /\s+/);
  return lines.flatMap((line) => {
    const cells = columns(line, /\s+/);
    if (line.startsWith('#') || cells.length < 7) return [];
    const cell = (name: string): string => cells[names.indexOf(name)] ?? '';
    return [
      {
        backend: cell('be_name'),
        name: cell('srv_name'),
        address: cell('srv_addr'),
        port: Number(cell('srv_port')),
        enabled: (Number(cell('srv_admin_state')) & NOT_ENABLED) === 0,
        running: cell('srv_op_state') === RUNNING,
      },
    ];
  });
}

/** The rows of `show stat`. */
export function parseStat(text: string): ShownCounts[] {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const header = lines.find((line) => line.startsWith('#'));
  if (header === undefined) return [];
  const names = columns(header, /,/);
  return lines.flatMap((line) => {
    if (line.startsWith('#')) return [];
    const cells = line.split(',');
    const cell = (name: string): string => cells[names.indexOf(name)] ?? '';
    return [
      {
        backend: cell('pxname'),
        name: cell('svname'),
        sessions: Number(cell('scur')),
        backup: cell('bck') === '1',
      },
    ];
  });
}

export const find = (
  servers: readonly ShownServer[],
  backend: string,
  name: string,
): ShownServer | undefined => servers.find((server) => server.backend === backend && server.name === name);

/** Whether the server stands where the configuration says, if it says so. */
export const isAt = (server: ShownServer, side: HaproxyConfig['blue']): boolean =>
  side.host === undefined || (server.address === side.host && server.port === side.port);

const place = (server: ShownServer): string => `${server.name} (${server.address}:${server.port})`;

/** The side that one backend leads to, and why not when there is none. */
function sideOf(
  servers: readonly ShownServer[],
  config: HaproxyConfig,
  backend: string,
): { readonly side: 'blue' | 'green' | 'mixed' | null; readonly detail: string } {
  const enabled: ('blue' | 'green')[] = [];
  for (const side of ['blue', 'green'] as const) {
    const server = find(servers, backend, config[side].server);
    if (server === undefined)
      return { side: null, detail: `${backend} has no server ${config[side].server}` };
    if (!server.enabled) continue;
    if (!isAt(server, config[side])) {
      return {
        side: null,
        detail: `${backend}: ${place(server)} is not at ${config[side].host}:${config[side].port}`,
      };
    }
    enabled.push(side);
  }
  const [one] = enabled;
  if (one === undefined) return { side: null, detail: `${backend}: neither blue nor green is ready` };
  return enabled.length === 1
    ? { side: one, detail: `${backend} → ${one}` }
    : { side: 'mixed', detail: `${backend}: blue and green are both ready` };
}

/** What all backends together say. Paused as soon as one of them holds: some client waits. */
export function routeOf(servers: readonly ShownServer[], config: HaproxyConfig): Route {
  const paused = config.backends.some((backend) => find(servers, backend, config.hold)?.enabled === true);
  const shown = config.backends.map((backend) => sideOf(servers, config, backend));
  const detail = shown.map((one) => one.detail).join(', ');
  const sides = new Set(shown.map((one) => one.side));
  if (sides.has(null)) return { to: 'unknown', paused, detail };
  const [side] = sides;
  if (sides.size > 1 || side === 'mixed' || side === undefined || side === null)
    return { to: 'mixed', paused, detail };
  return { to: side, paused };
}
