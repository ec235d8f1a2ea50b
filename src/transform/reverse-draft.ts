import { showTable, type Cell, type Column, type Relation, type Tuple } from '../core/table.ts';
import { BadValue } from './bad-value.ts';
import type { Condition } from './condition.ts';
import { elementsRelation, elementWay } from './element.ts';
import { indexesByName, type Feed } from './feed.ts';
import { findHomes, readOff, type Home } from './homes.ts';
import type { Issues } from './issue.ts';
import { columnWays, whyLost, type ColumnWay } from './column-ways.ts';
import { documentColumn } from './document-draft.ts';
import { documentPartOf, partColumns, partWay, type PartOfDocument } from './document-part-back.ts';
import { presenceOf, type Presence } from './presence.ts';
import type { ModuleFunction, TableSpec } from './spec.ts';
import { wayFrom, whyNone, type Way } from './way-back.ts';

/** A way and the column of the written relation it goes to. */
export interface PlacedWay {
  readonly to: number;
  readonly way: Way;
}

/**
 * What rows of one green table do to one blue table. `row`: they are its rows. `part`: they set some of its columns. `replace`: as row, where it
 * is not certain that blue has none yet. `element`: they are the elements of its array.
 */
export interface BackDraft {
  readonly role: 'row' | 'part' | 'replace' | 'element';
  readonly feed: Feed;
  /** What is written: blue as a sink, or the elements of an array. */
  readonly relation: Relation;
  readonly ways: readonly PlacedWay[];
  readonly presence: Presence | null;
  /** Conditions that the way there asks of the row. */
  readonly conditions: readonly { readonly name: string; readonly condition: Condition }[];
  /** Part: the columns it sets and their values while its row is not there. */
  readonly off: ReadonlyMap<number, Cell>;
  readonly array: number;
}

export interface Impossible {
  /** Blue table. */
  readonly table: string;
  readonly column: string | null;
  readonly why: string;
}

export interface BlueDraft {
  readonly blue: Relation;
  readonly relation: Relation;
  readonly drafts: readonly BackDraft[];
  readonly columns: readonly ColumnWay[];
  readonly impossible: readonly Impossible[];
  readonly warnings: readonly string[];
}

export interface BlueOptions {
  /** All green tables that hold something of the table. */
  readonly feeds: readonly Feed[];
  readonly relation: Relation;
  readonly spec: TableSpec | undefined;
  readonly path: readonly (string | number)[];
  readonly modules: ReadonlyMap<string, ModuleFunction>;
  readonly issues: Issues;
  /** The sink can keep elements of arrays. */
  readonly elements: boolean;
}

/** Decides where every column of one blue table comes from. */
export function draftBlue(options: BlueOptions): BlueDraft {
  return new Draft(options).compile();
}

class Draft {
  readonly #options: BlueOptions;
  readonly #blue: Relation;
  readonly #sink: Relation;
  readonly #name: string;
  /** Index in blue as a source → as a sink. */
  readonly #to: readonly number[];
  readonly #impossible: Impossible[] = [];
  readonly #warnings: string[] = [];
  /** Where each column (as a source) comes from. */
  readonly #homes = new Map<number, Home>();
  readonly #off = new Map<number, Cell>();
  readonly #arrays = new Map<number, Feed>();

  constructor(options: BlueOptions) {
    this.#options = options;
    this.#blue = (options.feeds[0] as Feed).blue;
    this.#sink = options.relation;
    this.#name = showTable(this.#blue.table);
    this.#to = indexesByName(this.#blue, options.relation);
  }

