-- Every delivery of a partition of meter readings, in a fixed order, in which an import has to take them:
-- of one timestamp, the delivery that counts comes last.
--
-- {table} is put in by `ingestion.history.retention`: a partition of history, or one that was detached.
--
-- Leans on the primary key of the partition; sorts what has the same device and timestamp.
SELECT meter_id, energy_ac_kwh, voltage_v, measured_at, received_at
FROM {table}
ORDER BY meter_id, measured_at, received_at, id
