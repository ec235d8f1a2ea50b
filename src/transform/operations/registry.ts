import type { ColumnObject, OperationName } from '../spec.ts';
import { cast } from './cast.ts';
import { hash } from './hash.ts';
import { coalesce, concat, jsonBuild, type HeadOperation } from './head.ts';
import { jsonGet } from './json.ts';
import { map, unmap } from './map.ts';
import type { Operation } from './operation.ts';
import { scale } from './scale.ts';
import { lower, mask, split, trim, upper } from './text.ts';
import { timezone, timezoneStrip } from './timezone.ts';

/** Operations of one input, by the word of the mapping. `copy` does nothing and is not among them. */
export const OPERATIONS: Readonly<Partial<Record<OperationName, Operation>>> = {
  cast,
  map,
  unmap,
  scale,
  trim,
  lower,
  upper,
  split,
  json_get: jsonGet,
  timezone,
  timezone_strip: timezoneStrip,
  hash,
  mask,
};

/** Operations of several inputs. */
export const HEADS: Readonly<Partial<Record<OperationName, HeadOperation>>> = {
  concat,
  coalesce,
  json_build: jsonBuild,
};

/** Keys of a column that are not an operation's. */
export const COLUMN_OPTIONS: readonly (keyof ColumnObject)[] = [
  'from',
  'op',
  'cast',
  'value',
  'default',
  'on_error',
  'absent',
  'module',
  'export',
  'pure',
];