  compile(): BlueDraft {
    const { feeds } = this.#options;
    const flat = feeds.filter((feed) => feed.target.role !== 'explode');
    const main = this.#mainOf(flat);
    if (main === null) return this.#result([], null);
    const part = documentPartOf(main);
    const others = flat.filter((feed) => feed !== main);
    if (part !== null) return this.#documentPart(main, part, feeds);
    const places = { ...this.#options, blue: this.#blue, to: this.#to };
    for (const [index, cell] of readOff(places)) this.#off.set(index, cell);
    for (const [index, home] of findHomes(main, others, places)) this.#homes.set(index, home);
    for (const feed of feeds.filter((one) => one.target.role === 'explode')) this.#array(main, feed);
    const parts = others.flatMap((feed) => this.#part(feed) ?? []);
    const row = this.#row(main, parts);
    const elements = [...this.#arrays].flatMap(([array, feed]) => this.#elements(array, feed) ?? []);
    this.#checkFilled();
    return this.#result([row, ...parts, ...elements], main);
  }

  #result(drafts: readonly BackDraft[], main: Feed | null): BlueDraft {
    return {
      blue: this.#blue,
      relation: this.#sink,
      drafts,
      columns: columnWays({
        feeds: this.#options.feeds,
        main,
        homes: this.#homes,
        arrays: this.#arrays,
        off: this.#off,
        to: this.#to,
      }),
      impossible: this.#impossible,
      warnings: this.#warnings,
    };
  }

  #refuse(column: string | null, why: string): void {
    this.#impossible.push({ table: this.#name, column, why });
  }

  /** The green table whose rows make and end those of blue: one that holds every row. */
  #mainOf(flat: readonly Feed[]): Feed | null {
    const always = flat.filter((feed) => feed.target.emitWhen === null);
    const rank = (feed: Feed): number =>
      Number(feed.target.role === 'part') * 2 +
      Number(this.#sink.key.some((index) => wayFrom(feed, this.#source(index), false) === null));
    const [best] = [...always].sort((a, b) => rank(a) - rank(b));
    if (best !== undefined) return best;
    const [only, more] = flat;
    if (only !== undefined && more === undefined) return only;
    this.#refuse(null, 'no green table holds every row of it, so nothing says which rows there are');
    return null;
  }

  #source(to: number): number {
    return this.#to.indexOf(to);
  }

