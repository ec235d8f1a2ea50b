import { expect, test } from 'vitest';
import { statusSchema } from '../../../src/app/envelope.ts';
import { storedStatus } from '../../../src/app/stored.ts';
import { renderCutover, renderVerify } from '../../../src/cli/render-reports.ts';
import { renderPlan } from '../../../src/cli/render-plan.ts';
import { renderStatus, statusLine } from '../../../src/cli/render-status.ts';
import { CUTOVER_REPORT, SHUT_GATE, STATUS, VERIFY_REPORT } from '../http/scripted-engine.ts';

const status = statusSchema.parse(STATUS);

test('status for people', () => {
  expect(renderStatus(status)).toMatchInlineSnapshot(`
    "crm-v2   REPLICATING   running   up 3h 12m   plan hash-in-   active blue
      lag       commit 0.8 s   log 212 kB   round trip 3 ms   last event 0.2 s ago
      copy      100 %   48.2 M of ~48.2 M rows   31.4 GB
      apply     10 transactions   20 changes   1 842/s   queue 0 B   rejects 0   holes 0   retries 3
      log       head 0/9A3F21C8   received 0/9A3F21C8   applied 0/9A3F21C0
      verify    pass   48.2 M rows   0 differences   14m ago
      blue      log held 310 MB of 20 GB   oldest transaction 12 s   reserved
      gates     2/2
    Next: switch when you like -> \`verdigris cutover\`"
  `);
});

test('while it copies, rate and range of what is left', () => {
  const text = renderStatus({
    ...status,
    phase: 'copying',
    copy: {
      rows: 12_000_000,
      totalRows: 48_200_000,
      bytes: 8e9,
      rowsPerSecond: 41_000,
      etaSeconds: [700, 900],
      rangesDone: 240,
      ranges: 964,
      finishing: null,
    },
    gates: [...status.gates, SHUT_GATE],
  });
  expect(text).toContain('24 %   12.0 M of ~48.2 M rows   8 GB   41 000 rows/s   11m 40s to 15m left');
  expect(text).toContain('2/3   waiting: rejects (2 rejected rows)');
});

test('what is not known is said to be unknown, never 0', () => {
  const unknown = { commitSeconds: null, distanceBytes: null, roundTripMs: null, lastEventAgeSeconds: null };
  expect(renderStatus({ ...status, lag: unknown })).toContain(
    'commit unknown   log unknown   round trip unknown   last event unknown',
  );
  expect(statusLine({ ...status, lag: unknown })).toContain(' commit_lag_s= lag_bytes= ');
});

test('the line form has a stable order and one line', () => {
  const line = statusLine({ ...status, reason: 'two\nlines and "quotes"', condition: 'blocked' });
  expect(line.replace(/^ts=\S+/, 'ts=T')).toBe(
    'ts=T migration=crm-v2 phase=replicating condition=blocked commit_lag_s=0.84 lag_bytes=212000 copied_rows=48200000 copied_bytes=31400000000 copied=964/964 rows_s=1842 applied=0/9A3F21C0 rejects=0 gates=2/2 active=blue reason="two\\nlines and \\"quotes\\"" error=',
  );
});

test('a status without an engine has nulls where only an engine knows', () => {
  const stored = statusSchema.parse(storedStatus('crm-v2', null));
  expect(stored).toMatchObject({
    condition: 'blocked',
    reason: 'never started',
    copy: null,
    apply: null,
    next: { command: 'verdigris plan' },
  });
  expect(renderStatus(stored)).toContain('PREPARING   blocked (never started)');
});

test('names from a database cannot move the cursor or colour the terminal', () => {
  const text = renderVerify({
    ...VERIFY_REPORT,
    tables: [
      { table: 'a.\u001b[2Jx\u202e', rows: 1, differences: 0, unsettled: 0, method: 'rows', notCompared: [] },
    ],
  });
  expect(text).not.toMatch(/[\u001b\u202e]/);
  expect(text).toContain('\\u001b[2Jx');
});

