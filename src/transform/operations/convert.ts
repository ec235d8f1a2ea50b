import type { Column } from '../../core/table.ts';
import { BadValue } from '../bad-value.ts';
import { isInfinite, parseCivil, showDate, showTimestamp, trimFraction } from '../civil.ts';
import { parseDecimal, plainInteger, showDecimal, stripZeros, withScale, type Decimal } from '../decimal.ts';
import { jsonValue, NotJson } from '../json-text.ts';
import { copyProblem, typeOf, within, type TypeWord } from '../type-word.ts';
import type { Inverse, Shape } from './operation.ts';
import { localInverse, momentInverse, toLocal, toMoment, type ZoneRules } from './timezone.ts';

type Apply = (text: string) => string;

/** How text of one type becomes text of another. */
export interface Conversion {
  readonly apply: Apply;
  readonly inverse: Inverse;
}

/** No work: the text is valid as it is. */
export const IDENTITY: Apply = (text) => text;
const exact = (apply: Apply, back: Apply = IDENTITY): Conversion => ({ apply, inverse: { apply: back } });
const lossy = (apply: Apply, reason: string, section: Apply = IDENTITY): Conversion => ({
  apply,
  inverse: { reason, section },
});

/**
 * The conversion, or why there is none.
 * @param rules how a timestamp without time zone and a moment belong together; null where the values say so themselves
 */
export function convert(from: Shape, to: Column, rules: ZoneRules | null): Conversion | string {
  const none = `${from.type} cannot be cast to ${to.type}`;
  const type = typeOf(to);
  switch (to.kind) {
    case 'integer':
      return toInteger(from, type) ?? none;
    case 'decimal':
      return toDecimal(from, type) ?? none;
    case 'float':
      return toFloat(from, type) ?? none;
    case 'boolean':
      return toBoolean(from) ?? none;
    case 'text':
      return toText(from, to) ?? none;
    case 'date':
      return toDate(from, rules) ?? none;
    case 'time':
      return toTime(from, type) ?? none;
    case 'timestamp':
      return toTimestamp(from, type, rules) ?? none;
    case 'timestamptz':
      return toTimestamptz(from, type, rules) ?? none;
    case 'uuid':
      return toUuid(from) ?? none;
    case 'json':
      return toJson(from) ?? none;
    case 'bytes':
      return from.kind === 'bytes' ? exact(IDENTITY) : none;
    case 'interval':
    case 'array':
    case 'document':
    case 'other':
      // The server reads the text; a text it refuses stops the stream there.
      if (from.kind === to.kind) return exact(IDENTITY);
      return from.kind === 'text' ? lossy(IDENTITY, 'the spelling is not kept') : none;
  }
}

const SPELLING = 'the spelling of the text is not kept';

function number(text: string): Decimal {
  const parsed = parseDecimal(text);
  if (parsed === null) throw new BadValue('is not a number');
  return parsed;
}

function whole(text: string): bigint {
  const { units, scale } = stripZeros(number(text));
  if (scale !== 0) throw new BadValue('has digits after the point');
  return units;
}

const wholeText: Apply = (text) => whole(text).toString();

function toInteger(from: Shape, type: TypeWord): Conversion | null {
  const { range } = type;
  // Exact where it counts: a plain integer is far below where numbers are rounded.
  const [least, most] = range === null ? [-Infinity, Infinity] : range.map(Number);
  const outOfRange = (): BadValue => new BadValue(`is out of range for ${type.name}`);
  const inRange = (text: string): string => {
    const plain = plainInteger(text);
    if (!Number.isNaN(plain)) {
      if (plain < (least as number) || plain > (most as number)) throw outOfRange();
      return text;
    }
    const value = whole(text);
    if (range !== null && (value < range[0] || value > range[1])) throw outOfRange();
    return value.toString();
  };
  switch (from.kind) {
    case 'integer': {
      const known = from.derived && from.type === 'integer' ? null : typeOf(from).range;
      return range === null || (known !== null && within(known, range)) ? exact(IDENTITY) : exact(inRange);
    }
    case 'decimal':
    case 'float':
      return exact(inRange);
    case 'text':
      return lossy(inRange, SPELLING);
    case 'boolean':
      return exact(
        (text) => (text === 't' ? '1' : '0'),
        (text) => (text === '1' ? 't' : 'f'),
      );
    default:
      return null;
  }
}

