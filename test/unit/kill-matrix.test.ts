import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { allCases, caseId } from '../chaos/kill/cases.ts';
import { FRONTS } from '../chaos/kill/front.ts';
import { DOCUMENT, isGood, readResults, render } from '../chaos/kill/results.ts';

test('docs/kill-matrix.md is what the stored results say, of the cases that there are', async () => {
  const results = await readResults();
  expect(await readFile(DOCUMENT, 'utf8')).toBe(render(results));
  const ids = allCases(FRONTS).map(caseId);
  expect(new Set(ids).size).toBe(ids.length);
  expect(Object.keys(results).filter((id) => !ids.includes(id))).toEqual([]);
});

test('a cell is good only when nothing was lost, doubled, made up, or taken by both sides', () => {
  const seen = {
    ended: 'green',
    by: 'itself',
    outcome: null,
    clientsMs: 1,
    clientErrors: 3,
    lost: 0,
    duplicated: 0,
    unknown: 0,
    overlaps: 0,
  } as const;
  const result = (change: object) => ({ on: '2026-11-25', seen: { ...seen, ...change }, failure: null });
  expect(isGood(result({}))).toBe(true);
  for (const change of [{ lost: 1 }, { duplicated: 1 }, { unknown: 1 }, { overlaps: 2 }, { overlaps: -1 }])
    expect(isGood(result(change))).toBe(false);
  expect(isGood({ on: '2026-11-25', seen: null, failure: 'Error' })).toBe(false);
  expect(isGood(undefined)).toBe(false);
});
