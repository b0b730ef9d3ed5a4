-- Return the disk usage of each table of history, and PostgreSQL's estimate of its rows. One row per
-- table.
--
-- Parameters: tables text[], names of partitioned tables.
--
-- Reads only the catalog, and no row of history.
SELECT
    history.name,
    sum(pg_total_relation_size(partition.oid))::bigint AS bytes,
    sum(greatest(partition.reltuples, 0))::bigint AS estimated_rows
FROM unnest(%(tables)s::text []) AS history (name)
CROSS JOIN LATERAL pg_partition_tree(history.name::regclass) AS tree
INNER JOIN pg_class AS partition ON tree.relid = partition.oid AND tree.isleaf
GROUP BY history.name
