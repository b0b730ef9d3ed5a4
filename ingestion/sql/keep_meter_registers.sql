-- Keep each meter's last reading in a partition that will be dropped: a counter's next step starts
-- from it.
--
-- `ingestion.history.retention` fills in {table}.
--
-- Uses the primary key of the partition, read backwards.
INSERT INTO ingestion_meterregister (meter_id, measured_at, energy_ac_kwh)
SELECT DISTINCT ON (meter_id)
    meter_id,
    measured_at,
    energy_ac_kwh
FROM {table}
ORDER BY meter_id DESC, measured_at DESC, received_at DESC, id DESC
ON CONFLICT (meter_id, measured_at) DO UPDATE SET energy_ac_kwh = EXCLUDED.energy_ac_kwh
