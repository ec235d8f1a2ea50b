import { VerdigrisError } from '../../core/errors.ts';
import { tryTransform } from '../../app/transform-test.ts';
import type { CommandContext, Outcome } from '../context.ts';
import { plain } from '../format.ts';

export interface TransformTestOptions {
  readonly table: string;
  readonly rows: string;
  readonly where?: string;
}

/** Prints values of rows: that is what it was asked for. */
export async function transformTest(
  context: CommandContext,
  options: TransformTestOptions,
): Promise<Outcome> {
  const rows = Number(options.rows);
  if (!Number.isInteger(rows) || rows < 1 || rows > 10_000)
    throw new VerdigrisError('USAGE', '--rows is a number from 1 to 10000');
  const data = await tryTransform(await context.load(), context.logger(), {
    table: options.table,
    rows,
    ...(options.where === undefined ? {} : { where: options.where }),
  });
  const lines: string[] = [];
  for (const { before, after, rejects } of data.rows) {
    lines.push(`${data.table}  ${JSON.stringify(before)}`);
    for (const { table, row } of after) lines.push(`  -> ${table}  ${JSON.stringify(row)}`);
    for (const { column, reason } of rejects) lines.push(`  !! ${column}: ${reason}`);
    if (after.length === 0 && rejects.length === 0) lines.push('  -> (left out)');
  }
  return { kind: 'TransformTest', data, text: plain(lines.join('\n')) };
}
