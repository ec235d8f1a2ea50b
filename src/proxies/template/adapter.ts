import { setTimeout as sleep } from 'node:timers/promises';
import { VerdigrisError } from '../../core/errors.ts';
import type { Failpoints } from '../../core/failpoint.ts';
import type { Logger } from '../../core/log.ts';
import type { ProxyAdapter, ProxyPromise, ProxyReport, Route } from '../../core/proxy.ts';
import { askWhatRuns, endOf, runConfigured, type Answer, type Surroundings } from './answer.ts';
import { queryAsClient } from './client.ts';
import type { TemplateConfig } from './config.ts';
import { readText, replaceFile } from './file.ts';
import { probeTemplate } from './probe.ts';
import { render, SETTINGS, showSetting, type Setting } from './render.ts';

/** Between two questions; each may cost a process. */
const LOOK_MS = 25;
const TAKE_BACK_MS = 10_000;

/**
 * Any program that reads a file and can be told to read it again. The file says what is wanted, the probe says what runs; a
 * route counts only when both agree.
 */
export class TemplateProxy implements ProxyAdapter {
  readonly name: string;
  readonly promise: ProxyPromise;
  readonly query?: (sql: string, signal: AbortSignal) => Promise<string | null>;
  readonly #config: TemplateConfig;
  readonly #log: Logger;
  readonly #failpoints: Failpoints;

  constructor(config: TemplateConfig, env: { readonly log: Logger; readonly failpoints: Failpoints }) {
    this.#config = config;
    const url = config.client_url;
    if (url !== undefined) this.query = (sql, signal) => queryAsClient(url, sql, signal);
    this.name = `template ${config.name ?? config.file}`;
    this.promise = {
      holdsStatements: config.promise.holds_statements,
      keepsConnections: config.promise.keeps_connections,
      holdsConnections: config.promise.holds_connections,
    };
    this.#log = env.log.child({ proxy: this.name });
    this.#failpoints = env.failpoints;
  }

