import { asVerdigrisError } from '../../core/errors.ts';
import type { ProxyReport } from '../../core/proxy.ts';
import { askWhatRuns, runConfigured } from './answer.ts';
import type { TemplateConfig } from './config.ts';
import { readText, whyNotReplaceable } from './file.ts';
import { render, SETTINGS, showSetting } from './render.ts';

type Finding = ProxyReport['findings'][number];

interface ProbeInput {
  readonly name: string;
  readonly config: TemplateConfig;
  readonly signal: AbortSignal;
}

const block = (text: string, remedy: string): Finding => ({ level: 'block', text, remedy });

/** Reads template and file and asks what runs. Reloads nothing. */
export async function probeTemplate(input: ProbeInput): Promise<ProxyReport> {
  const { name, config } = input;
  const findings: Finding[] = [];
  const why = await whyNotReplaceable(config.file);
  if (why !== null) {
    findings.push(
      block(
        `the file ${config.file} cannot be replaced: ${why}`,
        'Run as its owner or as root; write it once by hand.',
      ),
    );
  }
  try {
    findings.push(...(await agreement(input)));
  } catch (caught) {
    const { message, remedy } = asVerdigrisError(caught);
    findings.push(block(message, remedy));
  }
  if ('after_ms' in config.drained) {
    findings.push({
      level: 'warn',
      text: `nothing proves that old connections are gone: after ${config.drained.after_ms} ms it is believed`,
      remedy: 'Give a command as `drained`. The write fence of the database holds either way.',
    });
  }
  return { name, version: await version(input), findings };
}

async function agreement({ name, config, signal }: ProbeInput): Promise<Finding[]> {
  const template = await readText(config.template);
  const rendered = SETTINGS.map((one) => render(template, one, config[one.side]));
  if (new Set(rendered).size !== rendered.length) {
    return [
      block(
        `the template ${config.template} gives the same text for two of: ${SETTINGS.map(showSetting).join(', ')}`,
        'Let it differ, if only by {{side}} and {{state}} in a comment: else nobody can tell what was wanted.',
      ),
    ];
  }
  const text = await readText(config.file);
  const wanted = SETTINGS[rendered.indexOf(text)];
  if (wanted === undefined) {
    return [
      block(
        `the file ${config.file} is not what the template gives for any side`,
        'Make the template give exactly the file that is used today, then try again.',
      ),
    ];
  }
  const findings: Finding[] = [];
  if (wanted.state === 'paused')
    findings.push(
      block('it is paused already', 'Find out who paused it; the file and its template say how to open it.'),
    );
  const runs = await askWhatRuns({ name, config, setting: wanted, signal });
  if (runs === null || runs.state !== wanted.state || (runs.side ?? wanted.side) !== wanted.side) {
    const said = runs === null ? 'nothing that is understood' : `${runs.side ?? ''} ${runs.state}`.trim();
    findings.push(
      block(
        `the file says ${showSetting(wanted)}, what runs says ${said}`,
        'Reload the program, or correct `verify`.',
      ),
    );
  }
  return findings;
}

async function version({ name, config, signal }: ProbeInput): Promise<string> {
  const setting = { side: 'blue', state: 'open' } as const;
  if (config.version === undefined) return 'not asked for';
  const result = await runConfigured('version', config.version, { name, config, setting, signal });
  const line = `${result.stdout}\n${result.stderr}`.trim().split('\n', 1)[0]?.trim().slice(0, 100) ?? '';
  return result.exitCode === 0 && line !== '' ? line : 'unknown version';
}
