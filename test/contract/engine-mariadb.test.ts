import { afterAll, beforeAll } from 'vitest';
import { mysqlHarness } from '../support/mysql-harness.ts';
import { registerEngineContract } from './engine/register.ts';

const harness = mysqlHarness('mariadb');
beforeAll(() => harness.start(), 300_000);
afterAll(() => harness[Symbol.asyncDispose](), 60_000);
registerEngineContract(harness);
