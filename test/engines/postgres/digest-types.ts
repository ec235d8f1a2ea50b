/** A table `t` of most built-in types, with some 300 rows and the values that like to be printed differently. */
export const MANY_TYPES = `
  CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN cents AS numeric(12, 2);
  CREATE TABLE t (id bigint PRIMARY KEY, s smallint, n numeric, c cents, f4 real, f8 double precision, b boolean, t text, v varchar(20), ch char(5),
    na name, by bytea, d date, ti time, tz timetz, ts timestamp, tstz timestamptz, iv interval, u uuid, j json, jb jsonb, a int[], ta text[], m mood, p pair,
    r int4range, mr nummultirange, ip inet, ci cidr, mac macaddr, bi bit(5), vb varbit, mo money, po point, bo box, tv tsvector, tq tsquery, lsn pg_lsn, x xml);
  INSERT INTO t SELECT i, i, i / 7.0, i / 3.0, i / 7.0, i / 9.0, i % 2 = 0, 'text, "' || i || E'" \\\\ \\t\\n(é)', 'v' || i, 'c', 'n' || i, decode(md5(i::text), 'hex'),
    '2000-01-01'::date + i * 1000, '10:11:12.5', '10:11:12+02', '2000-01-01'::timestamp + i * interval '1 s 1 us', '2000-01-01'::timestamptz - i * interval '1000 days',
    i * interval '1 day 3:04', md5(i::text)::uuid, '{"b": 1, "a": 1.0}', '{"b": 1, "a": 1.00}', ARRAY[i, NULL], ARRAY['a,b', '', NULL, 'NULL'], 'ok', ROW(i, '')::pair, int4range(i, i + 5),
    nummultirange(numrange(i, i + 1.5)), '10.0.0.1/24', '10.0.0.0/8', '08:00:2b:01:02:03', B'10101', B'101', 12.34, '(1.5,2)', '((1,2),(3,4))', 'a fat cat', 'fat & cat', '16/B374D848', '<a/>'
    FROM generate_series(1, 300) i;
  INSERT INTO t (id, n, f8, d, ts, t) VALUES (1001, 'NaN', '-Infinity', 'infinity', '0044-03-15 BC', ''), (1002, NULL, '-0', NULL, '-infinity', NULL)`;