  probe(signal: AbortSignal): Promise<ProxyReport> {
    return probeTemplate({ name: this.name, config: this.#config, signal });
  }

  async observe(signal: AbortSignal): Promise<Route> {
    const { wanted } = await this.#file();
    const runs = await this.#runs(wanted ?? { side: 'blue', state: 'open' }, signal);
    const paused = (runs ?? wanted)?.state === 'paused';
    if (wanted === null)
      return {
        to: 'unknown',
        paused,
        detail: `${this.#config.file} is not what the template gives for any side`,
      };
    if (runs === null)
      return { to: 'unknown', paused, detail: 'what runs gives no answer that is understood' };
    const side = runs.side ?? wanted.side;
    const detail = `the file says ${showSetting(wanted)}, what runs says ${showSetting({ ...runs, side })}`;
    if (side !== wanted.side) return { to: 'mixed', paused, detail };
    if (runs.state !== wanted.state) return { to: 'unknown', paused, detail };
    return { to: side, paused };
  }

  /** Rejecting after the drain began leaves it paused. */
  async pause(signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.template.pause');
    const paused: Setting = { side: (await this.#known()).side, state: 'paused' };
    await this.#apply(paused, signal);
    await this.#drained(paused, signal);
    this.#log.info({}, 'paused and drained');
  }

  async route(side: 'blue' | 'green', epoch: number, signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.template.route');
    const before = await this.#known();
    const after: Setting = { ...before, side };
    const changed = await this.#apply(after, signal);
    // Paused: the pause has shown that nobody is left; but something of the file before may still take connections.
    if (changed && (before.state === 'open' || this.#hasProof)) await this.#drained(after, signal);
    this.#log.info({ side, epoch }, 'routed');
  }

  async resume(signal: AbortSignal): Promise<void> {
    await this.#failpoints.hit('proxy.template.resume');
    const open: Setting = { side: (await this.#known()).side, state: 'open' };
    if ((await this.#apply(open, signal)) && this.#hasProof) await this.#drained(open, signal);
    this.#log.info({}, 'resumed');
  }

  async waiting(): Promise<number | null> {
    return null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Programs end with the call that started them.
  }

  /** The file, and what it was rendered for; null when it is nothing that the template gives. */
  async #file(): Promise<{ readonly text: string; readonly wanted: Setting | null }> {
    const text = await readText(this.#config.file);
    const template = await readText(this.#config.template);
    const wanted = SETTINGS.find((one) => render(template, one, this.#config[one.side]) === text) ?? null;
    return { text, wanted };
  }

  async #known(): Promise<Setting> {
    const { wanted } = await this.#file();
    if (wanted !== null) return wanted;
    throw new VerdigrisError(
      'PROXY_UNEXPECTED',
      `${this.name}: ${this.#config.file} is not what the template gives for any side.`,
      {
        remedy: 'Somebody edited it, or the template or a value changed: make file and template agree first.',
      },
    );
  }

  #around(setting: Setting, signal: AbortSignal): Surroundings {
    return { name: this.name, config: this.#config, setting, signal };
  }

  #runs(setting: Setting, signal: AbortSignal): Promise<Answer | null> {
    return askWhatRuns(this.#around(setting, signal));
  }

  /**
   * Writes the file, has it read, and waits until what runs says so; when that fails the file before is put back. False:
   * there was nothing to do.
   */
  async #apply(setting: Setting, signal: AbortSignal): Promise<boolean> {
    const { text: before } = await this.#file();
    const text = render(await readText(this.#config.template), setting, this.#config[setting.side]);
    // Nothing to do only when what runs says so too: a reload may have failed the last time.
    if (text === before && this.#agrees(await this.#runs(setting, signal).catch(() => null), setting))
      return false;
    if (text !== before) await replaceFile(this.#config.file, text);
    try {
      await this.#failpoints.hit('proxy.template.reload');
      await this.#reload(setting, signal);
      await this.#confirmed(setting, signal);
    } catch (error) {
      if (text !== before) await this.#takeBack(before);
      throw error;
    }
    return true;
  }

  get #hasProof(): boolean {
    return !('after_ms' in this.#config.drained);
  }

  async #reload(setting: Setting, signal: AbortSignal): Promise<void> {
    const { reload } = this.#config;
    const result = await runConfigured('reload', reload, this.#around(setting, signal));
    if (result.exitCode === 0) return;
    throw new VerdigrisError('PROXY_UNEXPECTED', `${this.name}: reload ${endOf(reload, result)}.`, {
      remedy: reload.show_output
        ? 'Run the command by hand.'
        : 'Run the command by hand, or set show_output when its output holds no secret.',
    });
  }

  #agrees(answer: Answer | null, { side, state }: Setting): boolean {
    return answer !== null && answer.state === state && (answer.side ?? side) === side;
  }

  async #confirmed(setting: Setting, signal: AbortSignal): Promise<void> {
    const until = performance.now() + this.#config.verify_within_ms;
    for (;;) {
      let last: VerdigrisError;
      try {
        const answer = await this.#runs(setting, signal);
        if (this.#agrees(answer, setting)) return;
        const said = answer ? `${answer.side ?? ''} ${answer.state}`.trim() : 'nothing that is understood';
        last = new VerdigrisError(
          'PROXY_UNEXPECTED',
          `${this.name}: after the reload what runs says ${said}, not ${showSetting(setting)}.`,
        );
      } catch (error) {
        // Around its reload a program may not answer for a moment.
        if (!(error instanceof VerdigrisError) || signal.aborted) throw error;
        last = error;
      }
      if (performance.now() >= until) throw last;
      await this.#look(signal, `what runs does not say ${showSetting(setting)}`);
    }
  }

  async #takeBack(before: string): Promise<void> {
    const { file } = this.#config;
    try {
      await replaceFile(file, before);
      const { wanted } = await this.#file();
      await this.#reload(wanted ?? { side: 'blue', state: 'open' }, AbortSignal.timeout(TAKE_BACK_MS));
      this.#log.warn({ file }, 'the file was put back');
    } catch (error) {
      this.#log.error({ file, error: (error as Error).message }, 'the file could not be put back');
    }
  }

  async #drained(setting: Setting, signal: AbortSignal): Promise<void> {
    const { drained } = this.#config;
    if ('after_ms' in drained) {
      await sleep(drained.after_ms, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) throw this.#late(signal, 'old connections have not had their time yet');
      return;
    }
    for (;;) {
      const result = await runConfigured('drained', drained, this.#around(setting, signal));
      if (result.exitCode === 0) return;
      if (result.exitCode !== 1)
        throw new VerdigrisError('PROXY_UNEXPECTED', `${this.name}: drained ${endOf(drained, result)}.`);
      await this.#look(signal, 'old connections are still open');
    }
  }

  async #look(signal: AbortSignal, what: string): Promise<void> {
    await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) throw this.#late(signal, what);
  }

  #late(signal: AbortSignal, what: string): VerdigrisError {
    return new VerdigrisError('PROXY_TIMEOUT', `${this.name}: ${what}.`, { cause: signal.reason });
  }
}
