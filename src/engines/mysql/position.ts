import { VerdigrisError } from '../../core/errors.ts';
import { asPosition, type Position, type Positions } from '../../core/position.ts';

/**
 * Which transactions a position includes, in the server's own notation: a GTID set of MySQL (`uuid:1-5:9,uuid:tag:1-3`), in which
 * every source has intervals, or a GTID position of MariaDB (`0-1-270`), which names the last transaction of each domain.
 */
export type GtidSet = MysqlGtidSet | MariadbGtidPosition;

type Interval = readonly [first: bigint, last: bigint];

/** Intervals by source (`uuid` or `uuid:tag`), sorted and joined. Mutable: a stream adds to it. */
export class MysqlGtidSet {
  readonly flavour = 'mysql';
  readonly #sources: Map<string, Interval[]>;

  constructor(sources: Map<string, Interval[]> = new Map()) {
    this.#sources = sources;
  }

  static parse(text: string): MysqlGtidSet {
    const set = new MysqlGtidSet();
    for (const part of text.replaceAll(/\s/g, '').split(',')) {
      if (part === '') continue;
      const [uuid, ...rest] = part.split(':');
      if (
        uuid === undefined ||
        !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(uuid) ||
        rest.length === 0
      )
        throw malformed(text);
      let source = uuid.toLowerCase();
      for (const item of rest) {
        const interval = /^(\d+)(?:-(\d+))?$/.exec(item);
        if (interval !== null) {
          const first = BigInt(interval[1] as string);
          set.#addInterval(source, [first, BigInt(interval[2] ?? (interval[1] as string))]);
        } else if (/^[a-z_][a-z0-9_]{0,31}$/i.test(item))
          source = `${uuid.toLowerCase()}:${item.toLowerCase()}`;
        else throw malformed(text);
      }
    }
    return set;
  }

  /** @param gtid `uuid:7` or `uuid:tag:7` */
  add(gtid: string): void {
    const [source, last] = splitGtid(gtid);
    this.#addInterval(source, [last, last]);
  }

  has(gtid: string): boolean {
    const [source, number] = splitGtid(gtid);
    return this.#sources.get(source)?.some(([first, last]) => first <= number && number <= last) ?? false;
  }

  covers(other: GtidSet): boolean {
    if (other.flavour !== 'mysql') return other.isEmpty;
    for (const [source, intervals] of other.#sources) {
      const mine = this.#sources.get(source) ?? [];
      for (const [first, last] of intervals)
        if (!mine.some(([from, to]) => from <= first && last <= to)) return false;
    }
    return true;
  }

  /** What is in here and not in `other`. */
  minus(other: MysqlGtidSet): MysqlGtidSet {
    const rest = new MysqlGtidSet();
    for (const [source, intervals] of this.#sources) {
      for (const [first, last] of intervals) {
        let from = first;
        for (const [start, end] of other.#sources.get(source) ?? []) {
          if (end < from || start > last) continue;
          if (start > from) rest.#addInterval(source, [from, start - 1n]);
          from = end + 1n;
        }
        if (from <= last) rest.#addInterval(source, [from, last]);
      }
    }
    return rest;
  }

  get isEmpty(): boolean {
    return this.#sources.size === 0;
  }

