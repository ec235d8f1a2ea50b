import type { MergePart, TargetTable } from '../core/plan.ts';
import { showTable, type Cell, type Column } from '../core/table.ts';
import type { ColumnProgram } from './column.ts';
import type { Issues } from './issue.ts';
import type { TargetDraft } from './target-draft.ts';
import type { Role } from './target-program.ts';

/** What becomes of the drafts of one green table. */
export interface FedTable {
  readonly table: TargetTable;
  readonly roles: ReadonlyMap<TargetDraft, Role>;
}

/** Decides how one green table is fed by one or several blue ones, and checks that its columns are complete. */
export function feed(drafts: readonly TargetDraft[], issues: Issues): FedTable {
  const first = drafts[0] as TargetDraft;
  const { green } = first;
  if (drafts.length === 1) {
    checkAlone(first, issues);
    checkFed(green.columns, drafts, issues);
    const prefix = first.explode === null ? 0 : Math.max(green.key.length - 1, 0);
    return {
      table: {
        relation: green,
        merge: null,
        prefix,
        ...(keepsRanges(first) ? {} : { scattered: true as const }),
      },
      roles: new Map([[first, first.explode === null ? 'whole' : 'explode']]),
    };
  }
  const owner = checkMerge(drafts, issues);
  checkFed(green.columns, drafts, issues);
  const parts = drafts.filter((draft) => draft !== owner);
  const payload = (draft: TargetDraft): ColumnProgram[] =>
    draft.programs.filter((program) => !green.key.includes(program.column));
  return {
    table: {
      relation: green,
      prefix: 0,
      merge: {
        owner: owner.programs.map((program) => program.column),
        parts: parts.map((draft): MergePart => {
          const programs = payload(draft);
          return {
            columns: programs.map((program) => program.column),
            absent: programs.map((program): Cell => program.absent),
          };
        }),
      },
    },
    roles: new Map(drafts.map((draft) => [draft, draft === owner ? 'owner' : 'part'])),
  };
}

/** Green's first key column is blue's, as it is. */
function keepsRanges({ blue, green, programs }: TargetDraft): boolean {
  const [own] = green.key;
  const [from] = blue.key;
  return own !== undefined && programs.some((one) => one.column === own && one.copy === from);
}

function checkAlone(draft: TargetDraft, issues: Issues): void {
  const name = showTable(draft.green.table);
  if (draft.spec?.owner !== undefined) {
    issues.add([...draft.path, 'owner'], `no other table feeds ${name}: owner does nothing here`);
  }
  refuseAbsent(draft, `no other table feeds ${name}`, issues);
}

function refuseAbsent(draft: TargetDraft, why: string, issues: Issues): void {
  for (const column of draft.withAbsent) {
    issues.add([...draft.path, 'columns', column, 'absent'], `absent does nothing here: ${why}`);
  }
}

/** Reports what is wrong with a merge and returns the owner (the first, where it is not clear). */
function checkMerge(drafts: readonly TargetDraft[], issues: Issues): TargetDraft {
  const first = drafts[0] as TargetDraft;
  const { green } = first;
  const name = showTable(green.table);
  const owners = drafts.filter((draft) => draft.spec?.owner === true);
  const owner = owners[0] ?? first;
  const sources = drafts.map((draft) => showTable(draft.blue.table));
  const twice = drafts.find((draft, index) => sources.indexOf(showTable(draft.blue.table)) < index);
  if (twice !== undefined) {
    issues.add(
      twice.path,
      `${showTable(twice.blue.table)} feeds ${name} twice; a row can be in a table once`,
    );
    return owner;
  }
  if (first.mergedDocuments !== true && green.columns.some(({ kind }) => kind === 'document')) {
    issues.add(
      (drafts[1] as TargetDraft).path,
      `${sources.join(' and ')} feed ${name}: documents of several tables are put together by _id where one says owner: true and the others name the fields they give, and arrays and keys stay what they are; else give each a table of its own on green`,
    );
    return owner;
  }
  if (owners.length !== 1) {
    for (const draft of owners.length === 0 ? drafts : owners.slice(1)) {
      issues.add(
        draft.path,
        `${sources.join(' and ')} feed ${name}: exactly one of them must say owner: true, the one whose rows make and end the rows of green`,
      );
    }
  }
  if (green.key.length === 0)
    issues.add(first.path, `${name} has no primary key: rows of several tables cannot meet in it`);
  const fedBy = new Map<number, TargetDraft>();
  for (const draft of drafts) {
    if (draft.explode !== null)
      issues.add([...draft.path, 'explode'], `${name} is fed by several tables: it cannot be exploded into`);
    for (const program of draft.programs) {
      if (green.key.includes(program.column)) continue;
      const other = fedBy.get(program.column);
      if (other === undefined) fedBy.set(program.column, draft);
      else
        issues.add(
          [...draft.path, 'columns', program.name],
          `${showTable(other.blue.table)} also makes ${program.name}`,
        );
    }
    if (
      draft !== owner &&
      draft.programs.length > 0 &&
      draft.programs.every((one) => green.key.includes(one.column))
    ) {
      issues.add(draft.path, `${showTable(draft.blue.table)} feeds nothing of ${name} but the key`);
    }
    checkMergeKey(draft, issues);
  }
  checkFirstKey(drafts, issues);
  refuseAbsent(owner, 'the rows of this table make the rows of green', issues);
  return owner;
}

