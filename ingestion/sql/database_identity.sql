-- Return a text that is the same as long as the same commits are in the database: another cluster,
-- database, or line of history after a recovery has another.
--
-- No parameters; reads the control file and the catalog.
SELECT
    concat_ws(
        '/',
        system.system_identifier,
        checkpoint.timeline_id,
        (SELECT oid FROM pg_database WHERE datname = current_database())
    ) AS identity
FROM pg_control_system() AS system, pg_control_checkpoint() AS checkpoint
