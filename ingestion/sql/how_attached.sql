-- Whether a partition is part of its table: one row if it is, and whether it is being detached.
--
-- Parameters: parent_name text, table_name text; a table that is not there has no row.
--
-- Leans on the catalog.
SELECT inherited.inhdetachpending AS is_pending
FROM pg_inherits AS inherited
WHERE
    inherited.inhparent = to_regclass(%(parent_name)s::text)
    AND inherited.inhrelid = to_regclass(%(table_name)s::text)
