import type { MongoClient } from 'mongodb';
import type { ReadinessReader } from '../../core/readiness.ts';
import { showTable, type TableName } from '../../core/table.ts';
import { currentOperations } from './current-op.ts';
import { translate, type Where } from './errors.ts';

/** Index builds in progress. An index is valid or not there; there are no constraints and no statistics. */
export const createReadiness = (client: MongoClient, where: Where): ReadinessReader => ({
  async read(tables: readonly TableName[]) {
    try {
      const building = await currentOperations(
        client,
        { allUsers: true },
        {
          $or: [{ 'command.createIndexes': { $exists: true } }, { msg: /^Index Build/ }],
        },
      );
      const names = new Set(building.map((one) => String(one['ns'] ?? '')));
      const busy = tables.filter(({ schema, name }) => names.has(`${schema}.${name}`));
      return {
        ddlInProgress: busy.map((table) => `an index of ${showTable(table)} is being built`),
        invalidIndexes: [],
        unvalidatedConstraints: [],
        tablesWithoutStatistics: [],
      };
    } catch (error) {
      throw translate(error, where);
    }
  },
});