function toDecimal(from: Shape, type: TypeWord): Conversion | null {
  const { scale, precision } = type;
  const digits = precision === null || scale === null ? null : precision - scale;
  const limit = digits === null ? null : 10n ** BigInt(Math.max(digits, 0));
  const fit: Apply = (text) => {
    if (text === 'NaN') return text;
    const value = number(text);
    if (scale === null) return showDecimal(value);
    const least = stripZeros(value);
    const fitted = withScale(least, Math.max(scale, 0));
    if (fitted === null || (scale < 0 && fitted.units % 10n ** BigInt(-scale) !== 0n)) {
      throw new BadValue(`has more than ${scale} digits after the point`);
    }
    const units = fitted.units < 0n ? -fitted.units : fitted.units;
    if (limit !== null && units >= limit * 10n ** BigInt(fitted.scale)) {
      throw new BadValue(`has more than ${digits} digits before the point`);
    }
    return showDecimal(fitted);
  };
  switch (from.kind) {
    case 'integer':
      return exact(fit, wholeText);
    case 'decimal':
      return scale === null ? exact(IDENTITY) : exact(fit);
    case 'float':
      return exact(fit);
    case 'text':
      return lossy(fit, SPELLING);
    default:
      return null;
  }
}

function toFloat(from: Shape, type: TypeWord): Conversion | null {
  const most = type.single ? 2n ** 24n : 2n ** 53n;
  const float: Apply = (text) => {
    if (/^-?(?:NaN|Infinity)$/.test(text)) return text;
    const { units } = number(text);
    if (!Number.isFinite(Number(text)) || (units !== 0n && Number(text) === 0))
      throw new BadValue('is out of range');
    return text;
  };
  switch (from.kind) {
    case 'integer':
      return exact((text) => {
        const value = whole(text);
        if (value > most || value < -most) throw new BadValue('has more digits than a float keeps');
        return text;
      }, wholeText);
    case 'float':
      return type.single && !typeOf(from).single ? null : exact(IDENTITY);
    case 'decimal':
      return lossy(float, 'a float does not keep every decimal');
    case 'text':
      return lossy(float, SPELLING);
    default:
      return null;
  }
}

function toBoolean(from: Shape): Conversion | null {
  switch (from.kind) {
    case 'boolean':
      return exact(IDENTITY);
    case 'integer':
      return exact(
        (text) => {
          if (text !== '0' && text !== '1') throw new BadValue('is neither 0 nor 1');
          return text === '1' ? 't' : 'f';
        },
        (text) => (text === 't' ? '1' : '0'),
      );
    case 'text':
      return lossy((text) => {
        if (/^(?:t|true|y|yes|on|1)$/i.test(text)) return 't';
        if (/^(?:f|false|n|no|off|0)$/i.test(text)) return 'f';
        throw new BadValue('is not a boolean');
      }, SPELLING);
    default:
      return null;
  }
}

function toText(from: Shape, to: Column): Conversion | null {
  const { labels } = to;
  if (labels !== undefined) {
    if (from.kind !== 'text') return null;
    const known = new Set(labels);
    if (from.labels?.every((label) => known.has(label)) === true) return exact(IDENTITY);
    return exact((text) => {
      if (!known.has(text)) throw new BadValue(`is not a label of ${to.type}`);
      return text;
    });
  }
  if (from.kind === 'bytes') return null;
  const { length } = typeOf(to);
  const known = from.kind === 'text' ? typeOf(from).length : null;
  if (from.kind !== 'boolean') {
    if (length === null || (known !== null && known <= length)) return exact(IDENTITY);
    return exact((text) => {
      if (text.length > length && Array.from(text).length > length)
        throw new BadValue(`is longer than ${length} characters`);
      return text;
    });
  }
  return exact(
    (text) => (text === 't' ? 'true' : 'false'),
    (text) => (text === 'true' ? 't' : 'f'),
  );
}

function toDate(from: Shape, rules: ZoneRules | null): Conversion | null {
  const dateOf: Apply = (text) => (isInfinite(text) ? text : showDate(seconds(text)));
  switch (from.kind) {
    case 'date':
      return exact(IDENTITY);
    case 'timestamp':
      return lossy(dateOf, 'the time of day is dropped', midnight);
    case 'timestamptz':
      return rules === null
        ? null
        : lossy(
            (text) => dateOf(toLocal(text, rules.zone)),
            'the time of day is dropped',
            (text) => toMoment(midnight(text), { ...rules, ambiguous: 'earlier', nonexistent: 'shift' }),
          );
    case 'text':
      return lossy((text) => {
        const civil = isInfinite(text) ? null : parseCivil(text);
        if (isInfinite(text)) return text;
        if (
          civil === null ||
          civil.offset !== null ||
          civil.seconds % 86_400 !== 0 ||
          trimFraction(civil.fraction) !== ''
        ) {
          throw new BadValue('is not a date');
        }
        return showDate(civil.seconds);
      }, SPELLING);
    default:
      return null;
  }
}

