import { VerdigrisError } from '../../core/errors.ts';

export type Side = 'blue' | 'green';
export type State = 'open' | 'paused';

/** What a template is rendered for. */
export interface Setting {
  readonly side: Side;
  readonly state: State;
}

export const SETTINGS: readonly Setting[] = [
  { side: 'blue', state: 'open' },
  { side: 'blue', state: 'paused' },
  { side: 'green', state: 'open' },
  { side: 'green', state: 'paused' },
];

export const showSetting = ({ side, state }: Setting): string => `${side} ${state}`;

const KEPT_FOR = /^(?:blue|green|open|paused)$/;
/** `{{#open}}…{{/open}}`, with the rest of its line when it stands alone on it. */
const SECTION = /(?:^[ \t]*)?\{\{#(\w+)\}\}(?:[ \t]*\n)?([\s\S]*?)(?:^[ \t]*)?\{\{\/\1\}\}(?:[ \t]*\n)?/gm;
const PLACEHOLDER = /\{\{([^{}\n]*)\}\}/g;

/**
 * `{{name}}` becomes the value of that name on this side; `{{side}}` and `{{state}}` are always there; what stands between
 * `{{#paused}}` and `{{/paused}}` (or open, blue, green) is kept only then. Values are not read again.
 * @throws VerdigrisError PROXY_UNEXPECTED for a name without a value and a section that is not closed
 */
export function render(
  template: string,
  setting: Setting,
  values: Readonly<Record<string, string | number>>,
): string {
  const kept = template.replaceAll(SECTION, (_whole, name: string, inside: string) => {
    if (!KEPT_FOR.test(name)) throw unknown(`section ${name}`);
    return name === setting.side || name === setting.state ? inside : '';
  });
  return kept.replaceAll(PLACEHOLDER, (_whole, name: string) => {
    if (name === 'side' || name === 'state') return setting[name];
    const value = Object.hasOwn(values, name) ? values[name] : undefined;
    if (value === undefined) throw unknown(JSON.stringify(name.slice(0, 40)));
    return String(value);
  });
}

const unknown = (what: string): VerdigrisError =>
  new VerdigrisError('PROXY_UNEXPECTED', `The template names ${what}, which has no meaning.`, {
    remedy:
      'Give it a value on both sides, or correct the template. Sections are open, paused, blue and green.',
  });
