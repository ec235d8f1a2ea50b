// A program for the adapter `command`: drives one database of a PgBouncer. Argument: a JSON file with the fields of `Place` below.
import { readFile, rename, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { text } from 'node:stream/consumers';
import pg from 'pg';

interface Place {
  readonly adminUrl: string;
  readonly ini: string;
  readonly database: string;
  readonly blue: Target;
  readonly green: Target;
}

interface Target {
  readonly host: string;
  readonly port: number;
  readonly dbname: string;
}

const UNREACHABLE = 69;
const OUT_OF_TIME = 75;

const request = JSON.parse(await text(process.stdin)) as {
  protocol: number;
  action: string;
  side: 'blue' | 'green' | null;
  deadlineMs: number;
};
const place = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8')) as Place;
const until = performance.now() + request.deadlineMs;

function end(code: number, answer: object): never {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
  process.exit(code);
}

const admin = new pg.Client(place.adminUrl);
admin.on('error', () => end(UNREACHABLE, { error: 'the admin console went away' }));
await admin.connect().catch(() => end(UNREACHABLE, { error: 'the admin console cannot be reached' }));
const rows = async (command: string): Promise<Record<string, unknown>[]> =>
  (await admin.query<Record<string, unknown>>(command)).rows;

async function observe() {
  const shown = (await rows('SHOW DATABASES')).find((row) => row['name'] === place.database);
  const pools = (await rows('SHOW POOLS')).filter((pool) => pool['database'] === place.database);
  const waiting = pools.reduce((sum, pool) => sum + Number(pool['cl_waiting']), 0);
  const at = ({ host, port, dbname }: Target): boolean =>
    shown?.['host'] === host && Number(shown['port']) === port && shown['database'] === dbname;
  const to = at(place.blue) ? 'blue' : at(place.green) ? 'green' : 'unknown';
  return { to, paused: Number(shown?.['paused']) === 1, waiting };
}

async function gone(): Promise<void> {
  while ((await rows('SHOW SERVERS')).some((row) => row['database'] === place.database)) {
    if (performance.now() > until) end(OUT_OF_TIME, { error: 'server connections are still open' });
    await sleep(5);
  }
}

try {
  switch (request.action) {
    case 'probe': {
      const { to, paused } = await observe();
      const findings = [
        ...(paused
          ? [{ level: 'block', text: 'paused already', remedy: 'RESUME on the admin console' }]
          : []),
        ...(to === 'unknown'
          ? [{ level: 'block', text: 'neither side', remedy: 'correct the ini file' }]
          : []),
      ];
      end(0, { version: String((await rows('SHOW VERSION'))[0]?.['version']), findings });
    }
    case 'observe':
      end(0, await observe());
    case 'pause':
      await admin.query(`PAUSE ${place.database}`);
      await gone();
      end(0, {});
    case 'route': {
      const { host, port, dbname } = place[request.side ?? 'blue'];
      const line = `${place.database} = host=${host} port=${port} dbname=${dbname}`;
      await writeFile(`${place.ini}.new`, `[databases]\n${line}\n`);
      await rename(`${place.ini}.new`, place.ini);
      await admin.query('RELOAD');
      await admin.query(`RECONNECT ${place.database}`);
      if ((await observe()).paused) await gone();
      end(0, {});
    }
    case 'resume':
      // "not paused" is an error; what counts is observed afterwards.
      await admin.query(`RESUME ${place.database}`).catch(() => undefined);
      end(0, {});
    default:
      end(64, { error: `protocol 1 has no action ${request.action}` });
  }
} catch (error) {
  end(1, { error: (error as Error).message });
}
