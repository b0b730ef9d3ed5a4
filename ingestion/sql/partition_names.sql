-- Return the names of a table's partitions; none if there is no such table.
--
-- Parameters: table text, the name of the partitioned table.
--
-- Uses the index of pg_inherits by parent.
SELECT partition.relname AS name
FROM pg_inherits
JOIN pg_class AS partition ON partition.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = to_regclass(%(table)s)
