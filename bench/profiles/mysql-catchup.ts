import type mysql from 'mysql2/promise';
import { Workplace, type EngineProcess } from '../../test/support/engine-process.ts';
import { MYSQL_PASSWORD } from '../../test/support/mysql-server.ts';
import { waitFor } from '../../test/support/wait.ts';
import { compareMysql } from '../mysql/compare.ts';
import { backlog, DDL, seed, TABLES } from '../mysql/orders.ts';
import { DATABASE, DURABILITY, MysqlRig } from '../mysql/rig.ts';
import { diesOf, endOurs, startOurs } from '../ours.ts';
import type { BenchOptions, Prepared, Profile, Run } from '../profile.ts';

const MOST_MS = 20 * 60_000;

const profile: Profile = {
  name: 'mysql-catchup',
  what: 'small mixed transactions of a shop, against a replica of the server itself',
  async prepare({ scale, say, cpuProfile }: BenchOptions): Promise<Prepared> {
    const rig = await MysqlRig.start();
    let place: Workplace | null = null;
    try {
      for (const server of [rig.blue, rig.green]) await server.query(`CREATE DATABASE ${DATABASE}`);
      say('filling blue');
      const first = await rig.connect('blue');
      await seed(first);
      await first.end();
      say('first copy of the peer: the data of blue');
      await rig.save('blue', 'peer');
      const blue = await rig.connect('blue');

      say('first copy of ours');
      const empty = await rig.connect('green');
      await empty.query(DDL);
      await empty.end();
      place = await Workplace.create({ 'verdigris.yaml': configuration(rig) });
      const engine = await startOurs(place, null);
      await Promise.race([
        engine.until('it replicates', (status) => status.phase === 'replicating', MOST_MS),
        diesOf(engine),
      ]);
      await endOurs(engine);
      await rig.save('green', 'ours');

      say('writing the backlog');
      const facts = await backlog(rig, blue, scale);
      const work = new CatchUp(rig, place, blue, cpuProfile);
      const held = place;
      return {
        facts,
        verdigris: { name: 'verdigris', run: () => work.ours() },
        peers: [{ name: 'replica', run: () => work.replica() }],
        notes: [
          DURABILITY,
          `the replica applies with ${await workers(rig)} workers (its default) and keeps the order of commits`,
          'the clock runs from the moment the binary log is being read until the last row is visible on green',
        ],
        async [Symbol.asyncDispose]() {
          await blue.end();
          await held[Symbol.asyncDispose]();
          await rig[Symbol.asyncDispose]();
        },
      };
    } catch (error) {
      await place?.[Symbol.asyncDispose]();
      await rig[Symbol.asyncDispose]();
      throw error;
    }
  },
};

class CatchUp {
  readonly #rig: MysqlRig;
  readonly #place: Workplace;
  readonly #blue: mysql.Connection;
  readonly #cpuProfile: string | null;

  constructor(rig: MysqlRig, place: Workplace, blue: mysql.Connection, cpuProfile: string | null) {
    this.#rig = rig;
    this.#place = place;
    this.#blue = blue;
    this.#cpuProfile = cpuProfile;
  }

  async ours(): Promise<Run> {
    await this.#rig.restore('ours');
    let engine: EngineProcess | null = null;
    const run = await this.#measure(
      () => (engine === null ? [] : [{ pid: engine.pid, name: 'engine' }]),
      async () => {
        engine = await startOurs(this.#place, this.#cpuProfile);
        return diesOf(engine);
      },
    );
    await endOurs(engine as unknown as EngineProcess);
    await this.#compare();
    return run;
  }

  async replica(): Promise<Run> {
    await this.#rig.restore('peer');
    const green = await this.#rig.connect('green');
    await green.query(
      `CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = ${this.#rig.blue.port}, SOURCE_USER = 'root',
       SOURCE_PASSWORD = '${MYSQL_PASSWORD}', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1`,
    );
    const run = await this.#measure(
      () => [],
      async () => {
        await green.query('START REPLICA');
        return new Promise<never>(() => undefined);
      },
    );
    await green.query('STOP REPLICA; RESET REPLICA ALL');
    await green.end();
    await this.#compare();
    return run;
  }

  /** @param start begins the work; what it resolves with rejects when that cannot come to its end */
  async #measure(
    own: () => readonly { readonly pid: number; readonly name: string }[],
    start: () => Promise<unknown>,
  ): Promise<Run> {
    const rig = this.#rig;
    await rig.endReaders(this.#blue);
    const green = await rig.connect('green');
    const sampler = rig.sampler(own);
    await sampler.start();
    const commanded = performance.now();
    const failed = start();
    const arrives = async (): Promise<number> => {
      await waitFor(async () => (await rig.readers(this.#blue)).length > 0, {
        what: 'the binary log to be read',
        timeoutMs: MOST_MS,
        everyMs: 3,
      });
      const began = performance.now();
      await sampler.begin();
      await waitFor(async () => ((await green.query('SELECT 1 FROM bench_end'))[0] as unknown[]).length > 0, {
        what: 'the end of the backlog on green',
        timeoutMs: MOST_MS,
        everyMs: 10,
      });
      return began;
    };
    const began = await Promise.race([arrives(), failed as Promise<never>]);
    const seconds = (performance.now() - began) / 1000;
    const used = await sampler.stop();
    await green.end();
    return { seconds, startSeconds: (began - commanded) / 1000, ...used };
  }

  async #compare(): Promise<void> {
    const green = await this.#rig.connect('green');
    try {
      await compareMysql(this.#blue, green, TABLES);
    } finally {
      await green.end();
    }
  }
}

const workers = async (rig: MysqlRig): Promise<string> =>
  String((await rig.green.query('SELECT @@replica_parallel_workers AS n'))[0]?.['n']);

const configuration = (rig: MysqlRig): string => `version: 1
migration: bench
blue: { engine: mysql, url: "${rig.url('blue')}" }
green: { engine: mysql, url: "${rig.url('green')}" }
verify: { after_copy: "off" }
tables:
${[...TABLES, 'bench_end'].map((table) => `  - { from: ${DATABASE}.${table}, to: [{ table: ${DATABASE}.${table} }] }`).join('\n')}
`;

export default profile;
