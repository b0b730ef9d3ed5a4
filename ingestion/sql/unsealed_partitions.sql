-- Return the partitions that ended before an instant and are not sealed yet, oldest first. A sealed
-- one has an explicit fillfactor, which is the mark, although its value is the default.
--
-- Parameters: tables text[], the partitioned tables; over_before timestamptz.
--
-- Uses the catalog.
SELECT
    partition.relname AS table_name,
    index.relname AS index_name,
    -- Left over from an interrupted rebuild of the index.
    array(
        SELECT unfinished.indexrelid::regclass::text
        FROM pg_index AS unfinished
        WHERE unfinished.indrelid = partition.oid AND NOT unfinished.indisvalid
    ) AS unfinished_indexes,
    bound.ends_at
FROM pg_inherits AS inherited
INNER JOIN pg_class AS partition ON partition.oid = inherited.inhrelid
INNER JOIN pg_index AS key ON key.indrelid = partition.oid AND key.indisprimary
INNER JOIN pg_class AS index ON index.oid = key.indexrelid
CROSS JOIN LATERAL (
    SELECT
        substring(
            pg_get_expr(partition.relpartbound, partition.oid) FROM 'TO \(''([^'']+)''\)'
        )::timestamptz AS ends_at
) AS bound
WHERE
    inherited.inhparent = ANY(%(tables)s::text[]::regclass[])
    AND bound.ends_at < %(over_before)s::timestamptz
    AND NOT 'fillfactor=100' = ANY(coalesce(partition.reloptions, '{}'))
ORDER BY bound.ends_at, partition.relname
