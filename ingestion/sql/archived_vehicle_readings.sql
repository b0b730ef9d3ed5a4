-- Every delivery of a partition of vehicle readings, in a fixed order, in which an import has to take them:
-- of one timestamp, the delivery that counts comes last.
--
-- {table} is put in by `ingestion.history.retention`: a partition of history, or one that was detached.
--
-- Leans on the primary key of the partition; sorts what has the same device and timestamp.
SELECT vehicle_id, energy_dc_kwh, soc_percent, battery_temp_celsius, measured_at, received_at
FROM {table}
ORDER BY vehicle_id, measured_at, received_at, id
