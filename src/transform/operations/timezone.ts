import { BadValue } from '../bad-value.ts';
import { isInfinite, parseCivil, showTimestamp } from '../civil.ts';
import { zoneNamed, type Zone } from '../zone.ts';
import { derived, type Inverse, type Operation, type StepContext } from './operation.ts';

export interface ZoneRules {
  readonly zone: Zone;
  readonly ambiguous: 'earlier' | 'later' | 'reject';
  readonly nonexistent: 'shift' | 'reject';
}

/** The rules the options ask for; null after reporting a problem. */
export function zoneRules(context: StepContext, option: 'assume' | 'to'): ZoneRules | null {
  const { options } = context;
  const name = options[option];
  if (name === undefined) {
    context.problem(`needs ${option}: the time zone of the values without one, for example UTC`);
    return null;
  }
  const zone = zoneNamed(name);
  if (zone === null) {
    context.problem(`${name} is not a known time zone`, option);
    return null;
  }
  return {
    zone,
    ambiguous: options.on_ambiguous ?? 'reject',
    nonexistent: options.nonexistent ?? 'reject',
  };
}

/** Local date or timestamp to a moment, as text with +00. A text that names its offset needs no rules. */
export function toMoment(text: string, rules: ZoneRules | null): string {
  if (isInfinite(text)) return text;
  const civil = parseCivil(text);
  if (civil === null) throw new BadValue('is not a timestamp');
  if (civil.offset !== null) return showTimestamp(civil.seconds - civil.offset, civil.fraction, '+00');
  if (rules === null) throw new BadValue('does not name its time zone');
  return showTimestamp(momentOf(civil.seconds, rules), civil.fraction, '+00');
}

function momentOf(local: number, { zone, ambiguous, nonexistent }: ZoneRules): number {
  const moments = zone.moments(local);
  if (moments.length === 1) return moments[0] as number;
  if (moments.length === 0) {
    if (nonexistent === 'reject') throw new BadValue(`is a local time that ${zone.name} left out`);
    return zone.pastGap(local);
  }
  if (ambiguous === 'reject') throw new BadValue(`is a local time that came twice in ${zone.name}`);
  return moments[ambiguous === 'earlier' ? 0 : moments.length - 1] as number;
}

/** A moment to what the clock of the zone shows. */
export function toLocal(text: string, zone: Zone): string {
  if (isInfinite(text)) return text;
  const civil = parseCivil(text);
  if (civil === null || civil.offset === null) throw new BadValue('is not a timestamp with time zone');
  const utc = civil.seconds - civil.offset;
  return showTimestamp(utc + zone.offsetAt(utc), civil.fraction);
}

/** Every local time that was accepted comes back, except one that was moved out of a gap. */
export const momentInverse = ({ zone, nonexistent }: ZoneRules): Inverse =>
  nonexistent === 'shift' && zone.name !== 'UTC'
    ? {
        reason: `local times that ${zone.name} left out are moved`,
        section: (text) => toLocal(text, zone),
      }
    : { apply: (text) => toLocal(text, zone) };

export function localInverse(zone: Zone): Inverse {
  const back = (text: string): string => toMoment(text, { zone, ambiguous: 'earlier', nonexistent: 'shift' });
  return zone.name === 'UTC'
    ? { apply: back }
    : { reason: `local times that came twice in ${zone.name} cannot be told apart`, section: back };
}

/** `timezone`: a local timestamp or date becomes the moment it was in a zone. */
export const timezone: Operation = {
  options: ['assume', 'on_ambiguous', 'nonexistent'],
  compile(context) {
    const rules = zoneRules(context, 'assume');
    if (rules === null) return null;
    const { input } = context;
    if (input.kind !== 'timestamp' && input.kind !== 'date' && !(input.kind === 'text' && input.derived)) {
      context.problem(`timezone takes a timestamp without time zone, not ${input.type}`, 'op');
      return null;
    }
    return {
      text: `timezone ${rules.zone.name}`,
      apply: (text) => toMoment(text, rules),
      output: derived('timestamptz', input.nullable),
      inverse:
        input.kind === 'timestamp' ? momentInverse(rules) : { reason: 'it was not a timestamp before' },
    };
  },
};

/** `timezone_strip`: a moment becomes what the clock of a zone showed. */
export const timezoneStrip: Operation = {
  options: ['to'],
  compile(context) {
    const rules = zoneRules(context, 'to');
    if (rules === null) return null;
    const { input } = context;
    if (input.kind !== 'timestamptz') {
      context.problem(`timezone_strip takes a timestamp with time zone, not ${input.type}`, 'op');
      return null;
    }
    return {
      text: `timezone_strip ${rules.zone.name}`,
      apply: (text) => toLocal(text, rules.zone),
      output: derived('timestamp', input.nullable),
      inverse: localInverse(rules.zone),
    };
  },
};
