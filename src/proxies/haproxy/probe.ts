import { access, constants } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ProxyReport } from '../../core/proxy.ts';
import type { HaproxyConfig } from './config.ts';
import type { RuntimeApi } from './runtime.ts';
import { find, parseServersState, parseStat, routeOf } from './shown.ts';

type Finding = ProxyReport['findings'][number];

interface ProbeInput {
  readonly name: string;
  readonly config: HaproxyConfig;
  readonly api: RuntimeApi;
  readonly signal: AbortSignal;
}

const block = (text: string, remedy: string): Finding => ({ level: 'block', text, remedy });
const warn = (text: string, remedy: string): Finding => ({ level: 'warn', text, remedy });

/** Reads version, level, servers and counters. @throws VerdigrisError PROXY_UNREACHABLE, PROXY_TIMEOUT */
export async function probeHaproxy({ name, config, api, signal }: ProbeInput): Promise<ProxyReport> {
  const info = await api.ask('show info', signal);
  const fact = (key: string): string | undefined => new RegExp(`^${key}: (.*)$`, 'm').exec(info)?.[1];
  const level = (await api.ask('show cli level', signal)).trim();
  const findings: Finding[] = [];
  if (level !== 'admin') {
    findings.push(
      block(
        `the stats socket has level ${level.slice(0, 20)}`,
        'Write `level admin` on its `stats socket` line.',
      ),
    );
  }
  if (fact('Stopping') === '1') {
    findings.push(block('this process is stopping', 'Name the socket of the process that took over.'));
  }
  findings.push(...(await serverFindings(config, api, signal)), ...(await stateFileFindings(config)));
  return {
    name,
    version: fact('Version') ?? 'unknown version',
    ...(config.holds_for_ms === undefined ? {} : { holdsForMs: config.holds_for_ms }),
    findings,
  };
}

async function serverFindings(
  config: HaproxyConfig,
  api: RuntimeApi,
  signal: AbortSignal,
): Promise<Finding[]> {
  const servers = parseServersState(await api.ask('show servers state', signal));
  const counts = parseStat(await api.ask('show stat', signal));
  const findings: Finding[] = [];
  for (const backend of config.backends) {
    const rows = counts.filter((count) => count.backend === backend);
    if (!rows.some((row) => row.name === 'BACKEND')) {
      findings.push(block(`HAProxy has no backend ${backend}`, 'Correct the name.'));
      continue;
    }
    const roles = [
      [config.blue.server, true],
      [config.green.server, true],
      [config.hold, false],
    ] as const;
    for (const [name, backup] of roles) {
      const row = rows.find((candidate) => candidate.name === name);
      if (row === undefined) {
        findings.push(
          block(`backend ${backend} has no server ${name}`, 'Add its line, then reload HAProxy.'),
        );
      } else if (row.backup !== backup) {
        findings.push(
          block(
            `server ${backend}/${name} is ${backup ? 'not ' : ''}a backup server`,
            'Blue and green are `backup`, the server that holds is not: only so it takes every new connection while it is ready.',
          ),
        );
      }
    }
    const others = rows.filter(
      (row) =>
        row.name !== 'BACKEND' && row.name !== 'FRONTEND' && !roles.some(([name]) => name === row.name),
    );
    if (others.length > 0) {
      findings.push(
        block(
          `backend ${backend} has more servers: ${others.map((row) => row.name).join(', ')}`,
          'They would take connections that nobody switches; take them out.',
        ),
      );
    }
    if (find(servers, backend, config.hold)?.enabled === true) {
      findings.push(
        block(
          `backend ${backend} holds its connections already`,
          `Find out who did it; \`set server ${backend}/${config.hold} state maint\` lets them go.`,
        ),
      );
    }
    for (const { server } of [config.blue, config.green]) {
      const shown = find(servers, backend, server);
      if (shown?.enabled === true && !shown.running)
        findings.push(block(`server ${backend}/${server} is down`, 'Look at its health check.'));
    }
  }
  const route = routeOf(servers, config);
  if (route.to === 'mixed' || route.to === 'unknown') {
    findings.push(
      block(
        `HAProxy shows ${route.detail}`,
        'Exactly one of blue and green is ready, in every backend, at its address.',
      ),
    );
  }
  return findings;
}

async function stateFileFindings({ state_file }: HaproxyConfig): Promise<Finding[]> {
  if (state_file === undefined) {
    return [
      warn(
        'a reload or restart of HAProxy after the switch goes back to what its file says',
        'Set `server-state-file` and `load-server-state-from-file global`, and name that file as state_file; or change the file right after the switch.',
      ),
    ];
  }
  try {
    await access(dirname(state_file), constants.W_OK | constants.X_OK);
    return [];
  } catch {
    return [
      block(
        `the directory of the server state file ${state_file} is not writable`,
        'Run where HAProxy runs, as a user that may write there.',
      ),
    ];
  }
}
