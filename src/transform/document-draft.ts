import type { DocumentFormat } from '../core/document.ts';
import { showTable, type Cell, type Column, type Relation } from '../core/table.ts';
import { compileColumn, type ColumnProgram } from './column.ts';
import { compileDocument, type DocumentProgram } from './document.ts';
import { documentBack } from './document-back.ts';
import { compileDocumentCondition } from './document-condition.ts';
import type { TargetSpec } from './spec.ts';
import type { DraftOptions, TargetDraft } from './target-draft.ts';

/** The column that holds the document, where the mapping can look into it. */
export function documentColumn(
  relation: Relation,
): { readonly index: number; readonly format: DocumentFormat } | null {
  const index = relation.columns.findIndex((column) => column.kind === 'document');
  const format = relation.columns[index]?.format;
  return format === undefined ? null : { index, format };
}

/** Names of `columns`, `drop` and `emit_when` are fields of the documents. */
export const mapsFields = (spec: TargetSpec | null): spec is TargetSpec =>
  spec !== null && (spec.columns !== undefined || spec.drop !== undefined || spec.emit_when !== undefined);

/** Compiles one `to` entry of a table of documents: its key stays, its document is made of blue's. */
export function draftDocuments({ blue, green, target, modules, issues, entry }: DraftOptions): TargetDraft {
  const spec = target.spec as TargetSpec;
  const from = documentColumn(blue);
  const to = documentColumn(green);
  const [key = 0] = green.key;
  const keyName = (green.columns[key] as Column).name;
  const named = Object.keys(spec.columns ?? {}).some((name) => name !== '*') || (spec.drop ?? []).length > 0;
  const complain = (path: readonly string[], message: string): void =>
    issues.add([...target.path, ...path], message);
  const programs: ColumnProgram[] = [];
  for (const [index, column] of green.columns.entries()) {
    const program = compileColumn(
      {},
      { index, column },
      { columns: blue.columns, element: -1, modules },
      complain,
    );
    if (program !== null) programs.push(program);
  }
  if (
    spec.key !== undefined &&
    Object.entries(spec.key).some(([name, part]) => name !== keyName || part !== keyName)
  )
    complain(['key'], `the key of ${showTable(green.table)} is ${keyName}, and stays what it is`);
  if (spec.explode !== undefined) complain(['explode'], 'arrays of documents cannot be exploded');
  if (from !== null && to !== null && named) {
    const options = { format: from.format, key: keyName, modules };
    const program = compileDocument({
      ...options,
      columns: spec.columns ?? { '*': 'copy' },
      drop: spec.drop ?? [],
      side: 'blue',
      problem: complain,
    });
    const back =
      program === null
        ? { reason: '' }
        : documentBack(program, entry.reverse?.columns, {
            ...options,
            problem: (path, message) => issues.add([...entry.path, 'reverse', ...path], message),
          });
    const at = programs.findIndex((one) => one.column === to.index);
    if (program !== null && at >= 0)
      programs[at] = withFields(programs[at] as ColumnProgram, program, { back, format: to.format });
  }
  return {
    blue,
    green,
    spec,
    path: target.path,
    programs,
    emitWhen:
      spec.emit_when === undefined || from === null
        ? null
        : compileDocumentCondition(spec.emit_when, from, (message) => complain(['emit_when'], message)),
    explode: null,
    defaults: [],
    withAbsent: [],
  };
}

function withFields(
  whole: ColumnProgram,
  program: DocumentProgram,
  { back, format }: { readonly back: ReturnType<typeof documentBack>; readonly format: DocumentFormat },
): ColumnProgram {
  const none = 'reason' in back ? back.reason : null;
  const ordered = program.ordered && 'program' in back && back.program.ordered;
  return {
    ...whole,
    copy: null,
    evaluate: (tuple) => program.apply(tuple[whole.inputs[0] as number] as Cell),
    operation: program.operation,
    inverse: none === null ? { apply: (text) => text } : { reason: none },
    pure: program.pure,
    document: {
      back: 'program' in back ? back.program.apply : (none as string),
      backOperation: 'program' in back ? back.program.operation : '',
      unordered: ordered ? null : (document) => format.unordered(document as object),
    },
  };
}