  /** One spelling for equal sets: sources in order, a tag after its uuid. */
  toString(): string {
    const sources = [...this.#sources.keys()].sort();
    let text = '';
    let last = '';
    for (const source of sources) {
      const [uuid = '', tag] = source.split(':');
      if (uuid !== last) text += `${text === '' ? '' : ','}${uuid}`;
      last = uuid;
      if (tag !== undefined) text += `:${tag}`;
      for (const [first, end] of this.#sources.get(source) as Interval[])
        text += first === end ? `:${first}` : `:${first}-${end}`;
    }
    return text;
  }

  #addInterval(source: string, [first, last]: Interval): void {
    const intervals = this.#sources.get(source);
    if (intervals === undefined) {
      this.#sources.set(source, [[first, last]]);
      return;
    }
    const end = intervals.at(-1) as Interval;
    // What a stream does all the time.
    if (first === end[1] + 1n) {
      intervals[intervals.length - 1] = [end[0], last];
      return;
    }
    const merged: Interval[] = [];
    for (const one of [...intervals, [first, last] as Interval].sort((a, b) => (a[0] < b[0] ? -1 : 1))) {
      const before = merged.at(-1);
      if (before !== undefined && one[0] <= before[1] + 1n)
        merged[merged.length - 1] = [before[0], one[1] > before[1] ? one[1] : before[1]];
      else merged.push(one);
    }
    this.#sources.set(source, merged);
  }
}

function splitGtid(gtid: string): readonly [string, bigint] {
  const at = gtid.lastIndexOf(':');
  return [gtid.slice(0, at).toLowerCase(), BigInt(gtid.slice(at + 1))];
}

/** The last transaction of each domain; inside a domain the log is in the order of the numbers. */
export class MariadbGtidPosition {
  readonly flavour = 'mariadb';
  readonly #domains = new Map<number, { readonly server: number; readonly sequence: bigint }>();

  static parse(text: string): MariadbGtidPosition {
    const position = new MariadbGtidPosition();
    for (const part of text.replaceAll(/\s/g, '').split(',')) if (part !== '') position.add(part);
    return position;
  }

  /** @param gtid `domain-server-sequence` */
  add(gtid: string): void {
    const match = /^(\d+)-(\d+)-(\d+)$/.exec(gtid);
    if (match === null) throw malformed(gtid);
    const [domain, server, sequence] = [Number(match[1]), Number(match[2]), BigInt(match[3] as string)];
    this.#domains.set(domain, { server, sequence });
  }

  has(gtid: string): boolean {
    const [domain, , sequence] = gtid.split('-');
    const known = this.#domains.get(Number(domain));
    return known !== undefined && known.sequence >= BigInt(sequence as string);
  }

  covers(other: GtidSet): boolean {
    if (other.flavour !== 'mariadb') return other.isEmpty;
    for (const [domain, { sequence }] of other.#domains) {
      const mine = this.#domains.get(domain);
      if (mine === undefined || mine.sequence < sequence) return false;
    }
    return true;
  }

  get isEmpty(): boolean {
    return this.#domains.size === 0;
  }

  toString(): string {
    return [...this.#domains.entries()]
      .sort(([a], [b]) => a - b)
      .map(([domain, { server, sequence }]) => `${domain}-${server}-${sequence}`)
      .join(',');
  }
}

const malformed = (text: string): VerdigrisError =>
  new VerdigrisError('STATE_FORMAT', `Not a position of a binary log: ${text.slice(0, 60)}`);

/** Reads a position in either notation. The empty one belongs to both. @throws VerdigrisError STATE_FORMAT */
export const parseGtids = (text: string): GtidSet =>
  text === '' || text.includes(':') ? MysqlGtidSet.parse(text) : MariadbGtidPosition.parse(text);

export const formatGtids = (set: GtidSet): Position => asPosition(set.toString());

/** A position that a server printed, in the one spelling of ours. */
export const positionOf = (text: string): Position => formatGtids(parseGtids(text));

/** The same few positions are compared for every change while a table is being copied. */
const MOST_PARSED = 256;
const parsed = new Map<string, GtidSet>();

function known(text: string): GtidSet {
  let set = parsed.get(text);
  if (set !== undefined) return set;
  // A log that has a table of ours in it is never empty.
  if (text === '') throw malformed(text);
  set = parseGtids(text);
  if (parsed.size >= MOST_PARSED) parsed.delete(parsed.keys().next().value as string);
  parsed.set(text, set);
  return set;
}

/** The engine cannot tell log bytes: a set of transactions has no place in a file. */
export const positions: Positions = {
  covers: (have, want) => known(have).covers(known(want)),
  distance: () => null,
  describe: (position) => `GTID ${positionOf(position)}`,
};
