import { mkdir, writeFile } from 'node:fs/promises';
import { Bench } from 'tinybench';
import { Decoder } from '../../src/engines/postgres/decoder.ts';
import {
  binaryArray,
  binaryCopy,
  binaryForm,
  textArrayBytes,
  type BinaryForm,
} from '../../src/engines/postgres/sink-binary.ts';
import { copyBytes } from '../../src/engines/postgres/sink-copy-text.ts';
import { Fold } from '../../src/pipeline/fold.ts';
import { machine } from '../machine.ts';
import { round } from '../stats.ts';
import { messages } from './messages.ts';
import { BLUE, plan, runOf, tuples } from './rows.ts';

const ROWS = 2_000;

const distinct = runOf('update', tuples(ROWS, 1_000_003));
const inserts = runOf('insert', distinct.after);
const hot = runOf('update', tuples(ROWS, 50));
const all = BLUE.columns.map((_, index) => index);
const forms = BLUE.columns.map(({ type }) => binaryForm(type.replace(/\(.*?\)/, '')) as BinaryForm);
const stream = messages(BLUE, distinct.after);
const compiled = plan();
/** Every result goes through here, so that no work can be left out. */
let sink = 0;

const bench = new Bench({ time: 1_000, warmupTime: 300 });
bench
  .add('decode: pgoutput inserts', () => {
    const decoder = new Decoder();
    for (const { start, end } of stream.spans) sink += decoder.decode(stream.buffer, start, end).kind.length;
  })
  .add('map: split, scale, map, cast', () => {
    sink += compiled.run(inserts).runs.length;
  })
  .add('fold: distinct keys', () => {
    const fold = new Fold();
    fold.add(distinct);
    sink += fold.take().length;
  })
  .add('fold: 50 hot keys', () => {
    const fold = new Fold();
    fold.add(hot);
    sink += fold.take().length;
  })
  .add('encode: text[] in binary', () => {
    for (const index of all) sink += textArrayBytes(distinct.after, index).length;
  })
  .add('encode: COPY text', () => {
    sink += copyBytes(distinct.after, all).length;
  })
  .add('encode: arrays of the types', () => {
    for (const index of all)
      sink += binaryArray(distinct.after, index, forms[index] as BinaryForm)?.length ?? NaN;
  })
  .add('encode: COPY binary', () => {
    sink += binaryCopy(distinct.after, all, forms, ROWS)?.length ?? NaN;
  });
await bench.run();

const results = bench.tasks.map(({ name, result }) => {
  if (result.state !== 'completed') throw new Error(`${name}: ${result.state}`);
  const nanoseconds = (result.latency.mean * 1e6) / ROWS;
  return { name, nanosecondsPerRow: round(nanoseconds, 1), rowsPerSecond: Math.round(1e9 / nanoseconds) };
});
if (!(sink > 0)) throw new Error('nothing was measured');
for (const { name, nanosecondsPerRow, rowsPerSecond } of results) {
  process.stdout.write(
    `${name.padEnd(32)} ${String(nanosecondsPerRow).padStart(8)} ns/row ${String(rowsPerSecond).padStart(10)} rows/s\n`,
  );
}
if (process.argv.includes('--save')) {
  const dir = new URL('../results/', import.meta.url).pathname;
  await mkdir(dir, { recursive: true });
  const data = { at: new Date().toISOString(), rows: ROWS, columns: all.length, results, machine: machine() };
  await writeFile(`${dir}micro.json`, `${JSON.stringify(data, null, 2)}\n`);
}
