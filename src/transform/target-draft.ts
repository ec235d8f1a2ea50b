import { showTable, type Column, type Relation } from '../core/table.ts';
import { hint } from './closest.ts';
import { compileColumn, type ColumnProgram } from './column.ts';
import { compileCondition, type Condition } from './condition.ts';
import type { Issues } from './issue.ts';
import type { Scope } from './scope.ts';
import type { ColumnObject, ColumnSpec, ModuleFunction, ReverseSpec, TargetSpec } from './spec.ts';
import type { ExplodeProgram } from './target-program.ts';
import type { SelectedTarget } from './table-selection.ts';

/** A compiled target before it is known whether other tables feed the same green table. */
export interface TargetDraft {
  readonly blue: Relation;
  readonly green: Relation;
  readonly spec: TargetSpec | null;
  readonly path: readonly (string | number)[];
  readonly programs: readonly ColumnProgram[];
  readonly emitWhen: Condition | null;
  readonly explode: ExplodeProgram | null;
  /** Green columns left to the server on purpose. */
  readonly defaults: readonly number[];
  /** Its documents are put together with those of other tables. */
  readonly mergedDocuments?: true;
  /** Columns whose entry names `absent`. */
  readonly withAbsent: readonly string[];
}

export interface DraftOptions {
  readonly blue: Relation;
  readonly green: Relation;
  readonly target: SelectedTarget;
  readonly modules: ReadonlyMap<string, ModuleFunction>;
  readonly issues: Issues;
  /** The table's entry: its `reverse`, and where it stands in the file. */
  readonly entry: { readonly reverse: ReverseSpec | undefined; readonly path: readonly (string | number)[] };
}

/** Compiles the columns of one `to` entry of a table with columns. */
export function draftTarget(options: DraftOptions): TargetDraft {
  return new Draft(options).compile();
}

class Draft {
  readonly #blue: Relation;
  readonly #green: Relation;
  readonly #spec: TargetSpec | null;
  readonly #path: readonly (string | number)[];
  readonly #issues: Issues;
  readonly #modules: ReadonlyMap<string, ModuleFunction>;
  readonly #programs = new Map<number, ColumnProgram>();
  /** Entries that did not compile: they are reported once, not again as missing. */
  readonly #failed = new Set<number>();
  readonly #defaults: number[] = [];

  constructor({ blue, green, target, modules, issues }: DraftOptions) {
    this.#blue = blue;
    this.#green = green;
    this.#spec = target.spec;
    this.#path = target.path;
    this.#issues = issues;
    this.#modules = modules;
  }

  compile(): TargetDraft {
    const spec = this.#spec;
    const explode = spec?.explode === undefined ? null : this.#explode(spec.explode);
    const scope = this.#scope(spec?.explode?.as);
    const ordinal = explode?.ordinal ?? -1;
    for (const [name, column] of Object.entries(spec?.columns ?? {}))
      this.#named(name, column, scope, ordinal);
    this.#keyParts(scope, ordinal);
    if (spec?.columns === undefined || Object.hasOwn(spec.columns, '*')) this.#others(scope, ordinal);
    this.#drops();
    this.#checkKey(explode);
    const emitWhen =
      spec?.emit_when === undefined
        ? null
        : compileCondition(spec.emit_when, this.#blue, (message) =>
            this.#issues.add([...this.#path, 'emit_when'], message),
          );
    return {
      blue: this.#blue,
      green: this.#green,
      spec,
      path: this.#path,
      programs: [...this.#programs.values()].sort((a, b) => a.column - b.column),
      emitWhen,
      explode,
      defaults: [...this.#defaults, ...this.#failed],
      withAbsent: Object.entries(spec?.columns ?? {}).flatMap(([name, column]) =>
        typeof column !== 'string' && column.absent !== undefined ? [name] : [],
      ),
    };
  }

  #scope(as: string | undefined): Scope {
    const { columns } = this.#blue;
    if (as === undefined) return { columns, element: -1, modules: this.#modules };
    if (columns.some((column) => column.name === as)) {
      this.#issues.add([...this.#path, 'explode', 'as'], `${as} is also a column of blue`);
    }
    const element: Column = {
      name: as,
      type: 'json',
      kind: 'json',
      nullable: true,
      generated: false,
      hasDefault: false,
      exact: false,
      mayBeUnchanged: false,
    };
    return { columns: [...columns, element], element: columns.length, modules: this.#modules };
  }

  #explode(spec: NonNullable<TargetSpec['explode']>): ExplodeProgram | null {
    const path = [...this.#path, 'explode'];
    const array = this.#blue.columns.findIndex((column) => column.name === spec.array);
    const ordinal = this.#green.columns.findIndex((column) => column.name === spec.ordinal);
    if (array < 0) {
      const known = this.#blue.columns.map((column) => column.name);
      this.#issues.add([...path, 'array'], `${spec.array} is no column of blue${hint(spec.array, known)}`);
    } else if (this.#blue.columns[array]?.kind !== 'json') {
      this.#issues.add(
        [...path, 'array'],
        `${spec.array} is ${this.#blue.columns[array]?.type}; only JSON arrays are exploded`,
      );
    }
    if (ordinal < 0) this.#unknownGreen(spec.ordinal, [...path, 'ordinal']);
    else if (this.#green.columns[ordinal]?.kind !== 'integer') {
      this.#issues.add([...path, 'ordinal'], `${spec.ordinal} must be an integer column`);
    }
    if (array < 0 || ordinal < 0) return null;
    return { array, name: spec.array, ordinal, policy: spec.on_error ?? 'fail' };
  }

  #unknownGreen(name: string, path: readonly (string | number)[]): void {
    const known = this.#green.columns.map((column) => column.name);
    this.#issues.add(path, `${showTable(this.#green.table)} has no column ${name}${hint(name, known)}`);
  }

  #named(name: string, spec: ColumnSpec, scope: Scope, ordinal: number): void {
    const path = [...this.#path, 'columns', name];
    if (name === '*') {
      if (spec !== 'copy') this.#issues.add(path, 'only copy can stand for every other column');
      return;
    }
    const index = this.#green.columns.findIndex((column) => column.name === name);
    const column = this.#green.columns[index];
    if (column === undefined) {
      this.#unknownGreen(name, path);
      return;
    }
    if (index === ordinal) {
      this.#issues.add(path, `${name} is the ordinal of the explode and made by it`);
      return;
    }
    if (spec === 'default') {
      this.#defaults.push(index);
      if (!column.hasDefault && !column.nullable && !column.generated) {
        this.#issues.add(path, `${name} has no default on green and cannot be null`);
      }
      return;
    }
    if (column.generated) {
      this.#issues.add(path, `${name} is generated by green: it cannot be written`);
      return;
    }
    this.#compile(index, spec === 'copy' ? {} : spec, path, scope);
  }

  #compile(index: number, spec: ColumnObject, path: readonly (string | number)[], scope: Scope): void {
    const column = this.#green.columns[index] as Column;
    const program = compileColumn(spec, { index, column }, scope, (below, message) =>
      this.#issues.add([...path, ...below], message),
    );
    if (program === null) this.#failed.add(index);
    else this.#programs.set(index, program);
  }