test('the steps of a cutover show where the point of no return is', () => {
  expect(renderCutover(CUTOVER_REPORT)).toMatchInlineSnapshot(`
    " 1 ok       pause the proxies                                               12 ms
    -------- point of no return: everything above undoes itself on failure
     2 ok       resume the proxies                                               9 ms
    Switched: green serves. Writers waited 812 ms."
  `);
});

test('plan for people', () => {
  const text = renderPlan(
    {
      hash: '7f3c9a12ffff',
      migration: 'crm-v2',
      blue: 'postgres 16.15',
      green: 'postgres 18.4',
      tables: [
        {
          from: 'public.customers',
          rows: 12_100_000,
          bytes: 3_900_000_000,
          to: [
            {
              table: 'crm.customer',
              kind: 'split',
              columns: [
                { column: 'id', from: ['id'], operation: 'copy', reverse: 'exact', reason: '' },
                {
                  column: 'first_name',
                  from: ['full_name'],
                  operation: 'split',
                  reverse: 'exact',
                  reason: '',
                },
                {
                  column: 'email',
                  from: ['email'],
                  operation: 'trim, lower',
                  reverse: 'lossy',
                  reason: 'case and spaces are gone',
                },
              ],
            },
          ],
        },
      ],
      ignored: ['public.audit_tmp'],
      onBlue: ['create publication verdigris_crm_v2'],
      onGreen: ['create schema verdigris', 'create 2 tables'],
      atCutover: ['pause'],
      wayBack: {
        impossible: [{ table: 'public.orders', column: 'id', why: 'it is in the key' }],
        tables: [
          {
            table: 'public.customers',
            from: ['crm.customer'],
            columns: [
              { column: 'id', way: 'exact', from: ['crm.customer.id'], operation: 'copy', reason: '' },
              { column: 'legacy', way: 'lossy', from: [], operation: 'none', reason: 'it is dropped' },
            ],
          },
        ],
        greenOnly: [{ table: 'crm.customer', column: 'nickname' }],
        fullImages: [{ table: 'crm.customer', why: 'email must not be written unless changed' }],
      },
      warnings: ['one warning'],
      checks: [
        {
          id: 'P10',
          side: 'blue',
          level: 'block',
          outcome: 'finding',
          title: 'wal_level',
          observed: 'replica',
          expected: 'logical',
          remedy: 'set it and restart',
          sql: 'ALTER SYSTEM SET wal_level = logical',
        },
        {
          id: 'P1',
          side: 'blue',
          level: 'block',
          outcome: 'ok',
          title: 'version',
          observed: '16',
          expected: '14 or newer',
          remedy: '',
        },
      ],
    },
    '`verdigris start`',
  );
  expect(text).toMatchInlineSnapshot(`
    "Plan crm-v2   postgres 16.15 (blue) -> postgres 18.4 (green)   hash 7f3c9a12

      Source tables 1   target tables 1   rows ~12.1 M   size 3.9 GB

      public.customers    12.1 M rows    3.9 GB  -> crm.customer   split
        full_name            -> first_name           split          reverse: yes
        email                -> email                trim, lower    ! reverse: no (case and spaces are gone)
      public.audit_tmp  ignored by rule

      On blue I will:  create publication verdigris_crm_v2
      On green I will: create schema verdigris
                       create 2 tables
      At cutover:      pause

      ! no way back: public.orders.id: it is in the key
      Way back:         1 of 2 columns of blue come back as they were written on green
        lossy      public.customers.legacy          it is dropped
        green only crm.customer.nickname            stays on green
        full rows  crm.customer                     will be logged whole: email must not be written unless changed

      Checks
      FAIL P10    blue  wal_level: replica
                  expected: logical
                  set it and restart
                  ALTER SYSTEM SET wal_level = logical

      ! one warning

    Nothing was changed. Next: \`verdigris start\`"
  `);
});
