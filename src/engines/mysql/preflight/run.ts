import type { PreflightScope, SessionEnv } from '../../../core/engine.ts';
import { VerdigrisError } from '../../../core/errors.ts';
import { resultsOf, type CheckResult } from '../../../core/preflight.ts';
import { tableId, type TableName } from '../../../core/table.ts';
import { readLayout, type Layout } from '../catalog-layout.ts';
import type { MysqlConfig } from '../config.ts';
import { connect, type Link } from '../connect.ts';
import { errnoOf, translate } from '../errors.ts';
import type { Check, CheckContext } from './check.ts';
import { LOG_CHECKS } from './log.ts';
import { RIGHTS_CHECKS } from './rights.ts';
import { TABLE_CHECKS } from './tables.ts';
import { TARGET_CHECKS } from './target.ts';

const byNumber = (left: Check, right: Check): number =>
  Number(left.id.replace(/\D/g, '')) - Number(right.id.replace(/\D/g, ''));

/** Everything that is asked of a source. */
export const SOURCE: readonly Check[] = [...LOG_CHECKS, ...RIGHTS_CHECKS, ...TABLE_CHECKS].sort(byNumber);

/** Questions about tables that only matter where they are read. */
const SOURCE_ONLY = new Set(['M18', 'M20', 'M28', 'M32', 'M23']);

/** Everything that is asked of a sink; its log is what the way back reads. */
export const SINK: readonly Check[] = [
  ...[...TARGET_CHECKS].sort(byNumber),
  ...SOURCE.filter((check) => !SOURCE_ONLY.has(check.id)),
];

/** Asks everything about one side. Changes nothing. A check that fails says so (`could-not-check`); it never counts as passed. */
export async function runPreflight(
  options: { readonly config: MysqlConfig; readonly env: SessionEnv },
  scope: PreflightScope,
): Promise<CheckResult[]> {
  const { config, env } = options;
  let link: Link;
  try {
    link = await connect(config, {
      name: `verdigris:${env.migration}:preflight`,
      where: scope.role,
      timeoutMs: 15_000,
    });
  } catch (error) {
    return [unreachable(scope, env, error)];
  }
  try {
    const context = await contextOf(link, options, scope);
    const results: CheckResult[] = [];
    for (const check of scope.role === 'source' ? SOURCE : SINK)
      if (check.only === undefined || check.only === link.flavour)
        results.push(...(await answer(check, context)));
    return results;
  } finally {
    await link[Symbol.asyncDispose]();
  }
}

async function answer(check: Check, context: CheckContext): Promise<CheckResult[]> {
  const { side } = context.env;
  try {
    return resultsOf(check, side, await check.run(context));
  } catch (error) {
    await context.link.run('ROLLBACK').catch(() => undefined);
    const errno = errnoOf(error);
    return [
      {
        id: check.id,
        side,
        title: check.title,
        level: check.level,
        expected: check.expected,
        outcome: 'could-not-check',
        observed: `${errno === null ? '' : `error ${errno}: `}${translate(error, context.scope.role).message}`,
        remedy:
          'Remove what the message names, then run it again. What could not be checked is not known to be right.',
      },
    ];
  }
}

function unreachable(scope: PreflightScope, env: SessionEnv, error: unknown): CheckResult {
  const translated = translate(error, scope.role);
  return {
    id: scope.role === 'source' ? 'M1' : 'MT1',
    side: env.side,
    level: 'block',
    outcome: 'could-not-check',
    title: 'connection',
    observed: translated.message,
    expected: 'a connection',
    remedy: translated.remedy,
  };
}

async function contextOf(
  link: Link,
  options: { readonly config: MysqlConfig; readonly env: SessionEnv },
  scope: PreflightScope,
): Promise<CheckContext> {
  const all = [...scope.tables, ...scope.targets.map((target) => target.relation.table)];
  const tables = [...new Map(all.map((table) => [tableId(table), table])).values()];
  const layouts: Layout[] = [];
  const missing: TableName[] = [];
  for (const table of tables) {
    try {
      layouts.push(await readLayout(link, table));
    } catch (error) {
      if (!(error instanceof VerdigrisError) || !error.code.startsWith('SCHEMA_')) throw error;
      missing.push(table);
    }
  }
  const account = (await link.value('SELECT CURRENT_USER()')) ?? '';
  return {
    ...options,
    link,
    scope,
    tables,
    layouts,
    // Green's tables may be made later by the schema file.
    missing: scope.role === 'source' || scope.targets.length > 0 ? missing : [],
    account: account
      .split('@')
      .map((part) => `'${part}'`)
      .join('@'),
  };
}