/** The first moment of a date, as a timestamp without time zone. */
const midnight: Apply = (text) => (isInfinite(text) ? text : showTimestamp(seconds(text), ''));

function seconds(text: string): number {
  const civil = parseCivil(text);
  if (civil === null) throw new BadValue('is not a date');
  return civil.seconds;
}

const TIME = /^([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(\.\d{1,9})?)?$/;

function toTime(from: Shape, type: TypeWord): Conversion | null {
  const fits = fraction(type);
  if (from.kind === 'time') return exact(fits);
  if (from.kind !== 'text') return null;
  return lossy((text) => {
    const match = TIME.exec(text);
    if (match === null) throw new BadValue('is not a time');
    return fits(`${match[1]}:${match[2]}:${match[3] ?? '00'}${trimFraction(match[4] ?? '')}`);
  }, SPELLING);
}

/** Refuses more digits of a second than the type keeps: the server would round. */
function fraction(type: TypeWord): Apply {
  const most = type.fraction ?? 6;
  return (text) => {
    const match = /\.(\d+)/.exec(text);
    if (match !== null && (match[1] as string).replace(/0+$/, '').length > most) {
      throw new BadValue(`has more than ${most} digits of a second`);
    }
    return text;
  };
}

function toTimestamp(from: Shape, type: TypeWord, rules: ZoneRules | null): Conversion | null {
  const fits = fraction(type);
  switch (from.kind) {
    case 'timestamp':
      return exact(fits);
    case 'date':
      return exact(midnight, (text) => (isInfinite(text) ? text : showDate(seconds(text))));
    case 'timestamptz':
      return rules === null
        ? null
        : { apply: (text) => fits(toLocal(text, rules.zone)), inverse: localInverse(rules.zone) };
    case 'text':
      return lossy((text) => {
        if (isInfinite(text)) return text;
        const civil = parseCivil(text);
        if (civil === null || civil.offset !== null)
          throw new BadValue('is not a timestamp without time zone');
        return fits(showTimestamp(civil.seconds, civil.fraction));
      }, SPELLING);
    default:
      return null;
  }
}

function toTimestamptz(from: Shape, type: TypeWord, rules: ZoneRules | null): Conversion | null {
  const fits = fraction(type);
  switch (from.kind) {
    case 'timestamptz':
      return exact(fits);
    case 'timestamp':
      return rules === null
        ? null
        : { apply: (text) => fits(toMoment(text, rules)), inverse: momentInverse(rules) };
    case 'date':
      return rules === null
        ? null
        : lossy(
            (text) => toMoment(text, rules),
            'it was a date before',
            (text) => (isInfinite(text) ? text : showDate(seconds(toLocal(text, rules.zone)))),
          );
    case 'text':
      return lossy((text) => fits(toMoment(text, rules)), SPELLING);
    default:
      return null;
  }
}

const UUID = /^\{?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})\}?$/i;

function toUuid(from: Shape): Conversion | null {
  if (from.kind === 'uuid') return exact(IDENTITY);
  if (from.kind !== 'text') return null;
  return lossy((text) => {
    const match = UUID.exec(text);
    if (match === null) throw new BadValue('is not a uuid');
    return match.slice(1).join('-').toLowerCase();
  }, SPELLING);
}

function toJson(from: Shape): Conversion | null {
  switch (from.kind) {
    case 'json':
      return exact(IDENTITY);
    case 'integer':
      return exact(IDENTITY);
    case 'decimal':
    case 'float':
      return exact((text) => showNumber(text));
    case 'boolean':
      return exact(
        (text) => (text === 't' ? 'true' : 'false'),
        (text) => (text === 'true' ? 't' : 'f'),
      );
    case 'text':
      return lossy((text) => {
        try {
          return jsonValue(text);
        } catch (error) {
          if (error instanceof NotJson) throw new BadValue('is not JSON');
          throw error;
        }
      }, SPELLING);
    default:
      return null;
  }
}

/** NaN and infinities are no JSON. */
function showNumber(text: string): string {
  return showDecimal(number(text));
}

/** Why a value straight from a column cannot be written to green's column as it is; null when it can. */
export function asIsProblem(from: Shape, to: Column): string | null {
  const { labels: _, ...plain } = to;
  const { kind, type, labels } = from;
  return copyProblem({ ...plain, kind, type, ...(labels === undefined ? {} : { labels }) }, to);
}
