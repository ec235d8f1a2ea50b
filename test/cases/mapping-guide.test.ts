import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Run } from '../support/run.ts';

interface Example {
  readonly title: string;
  /** Info strings of its code blocks with their texts. */
  readonly blocks: readonly { readonly info: string; readonly text: string }[];
}

/** Sections of docs/mapping.md that show a mapping. */
async function examples(): Promise<readonly Example[]> {
  const guide = await readFile(new URL('../../docs/mapping.md', import.meta.url), 'utf8');
  return guide
    .split(/^## /m)
    .map((section) => ({
      title: section.split('\n', 1)[0] as string,
      blocks: [...section.matchAll(/^```(.+)\n([^]*?)^```$/gm)].map(([, info, text]) => ({
        info: info as string,
        text: text as string,
      })),
    }))
    .filter(({ blocks }) => blocks.some(({ info }) => info === 'yaml'));
}

const textOf = (all: readonly Example[], wanted: string): string =>
  all
    .flatMap(({ blocks }) => blocks.filter(({ info }) => info === wanted))
    .map(({ text }) => text)
    .join('\n');

test('every example of docs/mapping.md gives the rows that it shows, comes back, and says so in plan', async () => {
  const all = await examples();
  expect(all.length).toBeGreaterThanOrEqual(8);
  await using run = await Run.create({
    blue: textOf(all, 'sql blue'),
    green: textOf(all, 'sql green'),
    tables: textOf(all, 'yaml'),
    settings: 'verify: { after_copy: full }',
  });
  for (const { info, text } of all.flatMap(({ blocks }) => blocks)) {
    const file = /^ts (\S+)$/.exec(info)?.[1];
    if (file !== undefined) await writeFile(join(run.dir, file), text);
  }
  await run.start();
  for (const { title, blocks } of all) {
    const shown = blocks.filter(({ info }) => info.startsWith('text SELECT '));
    expect(shown, title).not.toEqual([]);
    for (const { info, text } of shown) {
      const rows = await run.rows('green', info.slice('text '.length));
      expect(
        rows.map((row) => row.map(String).join(' | ')),
        title,
      ).toEqual(text.trimEnd().split('\n'));
    }
  }
  const { wayBack } = await run.engine.plan();
  expect(wayBack?.impossible).toEqual([]);
}, 60_000);