  #array(main: Feed, feed: Feed): void {
    const index = feed.target.explode?.array as number;
    const column = this.#blue.columns[index] as Column;
    if (this.#homes.has(index)) {
      this.#warnings.push(
        `${column.name} of ${this.#name} comes back from elsewhere, not from ${feed.name}: whoever writes on green keeps the two alike.`,
      );
      return;
    }
    if (column.kind === 'document') {
      this.#refuse(
        column.name,
        `no green table gives it back as a whole, and the elements in ${feed.name} are not put together: keep the array in a table that holds every document`,
      );
      return;
    }
    if (this.#arrays.has(index)) {
      this.#refuse(column.name, `it is exploded into ${feed.name} and into another table`);
      return;
    }
    this.#arrays.set(index, feed);
    const empty = '[]';
    this.#homes.set(index, {
      feed: main,
      way: {
        blue: index,
        name: column.name,
        inputs: [],
        evaluate: () => empty,
        policy: 'reject',
        exact: false,
        faithful: true,
        operation: 'array of the rows',
        array: true,
        reason: `of an element that is changed, what ${feed.name} does not hold is lost`,
        checks: [],
      },
    });
  }

  /** Ways for the key of blue from a green table; null after saying why there is none. */
  #key(feed: Feed): PlacedWay[] | null {
    const ways: PlacedWay[] = [];
    for (const to of this.#sink.key) {
      const index = this.#source(to);
      const column = this.#sink.columns[to] as Column;
      const home = this.#homes.get(index);
      const way = home?.feed === feed ? home.way : wayFrom(feed, index, false);
      if (way !== null && (way.exact || home?.feed === feed)) ways.push({ to, way });
      else {
        const why = index < 0 ? ['the log does not carry it'] : whyNone(feed, index);
        this.#refuse(
          column.name,
          `it is in the key, and ${feed.name} does not give it back${why.length === 0 ? '' : ` (${why.join('; ')})`}`,
        );
        return null;
      }
    }
    return ways;
  }

  /** Ways of the columns that come from a green table, without the key. */
  #payload(feed: Feed): PlacedWay[] {
    return [...this.#homes].flatMap(([index, home]) => {
      const to = this.#to[index] as number;
      if (home.feed !== feed || to < 0 || this.#sink.key.includes(to)) return [];
      return this.#sink.columns[to]?.generated === true ? [] : [{ to, way: home.way }];
    });
  }

  #row(feed: Feed, parts: readonly BackDraft[]): BackDraft {
    const { target, plan } = feed;
    const presence = presenceOf(feed);
    const ways = [...(this.#key(feed) ?? []), ...this.#payload(feed)];
    const conditions = [
      ...(plan.when === null ? [] : [{ name: 'when', condition: plan.when }]),
      ...(target.emitWhen === null ? [] : [{ name: 'emit_when', condition: target.emitWhen }]),
    ];
    this.#warnAboutRows(feed, ways);
    const replace = presence !== null && !presence.certain;
    if (replace) this.#checkReplace(feed, ways, parts);
    if (this.#sink.key.length === 0) this.#checkKeyless(ways, parts);
    for (const { name, condition } of conditions) {
      const unknown = condition.inputs.filter((index) => this.#homes.get(index)?.feed !== feed);
      if (unknown.length === 0) continue;
      const names = unknown.map((index) => this.#blue.columns[index]?.name).join(', ');
      this.#warnings.push(
        `${name} of ${this.#name} reads ${names}, which ${feed.name} does not give back: not every row that comes back from green is checked against it.`,
      );
    }
    return {
      role: replace ? 'replace' : 'row',
      feed,
      relation: this.#sink,
      ways,
      presence,
      conditions,
      off: new Map(),
      array: -1,
    };
  }

  /** Documents of which green has some fields, as a part of its own: those are set, and the rest of each stays as it is. */
  #documentPart(feed: Feed, { program, part }: PartOfDocument, feeds: readonly Feed[]): BlueDraft {
    const { index: own } = documentColumn(this.#sink) ?? { index: -1 };
    const { name, merged } = this.#sink.columns[own] ?? { name: null };
    const refuse = (why: string): BlueDraft => {
      this.#refuse(name, why);
      return this.#result([], null);
    };
    if (typeof part === 'string') return refuse(part);
    if (merged === undefined) return refuse('blue cannot keep what it has beside the fields that come back');
    const condition = feed.plan.when !== null ? 'when' : feed.target.emitWhen !== null ? 'emit_when' : null;
    if (condition !== null)
      return refuse(`${condition} cannot be asked of the fields that ${feed.name} has of a document`);
    for (const other of feeds) if (other !== feed) this.#nothingFrom(other.name);
    const relation = merged(this.#sink, [part.fields], 'alone');
    const to = relation.columns.length - 1;
    const ways = [...(this.#key(feed) ?? []), { to, way: partWay(feed, program, part) }];
    const draft: BackDraft = {
      role: 'part',
      feed,
      relation,
      ways,
      presence: null,
      conditions: [],
      off: new Map([[to, null]]),
      array: -1,
    };
    return { ...this.#result([draft], feed), relation, columns: partColumns(relation, own, feed, ways) };
  }

  /** Rows of green that are none of blue, or one of blue together. */
  #warnAboutRows(feed: Feed, ways: readonly PlacedWay[]): void {
    const { target, green, name } = feed;
    const constants = target.programs.filter((one) => one.constant !== null).map((one) => one.name);
    const inKey = ways.filter((one) => this.#sink.key.includes(one.to)).flatMap((one) => one.way.inputs);
    const kinds: string[] = [];
    const loose: string[] = [];
    for (const index of green.key) {
      const column = (green.columns[index] as Column).name;
      if (constants.includes(column)) kinds.push(column);
      else if (!inKey.includes(index)) loose.push(column);
    }
    if (kinds.length > 0)
      this.#warnings.push(
        `Rows of ${name} with another ${kinds.join(', ')} than the mapping's stay on green.`,
      );
    if (loose.length > 0)
      this.#warnings.push(
        `The key of ${name} also holds ${loose.join(', ')}: two rows there may be one of ${this.#name}, and the second is then refused.`,
      );
  }

  #checkReplace(feed: Feed, ways: readonly PlacedWay[], parts: readonly BackDraft[]): void {
    const kept = this.#sink.columns.findIndex(
      (column, to) => !column.generated && !ways.some((one) => one.to === to && one.way.faithful),
    );
    const advice = `map a column that it always fills with absent: null, or a constant (value: true, absent: false)`;
    if (kept >= 0 || parts.length > 0) {
      const why = parts.length > 0 ? 'it is split' : `${this.#sink.columns[kept]?.name} must stay as it is`;
      this.#refuse(
        null,
        `${feed.name} does not say whether it has a row here, and rows cannot be written anew because ${why}; ${advice}`,
      );
      return;
    }
    this.#warnings.push(
      `A row of ${this.#name} that has nothing but the absent values cannot be told from none: once ${feed.name} is written, it is not there. To keep it ${advice}.`,
    );
  }

  #checkKeyless(ways: readonly PlacedWay[], parts: readonly BackDraft[]): void {
    const lost = this.#sink.columns.findIndex(
      (column, to) => !column.generated && !ways.some((one) => one.to === to && one.way.faithful),
    );
    if (lost >= 0 || parts.length > 0) {
      const column = this.#sink.columns[lost]?.name ?? null;
      this.#refuse(
        column,
        'the table has no key, and a row cannot be found by values that do not come back as they were',
      );
    }
  }

  #nothingFrom(green: string): void {
    this.#warnings.push(
      `Nothing of ${this.#name} comes back from ${green}: whoever writes on green keeps the two alike.`,
    );
  }

  #part(feed: Feed): BackDraft | null {
    const payload = this.#payload(feed);
    if (payload.length === 0) {
      this.#nothingFrom(feed.name);
      return null;
    }
    const key = this.#key(feed);
    const { emitWhen } = feed.target;
    this.#warnAboutRows(feed, [...(key ?? []), ...payload]);
    const off = new Map<number, Cell>();
    const row: Cell[] = this.#blue.columns.map(() => null);
    for (const { to } of payload) {
      const index = this.#source(to);
      const column = this.#sink.columns[to] as Column;
      if (column.kind === 'document')
        this.#refuse(
          column.name,
          `it would come back from ${feed.name}, which does not say which rows there are: map the other table so that its documents come back`,
        );
      const cell = this.#off.get(index) ?? null;
      off.set(to, cell);
      row[index] = cell;
      if (cell === null && !column.nullable) {
        this.#refuse(
          column.name,
          `it cannot be null, and nothing says what it is while ${feed.name} has no row; write reverse: off: { ${column.name}: … }`,
        );
      }
    }
    if (emitWhen === null) {
      this.#warnings.push(
        `A row that is missing in ${feed.name} sets its columns of ${this.#name} to their off values; going forward again makes it anew.`,
      );
    } else this.#checkOff(feed, emitWhen, payload, row);
    return {
      role: 'part',
      feed,
      relation: this.#sink,
      ways: [...(key ?? []), ...payload],
      presence: presenceOf(feed),
      conditions: emitWhen === null ? [] : [{ name: 'emit_when', condition: emitWhen }],
      off,
      array: -1,
    };
  }

  /** Without its row the condition must be false, or the way there would make the row again. */
  #checkOff(feed: Feed, condition: Condition, payload: readonly PlacedWay[], row: Tuple): void {
    const foreign = condition.inputs.find((index) => !payload.some((one) => one.way.blue === index));
    if (foreign !== undefined) {
      const column = this.#blue.columns[foreign]?.name ?? '';
      this.#refuse(
        column,
        `emit_when of ${feed.name} reads it, and it does not come back from there: blue cannot say whether that row is there`,
      );
      return;
    }
    let on: boolean;
    try {
      on = condition.test(row);
    } catch (error) {
      if (!(error instanceof BadValue)) throw error;
      on = true;
    }
    if (on) {
      const names = payload.map((one) => one.way.name).join(', ');
      this.#refuse(
        null,
        `without a row in ${feed.name} emit_when must be false; write reverse: off: with values of ${names} for which it is`,
      );
    }
  }

  #elements(array: number, feed: Feed): BackDraft | null {
    const column = this.#blue.columns[array] as Column;
    const refuse = (why: string): null => {
      this.#refuse(column.name, `${why}; write reverse: columns: { ${column.name}: … } to decide otherwise`);
      return null;
    };
    if (!this.#options.elements)
      return refuse(`${feed.name} holds one row per element, and blue keeps no elements`);
    if (feed.target.emitWhen !== null)
      return refuse(`emit_when of ${feed.name} cannot be asked of an element`);
    const way = elementWay(feed, column);
    if (typeof way === 'string') return refuse(way);
    const keys = this.#key(feed);
    const to = this.#to[array] as number;
    const relation = elementsRelation(this.#sink, to);
    const ordinal = feed.read[feed.target.explode?.ordinal ?? -1] ?? -1;
    if (keys === null || ordinal < 0) return null;
    const number: Way = {
      ...way,
      blue: -1,
      name: 'ordinal',
      inputs: [ordinal],
      evaluate: (tuple) => tuple[ordinal] as Cell,
      checks: [],
    };
    return {
      role: 'element',
      feed,
      relation,
      ways: [
        ...keys.map((one, index) => ({ to: index, way: one.way })),
        { to: keys.length, way: number },
        { to: keys.length + 1, way },
      ],
      presence: presenceOf(feed),
      conditions: [],
      off: new Map(),
      array: to,
    };
  }

  /** Every column that an insert must name has a value. */
  #checkFilled(): void {
    for (const [to, column] of this.#sink.columns.entries()) {
      if (column.nullable || column.hasDefault || column.generated || this.#sink.key.includes(to)) continue;
      if (this.#homes.has(this.#source(to))) continue;
      this.#refuse(
        column.name,
        `it cannot be null, has no default, and nothing gives it back (${whyLost(this.#options.feeds, this.#source(to))}); write reverse: columns: { ${column.name}: … }`,
      );
    }
  }
}
