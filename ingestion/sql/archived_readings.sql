-- Return every delivery of a partition of readings, in the fixed order that an import needs:
-- the delivery that counts is the last one with its timestamp.
--
-- `ingestion.history.deliveries` fills in the identifiers in braces. The table is a partition of
-- history, attached or detached.
--
-- Uses the primary key of the partition; sorts rows with the same device and timestamp.
SELECT {columns}
FROM {table}
ORDER BY {device_id}, measured_at, received_at, id
