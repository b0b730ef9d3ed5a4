-- Return whether a partition is attached: one row if it is, with whether it is being detached.
--
-- Parameters: parent_name text, table_name text; no row if the table does not exist.
--
-- Uses the catalog.
SELECT inherited.inhdetachpending AS is_pending
FROM pg_inherits AS inherited
WHERE
    inherited.inhparent = to_regclass(%(parent_name)s::text)
    AND inherited.inhrelid = to_regclass(%(table_name)s::text)