/** One row of blue per row of green: the keys must be made of one another. */
function checkMergeKey(draft: TargetDraft, issues: Issues): void {
  const { blue, green } = draft;
  const inputs = new Set(
    draft.programs
      .filter((program) => green.key.includes(program.column))
      .flatMap((program) => program.inputs),
  );
  const whole =
    blue.key.length > 0 && blue.key.every((index) => inputs.has(index)) && inputs.size === blue.key.length;
  if (whole) return;
  const key = blue.key.map((index) => blue.columns[index]?.name).join(', ');
  issues.add(
    draft.path,
    `the key of ${showTable(green.table)} must be made of exactly the key of ${showTable(blue.table)} (${key || 'it has none'})`,
  );
}

/** The tables are copied together by ranges of their first key column: it must mean the same in each. */
function checkFirstKey(drafts: readonly TargetDraft[], issues: Issues): void {
  const firsts = drafts.map((draft) => {
    const index = draft.blue.key[0];
    if (index === undefined) return null;
    const program = draft.programs.find(
      (one) => draft.green.key.includes(one.column) && one.inputs.length === 1 && one.inputs[0] === index,
    );
    if (program === undefined || 'reason' in program.inverse) return null;
    return { column: program.column, kind: (draft.blue.columns[index] as Column).kind };
  });
  const [first] = firsts;
  for (const [index, one] of firsts.entries()) {
    const draft = drafts[index] as TargetDraft;
    if (first && one && one.column === first.column && one.kind === first.kind) continue;
    issues.add(
      draft.path,
      `the first key column of ${showTable(draft.blue.table)} must become the same key column of ${showTable(draft.green.table)} as that of ${showTable((drafts[0] as TargetDraft).blue.table)}, without being changed`,
    );
  }
}

/** Every column of green is fed, or the server can fill it. */
function checkFed(columns: readonly Column[], drafts: readonly TargetDraft[], issues: Issues): void {
  const first = drafts[0] as TargetDraft;
  for (const [index, column] of columns.entries()) {
    const fedBy = drafts.find((draft) => draft.programs.some((program) => program.column === index));
    if (fedBy !== undefined) {
      if (drafts.filter((draft) => draft.spec?.owner === true).length === 1)
        checkAbsent(fedBy, index, column, issues);
      continue;
    }
    const settled =
      column.generated ||
      column.nullable ||
      column.hasDefault ||
      drafts.some((draft) => draft.defaults.includes(index) || draft.explode?.ordinal === index);
    const inKey = first.green.key.includes(index);
    if (!settled && !inKey) {
      issues.add(
        first.path,
        `nothing feeds ${showTable(first.green.table)}.${column.name}, and it has no default and cannot be null`,
      );
    }
  }
}

function checkAbsent(draft: TargetDraft, index: number, column: Column, issues: Issues): void {
  const program = draft.programs.find((one) => one.column === index);
  const isPart = draft.spec?.owner !== true && !draft.green.key.includes(index);
  if (isPart && program?.absent === null && !column.nullable) {
    issues.add(
      [...draft.path, 'columns', column.name],
      `${column.name} cannot be null: say what it is while the row is absent (absent: …)`,
    );
  }
}
