import { jsonIsArray, jsonValue, sameKey, scan, whole, type Visitor } from './json-text.ts';

/** Raw text of what stands at the path, null when there is nothing. Of a key that is there twice the last one counts. @throws NotJson */
export function jsonAt(text: string, path: readonly (string | number)[]): string | null {
  if (path.length === 0) return jsonValue(text);
  let parts = elements.inside;
  if (parts.of !== text) {
    parts = asked;
    if (parts.of !== text) parts.read(text);
  }
  let found = parts.find(path[0] as string | number);
  for (let depth = 1; depth < path.length && found; depth += 1) {
    parts = parts.below(depth);
    found = parts.find(path[depth] as string | number);
  }
  return found ? parts.found : null;
}

/** The elements of an array in order. */
export interface Elements {
  readonly length: number;
  /** Its raw text. */
  at(index: number): string;
}

/**
 * The elements of an array; null when the value is not an array. Good until the next text is asked for. What {@link jsonAt} is asked of the
 * element that was given out last was found in the same pass. @throws NotJson
 */
export function explodeJson(text: string): Elements | null {
  elements.read(text);
  return jsonIsArray(text) ? elements : null;
}

/** Four numbers for each part: its key, from the quote before it to behind the one after it (-1: an element has none), and the value. */
const STRIDE = 4;
/** Numbers that a list may have when its text is done with, and that are noted of what is inside of all elements. Half a megabyte. */
const MOST_KEPT = 65_536;

/**
 * Where the direct parts of a value stand: the members of an object, or the elements of an array. The list is kept from text to text: a new
 * one for each would be most of what a mapping leaves behind.
 */
class Parts implements Visitor {
  /** Whose parts they are. */
  of: string | null = null;
  /** What the numbers count in: that text, or one that it is a piece of. */
  #text = '';
  readonly #offsets: number[] = [];
  #from = 0;
  #to = 0;
  readonly #most: number;
  /** Of what was found last. */
  #start = 0;
  #end = 0;

  /** @param most numbers that are noted; what has more parts is not known */
  constructor(most = Number.POSITIVE_INFINITY) {
    this.#most = most;
  }

  /** Forgets what it knew. */
  begin(text: string): void {
    if (this.#to > MOST_KEPT) this.#offsets.length = 0;
    this.of = null;
    this.#text = text;
    this.#from = 0;
    this.#to = 0;
  }

  /** The parts of the whole text. @throws NotJson */
  read(text: string): void {
    this.begin(text);
    whole(text, this);
    this.of = text;
  }

  /** The parts of what was found last, which was checked with what it lies in. */
  below(depth: number): Parts {
    const parts = new Parts();
    parts.begin(this.#text);
    scan(this.#text, this.#start, depth, parts);
    return parts;
  }

  element(start: number, end: number): void {
    this.member(-1, -1, start, end);
  }

  member(key: number, keyEnd: number, start: number, end: number): void {
    if (this.#to >= this.#most) return;
    const offsets = this.#offsets;
    offsets[this.#to++] = key;
    offsets[this.#to++] = keyEnd;
    offsets[this.#to++] = start;
    offsets[this.#to++] = end;
  }

  /** How many numbers there are. */
  get size(): number {
    return this.#to;
  }

  /** From here on those that stand from `from` to `to`, the parts of a piece of the text. */
  see(of: string, from: number, to: number): void {
    this.of = to < this.#most ? of : null;
    this.#from = from;
    this.#to = to;
  }

  find(part: string | number): boolean {
    const offsets = this.#offsets;
    const from = this.#from;
    let at = this.#to - STRIDE;
    if (at < from) return false;
    if ((offsets[from] as number) >= 0) {
      const name = String(part);
      while (at >= from && !sameKey(this.#text, offsets[at] as number, offsets[at + 1] as number, name))
        at -= STRIDE;
    } else {
      const index = typeof part === 'number' ? part : /^\d+$/.test(part) ? Number(part) : -1;
      at = index >= 0 && from + STRIDE * index <= at ? from + STRIDE * index : -1;
    }
    if (at < from) return false;
    this.#start = offsets[at + 2] as number;
    this.#end = offsets[at + 3] as number;
    return true;
  }

  /** Raw text of what was found last. */
  get found(): string {
    return this.#text.slice(this.#start, this.#end);
  }
}

class ElementList implements Visitor, Elements {
  length = 0;
  readonly inside = new Parts(MOST_KEPT);
  #text = '';
  /** Three numbers for each element: where it starts and ends, and where its parts end in the list of all parts. */
  readonly #bounds: number[] = [];

  read(text: string): void {
    if (this.length > MOST_KEPT) this.#bounds.length = 0;
    this.length = 0;
    this.#text = text;
    this.inside.begin(text);
    whole(text, this);
  }

  element(start: number, end: number): void {
    const at = 3 * this.length++;
    this.#bounds[at] = start;
    this.#bounds[at + 1] = end;
    this.#bounds[at + 2] = this.inside.size;
  }

  at(index: number): string {
    const bounds = this.#bounds;
    const at = 3 * index;
    const text = this.#text.slice(bounds[at], bounds[at + 1]);
    this.inside.see(text, index === 0 ? 0 : (bounds[at - 1] as number), bounds[at + 2] as number);
    return text;
  }
}

/** Of the text that was asked for last: columns of one row often take several places of the same one. */
const asked = new Parts();
const elements = new ElementList();
