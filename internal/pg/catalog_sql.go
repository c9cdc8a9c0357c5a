package pg

// EstimateSQL is about how many rows the table $1 has, quoted as SQL takes it, by
// the planner's count: 0 when nobody knows. Autovacuum counts the partitions of a
// partitioned table, and not the table.
const EstimateSQL = `
SELECT pg_catalog.int8(coalesce(pg_catalog.sum(pg_catalog.float8(greatest(c.reltuples, 0))), 0))
FROM pg_catalog.pg_class AS c
WHERE c.relkind <> 'p' AND (c.oid = pg_catalog.to_regclass($1)
  OR c.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) AS t))`

// CatalogSQL returns one JSON document (Table) for each table that exists among
// schemas $1 and names $2, two arrays of equal length. It is one statement, so
// that a target that is only reached over an RPC can answer it too.
const CatalogSQL = `
WITH want AS (
  SELECT c.oid, n.nspname
  FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS w(schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p', 'f', 'v', 'm')
), keys AS (
  SELECT i.indrelid, i.indisprimary, i.indisreplident, i.indimmediate, x.relname,
    (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.n)
     FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k(att, n)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.att
     WHERE k.n <= i.indnkeyatts) AS names
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  WHERE i.indrelid IN (SELECT want.oid FROM want)
    AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
)
SELECT pg_catalog.json_build_object(
  'schema', want.nspname, 'name', c.relname, 'oid', c.oid::pg_catalog.int8,
  'kind', c.relkind, 'persistence', c.relpersistence, 'partition', c.relispartition,
  'inherits', EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = c.oid),
  'children', EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid),
  'ancestors', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object('schema', pn.nspname, 'name', pc.relname))
    FROM pg_catalog.pg_partition_ancestors(c.oid) AS up(relid)
    JOIN pg_catalog.pg_class pc ON pc.oid = up.relid JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace
    WHERE up.relid <> c.oid),
  'identity', c.relreplident,
  'row_security', c.relrowsecurity, 'force_row_security', c.relforcerowsecurity,
  'columns', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', a.attname, 'not_null', a.attnotnull, 'generated', a.attgenerated,
      'identity', a.attidentity, 'default', a.atthasdef AND a.attgenerated = '',
      'fuzzy', EXISTS (SELECT FROM pg_catalog.pg_collation o WHERE o.oid = a.attcollation AND NOT o.collisdeterministic),
      'type', pg_catalog.json_build_object(
        'oid', t.oid::pg_catalog.int8, 'schema', tn.nspname, 'name', t.typname,
        'mod', a.atttypmod, 'display', pg_catalog.format_type(t.oid, a.atttypmod),
        'kind', t.typtype, 'category', t.typcategory,
        'labels', (SELECT pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder)
                   FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid),
        'element', (SELECT pg_catalog.json_build_object(
                      'oid', et.oid::pg_catalog.int8, 'schema', en.nspname, 'name', et.typname, 'mod', a.atttypmod,
                      'display', pg_catalog.format_type(et.oid, a.atttypmod),
                      'kind', et.typtype, 'category', et.typcategory)
                    FROM pg_catalog.pg_type et JOIN pg_catalog.pg_namespace en ON en.oid = et.typnamespace
                    WHERE et.oid = t.typelem AND t.typcategory = 'A'),
        'base', (WITH RECURSIVE d(oid, mod) AS (
                   SELECT t.typbasetype, t.typtypmod WHERE t.typtype = 'd'
                   UNION ALL
                   SELECT u.typbasetype, CASE WHEN d.mod < 0 THEN u.typtypmod ELSE d.mod END
                   FROM d JOIN pg_catalog.pg_type u ON u.oid = d.oid WHERE u.typtype = 'd')
                 SELECT pg_catalog.json_build_object(
                   'oid', bt.oid::pg_catalog.int8, 'schema', bn.nspname, 'name', bt.typname, 'mod', d.mod,
                   'display', pg_catalog.format_type(bt.oid, d.mod), 'kind', bt.typtype, 'category', bt.typcategory,
                   'labels', (SELECT pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder)
                              FROM pg_catalog.pg_enum e WHERE e.enumtypid = bt.oid))
                 FROM d JOIN pg_catalog.pg_type bt ON bt.oid = d.oid
                 JOIN pg_catalog.pg_namespace bn ON bn.oid = bt.typnamespace WHERE bt.typtype <> 'd')
      )) ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'primary_key', (SELECT k.names FROM keys k WHERE k.indrelid = c.oid AND k.indisprimary),
  'identity_columns', (SELECT k.names FROM keys k WHERE k.indrelid = c.oid AND k.indisreplident),
  'uniques', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', k.relname, 'columns', k.names, 'primary', k.indisprimary, 'deferrable', NOT k.indimmediate) ORDER BY k.relname)
    FROM keys k WHERE k.indrelid = c.oid),
  'foreign_keys', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', f.conname, 'column', fa.attname, 'ref_column', ra.attname,
      'ref', pg_catalog.json_build_object('schema', rn.nspname, 'name', rc.relname)) ORDER BY f.conname)
    FROM pg_catalog.pg_constraint f
    JOIN pg_catalog.pg_attribute fa ON fa.attrelid = f.conrelid AND fa.attnum = f.conkey[1]
    JOIN pg_catalog.pg_attribute ra ON ra.attrelid = f.confrelid AND ra.attnum = f.confkey[1]
    JOIN pg_catalog.pg_class rc ON rc.oid = f.confrelid
    JOIN pg_catalog.pg_namespace rn ON rn.oid = rc.relnamespace
    WHERE f.conrelid = c.oid AND f.contype = 'f' AND pg_catalog.array_length(f.conkey, 1) = 1
      -- A key to a partitioned table has a twin for each partition of that.
      AND (f.conparentid = 0 OR EXISTS (
        SELECT FROM pg_catalog.pg_constraint u
        WHERE u.oid = f.conparentid AND u.conrelid <> f.conrelid AND u.confrelid = f.confrelid)))
)::pg_catalog.text
FROM want JOIN pg_catalog.pg_class c ON c.oid = want.oid`
