import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { render, type Setting } from '../../../src/proxies/template/render.ts';

/** The examples that are not run against their program: what can be told from the text. */

const rendered = async (name: string, side: Setting['side'], state: Setting['state']) => {
  const template = await readFile(new URL(`../../../config/templates/${name}`, import.meta.url), 'utf8');
  const host = side === 'blue' ? '192.0.2.1' : '192.0.2.2';
  return parse(render(template, { side, state }, { host, port: 5432 })) as Record<string, unknown>;
};

describe.each(['blue', 'green'] as const)('%s', (side) => {
  const host = side === 'blue' ? '192.0.2.1' : '192.0.2.2';

  test('envoy: one listener that leads to the cluster of the side; paused: none', async () => {
    expect(await rendered('envoy.yaml', side, 'open')).toMatchObject({
      version_info: `${side}-open`,
      resources: [
        {
          name: `crm-${side}`,
          filter_chains: [{ filters: [{ typed_config: { cluster: `crm-${side}` } }] }],
        },
      ],
    });
    expect(await rendered('envoy.yaml', side, 'paused')).toEqual({
      version_info: `${side}-paused`,
      resources: [],
    });
  });

  test('traefik: a router to the address of the side; paused: to a service nobody listens at', async () => {
    const open = await rendered('traefik.yaml', side, 'open');
    expect(open).toMatchObject({
      tcp: {
        routers: { crm: { rule: 'HostSNI(`*`)', service: 'crm' } },
        services: { crm: { loadBalancer: { servers: [{ address: `${host}:5432` }] } } },
      },
    });
    const paused = (await rendered('traefik.yaml', side, 'paused')) as {
      tcp: { routers: { crm: { service: string } }; services: Record<string, unknown> };
    };
    expect(Object.keys(paused.tcp.services)).toContain(paused.tcp.routers.crm.service);
    expect(paused.tcp.routers.crm.service).toBe('nobody');
  });

  test('kubernetes: the endpoint of the side under the name of the service; paused: none', async () => {
    expect(await rendered('kubernetes.yaml', side, 'open')).toMatchObject({
      kind: 'EndpointSlice',
      metadata: {
        labels: { 'kubernetes.io/service-name': 'crm-db' },
        annotations: { verdigris: `${side} open` },
      },
      addressType: 'IPv4',
      ports: [{ port: 5432 }],
      endpoints: [{ addresses: [host] }],
    });
    expect(await rendered('kubernetes.yaml', side, 'paused')).toMatchObject({
      metadata: { annotations: { verdigris: `${side} paused` } },
      endpoints: [],
    });
  });
});
