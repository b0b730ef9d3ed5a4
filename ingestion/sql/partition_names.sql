-- The names of a table's partitions; none where there is no such table.
--
-- table   text   name of the partitioned table
--
-- Leans on pg_inherits' index by parent.
SELECT partition.relname AS name
FROM pg_inherits
JOIN pg_class AS partition ON partition.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = to_regclass(%(table)s)