  #keyParts(scope: Scope, ordinal: number): void {
    for (const [name, part] of Object.entries(this.#spec?.key ?? {})) {
      const path = [...this.#path, 'key', name];
      const index = this.#green.columns.findIndex((column) => column.name === name);
      if (index < 0) {
        this.#unknownGreen(name, path);
        continue;
      }
      if (!this.#green.key.includes(index)) {
        this.#issues.add(path, `${name} is not in the key of ${showTable(this.#green.table)}`);
        continue;
      }
      const spec: ColumnObject = typeof part === 'string' ? { from: part } : part;
      const written = this.#spec?.columns?.[name];
      const program = this.#programs.get(index);
      if (index === ordinal || this.#failed.has(index)) continue;
      if (written === undefined || program === undefined) {
        this.#compile(index, spec, path, scope);
        continue;
      }
      const reads = program.inputs.map((input) => scope.columns[input]?.name);
      const wanted = spec.from === undefined ? program.constant !== null : reads.includes(spec.from);
      if (!wanted) this.#issues.add(path, `columns makes ${name} from something else`);
    }
  }

  /** `"*": copy`: every other column by name. */
  #others(scope: Scope, ordinal: number): void {
    const dropped = new Set(this.#spec?.drop);
    const path = this.#spec?.columns === undefined ? this.#path : [...this.#path, 'columns', '*'];
    for (const [index, column] of this.#green.columns.entries()) {
      const settled = this.#programs.has(index) || this.#failed.has(index) || this.#defaults.includes(index);
      if (column.generated || settled || index === ordinal || dropped.has(column.name)) continue;
      if (!this.#blue.columns.some((one) => one.name === column.name)) continue;
      const program = compileColumn({}, { index, column }, scope, (_, message) =>
        this.#issues.add(path, `${column.name}: ${message}`),
      );
      if (program === null) this.#failed.add(index);
      else this.#programs.set(index, program);
    }
  }

  #drops(): void {
    const known = this.#blue.columns.map((column) => column.name);
    for (const [index, name] of (this.#spec?.drop ?? []).entries()) {
      if (!known.includes(name)) {
        this.#issues.add([...this.#path, 'drop', index], `${name} is no column of blue${hint(name, known)}`);
      }
    }
  }

  #checkKey(explode: ExplodeProgram | null): void {
    const { key, columns, table } = this.#green;
    const name = showTable(table);
    const shown = key.map((index) => columns[index]?.name).join(', ');
    if (this.#spec?.key !== undefined) {
      const path = [...this.#path, 'key'];
      if (key.length === 0) this.#issues.add(path, `${name} has no primary key`);
      const named = Object.keys(this.#spec.key);
      for (const index of key) {
        const column = columns[index]?.name ?? '';
        if (index !== explode?.ordinal && !named.includes(column))
          this.#issues.add(path, `the key of ${name} is (${shown}); ${column} is missing`);
      }
    }
    for (const index of key) {
      if (index === explode?.ordinal || this.#failed.has(index)) continue;
      const column = (columns[index] as Column).name;
      const program = this.#programs.get(index);
      if (program === undefined)
        this.#issues.add(this.#path, `${column} is in the key of ${name} and nothing feeds it`);
      else if (!program.pure)
        this.#issues.add(
          [...this.#path, 'columns', column],
          'a key must always be the same for the same row',
        );
    }
    if (explode === null) return;
    const path = [...this.#path, 'explode', 'ordinal'];
    if (key.length < 2 || key.at(-1) !== explode.ordinal) {
      this.#issues.add(
        path,
        `the key of ${name} is (${shown}); it must be the parent's key, then ${columns[explode.ordinal]?.name}`,
      );
    }
    for (const index of key) {
      const program = this.#programs.get(index);
      if (program?.inputs.includes(this.#blue.columns.length)) {
        this.#issues.add(
          [...this.#path, 'columns', program.name],
          "the parent's part of the key cannot come from the element",
        );
      }
    }
  }
}
