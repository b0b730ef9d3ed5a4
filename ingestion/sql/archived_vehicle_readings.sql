-- Return every delivery of a partition of vehicle readings, in the fixed order that an import needs:
-- the delivery that counts is the last one with its timestamp.
--
-- `ingestion.history.retention` fills in {table}: a partition of history, attached or detached.
--
-- Uses the primary key of the partition; sorts rows with the same device and timestamp.
SELECT vehicle_id, energy_dc_kwh, soc_percent, battery_temp_celsius, measured_at, received_at
FROM {table}
ORDER BY vehicle_id, measured_at, received_at, id
