-- Return a text that stays the same as long as the database has the same commits: it differs for
-- another cluster, another database, or another timeline after a recovery.
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
