import { debianProgramOrReason } from '../../support/debian.ts';
import { HAPROXY, startHaproxy } from '../../support/haproxy.ts';
import { NGINX, startNginx } from '../../support/nginx.ts';
import { startPgBouncer } from '../../support/pgbouncer.ts';
import { startTcpProxy, type TcpProxy } from '../../support/tcp-proxy.ts';

export const FRONTS = ['pgbouncer', 'haproxy', 'template'] as const;
export type FrontName = (typeof FRONTS)[number];

export interface Place {
  readonly host: string;
  readonly port: number;
}

/** A proxy between clients and the two sides, whose databases have one name. */
export interface Front extends AsyncDisposable {
  readonly name: FrontName;
  /** Where clients connect. */
  readonly url: string;
  /** Its entry in `cutover.proxies`. */
  readonly entry: Readonly<Record<string, unknown>>;
  /** Its clients see a pause and no error while only the engine is lost. */
  readonly hides: boolean;
  /** The engine's way to its console; null where that is no network connection. */
  readonly console: TcpProxy | null;
  /** SIGKILL, or the end of it and its workers at once. */
  kill(): Promise<void>;
  start(): Promise<void>;
}

export interface Sides {
  readonly database: string;
  readonly blue: Place;
  readonly green: Place;
}

/** Why this proxy cannot be had here, or null. */
export async function frontMissing(name: FrontName): Promise<string | null> {
  if (name === 'pgbouncer') return null;
  const found = await debianProgramOrReason(name === 'haproxy' ? HAPROXY : NGINX);
  return 'reason' in found ? found.reason : null;
}

export function startFront(name: FrontName, sides: Sides): Promise<Front> {
  return { pgbouncer, haproxy, template }[name](sides);
}

async function pgbouncer({ database, blue, green }: Sides): Promise<Front> {
  const place = (at: Place) => ({ ...at, dbname: database });
  const bouncer = await startPgBouncer({ databases: { [database]: place(blue) } });
  const toConsole = await startTcpProxy({ host: '127.0.0.1', port: bouncer.port });
  const admin = new URL(bouncer.adminUrl);
  admin.port = String(toConsole.port);
  return {
    name: 'pgbouncer',
    url: bouncer.url(database),
    entry: {
      adapter: 'pgbouncer',
      admin_url: admin.href,
      client_url: bouncer.url(database),
      ini: bouncer.databasesIniPath,
      databases: [database],
      blue: place(blue),
      green: place(green),
    },
    hides: true,
    console: toConsole,
    kill: () => bouncer.kill('SIGKILL'),
    start: () => bouncer.start(),
    [Symbol.asyncDispose]: async () => {
      await toConsole.close();
      await bouncer[Symbol.asyncDispose]();
    },
  };
}

async function haproxy({ database, blue, green }: Sides): Promise<Front> {
  const found = await debianProgramOrReason(HAPROXY);
  if ('reason' in found) throw new Error(found.reason);
  const proxy = await startHaproxy({ program: found.program, blue, green });
  return {
    name: 'haproxy',
    url: proxy.url(database),
    entry: {
      adapter: 'haproxy',
      socket: proxy.socket,
      client_url: proxy.url(database),
      backends: ['db'],
      blue: { server: 'blue', ...blue },
      green: { server: 'green', ...green },
      state_file: proxy.stateFile,
      holds_for_ms: 120_000,
      drain_ms: 200,
    },
    hides: false,
    console: null,
    kill: () => proxy.kill('SIGKILL'),
    start: () => proxy.start(),
    [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose](),
  };
}

async function template({ database, blue, green }: Sides): Promise<Front> {
  const found = await debianProgramOrReason(NGINX);
  if ('reason' in found) throw new Error(found.reason);
  const nginx = await startNginx({ program: found.program, blue });
  return {
    name: 'template',
    url: nginx.url(database),
    entry: {
      adapter: 'template',
      template: nginx.template,
      file: nginx.configFile,
      client_url: nginx.url(database),
      blue,
      green,
      reload: { command: nginx.reload },
      verify: { connect: { host: '127.0.0.1', port: nginx.statusPort } },
      drained: { command: nginx.drained },
    },
    hides: false,
    console: null,
    // Its workers do not end with a master that is killed: they are asked to end at once.
    kill: () => nginx.kill('SIGTERM'),
    start: () => nginx.start(),
    [Symbol.asyncDispose]: () => nginx[Symbol.asyncDispose](),
  };
}
