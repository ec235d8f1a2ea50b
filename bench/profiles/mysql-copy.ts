import { Workplace, type EngineProcess } from '../../test/support/engine-process.ts';
import { client, dumpIntoClient, dumpThenLoad, mydumper } from '../mysql/clients.ts';
import { compareMysql } from '../mysql/compare.ts';
import { DATABASE, DURABILITY, MysqlRig } from '../mysql/rig.ts';
import { diesOf, endOurs, startOurs } from '../ours.ts';
import type { BenchOptions, Contender, Prepared, Profile, Run } from '../profile.ts';

/** Ranges copied at the same time, and threads of mydumper; mysqldump has one. */
const JOBS = 2;
const MOST_MS = 20 * 60_000;
const TABLES = ['account', 'event', 'item'];
const INDEXES = 7;

const DDL = `
CREATE TABLE account (id bigint PRIMARY KEY, email varchar(120) NOT NULL, name varchar(120) NOT NULL, balance decimal(14,2) NOT NULL, at datetime(6) NOT NULL, UNIQUE KEY email (email));
CREATE TABLE event (id bigint PRIMARY KEY, account bigint NOT NULL, kind int NOT NULL, body text NOT NULL, detail json NOT NULL, at timestamp(6) NOT NULL, KEY account (account), KEY kind (kind, at));
CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL, note varchar(60) NOT NULL, KEY n (n));
`;

const profile: Profile = {
  name: 'mysql-copy',
  what: 'the first copy of three tables with their indexes',
  async prepare({ scale, say, cpuProfile }: BenchOptions): Promise<Prepared> {
    const rig = await MysqlRig.start();
    try {
      await rig.blue.query(`CREATE DATABASE ${DATABASE}`);
      const blue = await rig.connect('blue');
      say('filling blue');
      const rows = (n: number): number => Math.round(n * scale);
      const [accounts, events, items] = [rows(200_000), rows(400_000), rows(500_000)];
      const numbers = (n: number): string =>
        `WITH RECURSIVE numbers (g) AS (SELECT 1 UNION ALL SELECT g + 1 FROM numbers WHERE g < ${n})`;
      await blue.query(`SET SESSION cte_max_recursion_depth = 100000000; ${DDL}`);
      await blue.query(
        `INSERT INTO account ${numbers(accounts)} SELECT g, CONCAT('user', g, '@example.org'), CONCAT('Name of ', g), g / 7, '2026-01-01' + INTERVAL g SECOND FROM numbers`,
      );
      await blue.query(
        `INSERT INTO event ${numbers(events)} SELECT g, CRC32(g) & 262143, g % 50, REPEAT(LEFT(SHA2(g, 256), 32), 6), JSON_OBJECT('n', g, 'text', 'some "quoted" text'), '2026-01-01' + INTERVAL g SECOND FROM numbers`,
      );
      await blue.query(
        `INSERT INTO item ${numbers(items)} SELECT g, CRC32(g) & 2147483647, CONCAT('note ', g) FROM numbers`,
      );
      await blue.query(`ANALYZE TABLE ${TABLES.join(', ')}`);
      const sizes = await rig.blue.query(
        `SELECT CAST(SUM(DATA_LENGTH) AS CHAR) AS bytes FROM information_schema.TABLES WHERE TABLE_SCHEMA = '${DATABASE}'`,
      );
      const bytes = Number(sizes[0]?.['bytes']);
      const count = accounts + events + items;

      const measure = async (
        prepare: string,
        work: (track: (pid: number, name: string) => void) => Promise<void>,
      ): Promise<Run> => {
        await rig.green.query(`DROP DATABASE IF EXISTS ${DATABASE}`);
        await rig.green.query('DROP DATABASE IF EXISTS verdigris');
        await rig.green.query(`CREATE DATABASE ${DATABASE}`);
        const green = await rig.connect('green');
        if (prepare !== '') await green.query(prepare);
        const own: { pid: number; name: string }[] = [];
        const sampler = rig.sampler(() => own);
        await sampler.start();
        const began = performance.now();
        await work((pid, name) => own.push({ pid, name }));
        const seconds = (performance.now() - began) / 1000;
        const used = await sampler.stop();
        await compareMysql(blue, green, TABLES);
        const indexes = await rig.green.query(
          `SELECT COUNT(DISTINCT TABLE_NAME, INDEX_NAME) AS n FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '${DATABASE}'`,
        );
        if (Number(indexes[0]?.['n']) !== INDEXES)
          throw new Error(`green has ${String(indexes[0]?.['n'])} indexes, not ${INDEXES}`);
        await green.end();
        return {
          seconds,
          startSeconds: 0,
          ...used,
          more: { copyRowsPerSecond: count / seconds },
        };
      };

      const ours = async (): Promise<Run> => {
        await using place = await Workplace.create({
          'verdigris.yaml': `version: 1
migration: bench
blue: { engine: mysql, url: "${rig.url('blue')}" }
green: { engine: mysql, url: "${rig.url('green')}" }
verify: { after_copy: "off" }
copy: { workers: ${JOBS} }
tables:
${TABLES.map((table) => `  - { from: ${DATABASE}.${table}, to: [{ table: ${DATABASE}.${table} }] }`).join('\n')}
`,
        });
        let engine: EngineProcess | null = null;
        const run = await measure(DDL, async (track) => {
          engine = await startOurs(place, cpuProfile, '100ms');
          track(engine.pid, 'engine');
          await Promise.race([
            engine.until('it replicates', (status) => status.phase === 'replicating', MOST_MS),
            diesOf(engine),
          ]);
        });
        await endOurs(engine as unknown as EngineProcess);
        await rig.blue.query('DROP DATABASE IF EXISTS verdigris');
        return run;
      };

      const notes = [
        DURABILITY,
        'the clock runs from the command until all rows and indexes are there; ours includes starting the process',
      ];
      const peers: Contender[] = [];
      try {
        const programs = { dump: await client('mysqldump'), mysql: await client('mysql') };
        peers.push({
          name: 'mysqldump | mysql',
          run: () => measure('', (track) => dumpIntoClient(rig, programs, track)),
        });
      } catch (error) {
        notes.push(`mysqldump is not there: ${String(error).split('\n')[0]}`);
      }
      const dumper = await mydumper();
      if (dumper === null) notes.push('mydumper is not installed');
      else
        peers.push({
          name: 'mydumper, myloader',
          run: () => measure('', (track) => dumpThenLoad(rig, dumper, JOBS, track)),
        });
      return {
        facts: {
          changes: count,
          transactions: 1,
          bytes,
          distinctKeys: count,
          rowBytes: Math.round(bytes / count),
        },
        verdigris: { name: 'verdigris', run: ours },
        peers,
        notes,
        async [Symbol.asyncDispose]() {
          await blue.end();
          await rig[Symbol.asyncDispose]();
        },
      };
    } catch (error) {
      await rig[Symbol.asyncDispose]();
      throw error;
    }
  },
};

export default profile;
