-- Roll up hours of meters from history.
--
-- Parameters: device_ids text[], hours timestamptz[] (one hour each, none twice); first timestamptz
-- and last timestamptz, a window around all of them.
--
-- Leans on the primary key of history, on the partitions between first and last.
INSERT INTO analytics_meterhour (
    meter_id,
    hour,
    energy_register,
    max_power_kw,
    readings,
    suspect_steps,
    energy_ac_kwh,
    first_measured_at,
    first_kwh,
    last_measured_at,
    last_kwh
)
SELECT
    asked.meter_id,
    asked.hour,
    device.energy_register,
    device.max_power_kw,
    counted.readings,
    counted.suspect_steps,
    counted.energy_kwh,
    counted.first_measured_at,
    counted.first_kwh,
    counted.last_measured_at,
    counted.last_kwh
FROM unnest(%(device_ids)b::text[], %(hours)s::timestamptz[]) AS asked (meter_id, hour)
INNER JOIN fleet_meter AS device ON device.meter_id = asked.meter_id
CROSS JOIN LATERAL analytics_meter_span(
    asked.meter_id,
    asked.hour,
    asked.hour + interval '1 hour',
    device.energy_register,
    device.max_power_kw,
    %(first)s::timestamptz,
    %(last)s::timestamptz
) AS counted
WHERE counted.readings > 0
ON CONFLICT (meter_id, hour) DO UPDATE SET
    energy_register = EXCLUDED.energy_register,
    max_power_kw = EXCLUDED.max_power_kw,
    readings = EXCLUDED.readings,
    suspect_steps = EXCLUDED.suspect_steps,
    energy_ac_kwh = EXCLUDED.energy_ac_kwh,
    first_measured_at = EXCLUDED.first_measured_at,
    first_kwh = EXCLUDED.first_kwh,
    last_measured_at = EXCLUDED.last_measured_at,
    last_kwh = EXCLUDED.last_kwh
RETURNING 1
