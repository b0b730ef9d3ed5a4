-- Who receives PostgreSQL's log through a slot: a backup, a replica. One row per slot.
--
-- Parameters: none.
--
-- Leans on no table: PostgreSQL keeps slots in memory.
SELECT
    slot_name AS name,
    active AS is_connected,
    coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint AS kept_bytes
FROM pg_replication_slots
WHERE slot_type = 'physical'
