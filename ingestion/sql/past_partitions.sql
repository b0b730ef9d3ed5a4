-- Return the partitions that ended at an instant or before it, oldest first.
--
-- Parameters: tables text[], the partitioned tables; over_before timestamptz.
--
-- Uses the catalog.
SELECT
    parent.relname AS parent_name,
    partition.relname AS table_name,
    bound.starts_at,
    bound.ends_at,
    pg_total_relation_size(partition.oid) AS size_bytes
FROM pg_inherits AS inherited
INNER JOIN pg_class AS partition ON partition.oid = inherited.inhrelid
INNER JOIN pg_class AS parent ON parent.oid = inherited.inhparent
CROSS JOIN LATERAL pg_get_expr(partition.relpartbound, partition.oid) AS expression (bounds)
CROSS JOIN LATERAL (
    SELECT
        substring(bounds FROM 'FROM \(''([^'']+)''\)')::timestamptz AS starts_at,
        substring(bounds FROM 'TO \(''([^'']+)''\)')::timestamptz AS ends_at
) AS bound
WHERE
    inherited.inhparent = ANY(%(tables)s::text[]::regclass[])
    AND bound.ends_at <= %(over_before)s::timestamptz
ORDER BY bound.ends_at, parent.relname
