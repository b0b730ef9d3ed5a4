-- Keep what each meter said last in a partition that goes: where a counter's next step starts from.
--
-- {table} is put in by `ingestion.history.retention`.
--
-- Leans on the primary key of the partition, read backwards.
INSERT INTO ingestion_meterregister (meter_id, measured_at, energy_ac_kwh)
SELECT DISTINCT ON (meter_id)
    meter_id,
    measured_at,
    energy_ac_kwh
FROM {table}
ORDER BY meter_id DESC, measured_at DESC, received_at DESC, id DESC
ON CONFLICT (meter_id, measured_at) DO UPDATE SET energy_ac_kwh = EXCLUDED.energy_ac_kwh
