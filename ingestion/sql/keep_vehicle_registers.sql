-- Keep what each vehicle said last in a partition that goes: where a counter's next step starts from.
--
-- {table} is put in by `ingestion.history.retention`.
--
-- Leans on the primary key of the partition, read backwards.
INSERT INTO ingestion_vehicleregister (vehicle_id, measured_at, energy_dc_kwh)
SELECT DISTINCT ON (vehicle_id)
    vehicle_id,
    measured_at,
    energy_dc_kwh
FROM {table}
ORDER BY vehicle_id DESC, measured_at DESC, received_at DESC, id DESC
ON CONFLICT (vehicle_id, measured_at) DO UPDATE SET energy_dc_kwh = EXCLUDED.energy_dc_kwh
