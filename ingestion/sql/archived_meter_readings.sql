-- Return every delivery of a partition of meter readings, in the fixed order that an import needs:
-- the delivery that counts is the last one with its timestamp.
--
-- `ingestion.history.retention` fills in {table}: a partition of history, attached or detached.
--
-- Uses the primary key of the partition; sorts rows with the same device and timestamp.
SELECT meter_id, energy_ac_kwh, voltage_v, measured_at, received_at
FROM {table}
ORDER BY meter_id, measured_at, received_at, id
