-- Keep each vehicle's last reading in a partition that will be dropped: a counter's next step starts
-- from it.
--
-- `ingestion.history.retention` fills in {table}.
--
-- Uses the primary key of the partition, read backwards.
INSERT INTO ingestion_vehicleregister (vehicle_id, measured_at, energy_dc_kwh)
SELECT DISTINCT ON (vehicle_id)
    vehicle_id,
    measured_at,
    energy_dc_kwh
FROM {table}
ORDER BY vehicle_id DESC, measured_at DESC, received_at DESC, id DESC
ON CONFLICT (vehicle_id, measured_at) DO UPDATE SET energy_dc_kwh = EXCLUDED.energy_dc_kwh
