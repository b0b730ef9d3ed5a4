-- Roll up hours of meters from history.
--
-- Parameters: device_ids text[], hours timestamptz[] (one hour each, none twice); first timestamptz
-- and last timestamptz, a window around all of them; default_max_power_kw float8, for counters without
-- one of their own.
--
-- Leans on the primary key of history, on the partitions between first and last.
INSERT INTO analytics_meterhour (
    meter_id,
    hour,
    energy_register,
    max_power_kw,
    rules,
    readings,
    suspect_steps,
    energy_ac_kwh,
    rises,
    last_rose_at,
    is_plain,
    is_gapless,
    first_measured_at,
    first_kwh,
    last_measured_at,
    last_kwh
)
SELECT
    asked.meter_id,
    asked.hour,
    device.energy_register,
    register.max_power_kw,
    register.rules,
    counted.readings,
    counted.suspect_steps,
    counted.energy_kwh,
    counted.rises,
    counted.last_rose_at,
    counted.is_plain,
    -- Also towards the hours before and after, if these are.
    counted.is_gapless
    AND (
        device.energy_register <> 'interval'
        OR extract(EPOCH FROM counted.first_measured_at - asked.hour) <= register.reach_seconds / 2
        AND extract(EPOCH FROM asked.hour + interval '1 hour' - counted.last_measured_at)
        <= register.reach_seconds / 2
    ),
    counted.first_measured_at,
    counted.first_kwh,
    counted.last_measured_at,
    counted.last_kwh
FROM unnest(%(device_ids)b::text[], %(hours)s::timestamptz[]) AS asked (meter_id, hour)
INNER JOIN fleet_meter AS device ON device.meter_id = asked.meter_id
LEFT JOIN analytics_metercadence AS cadence ON cadence.meter_id = asked.meter_id
CROSS JOIN LATERAL analytics_register(
    device.energy_register,
    device.scale,
    device.max_power_kw,
    device.interval_seconds,
    cadence.cadence_seconds,
    %(default_max_power_kw)s::float8
) AS register
CROSS JOIN LATERAL analytics_meter_span(
    asked.meter_id,
    asked.hour,
    asked.hour + interval '1 hour',
    device.energy_register,
    device.scale,
    register.max_power_kw,
    register.cadence_seconds,
    register.reach_seconds,
    %(first)s::timestamptz,
    %(last)s::timestamptz
) AS counted
WHERE counted.readings > 0
ON CONFLICT (meter_id, hour) DO UPDATE SET
    energy_register = EXCLUDED.energy_register,
    max_power_kw = EXCLUDED.max_power_kw,
    rules = EXCLUDED.rules,
    readings = EXCLUDED.readings,
    suspect_steps = EXCLUDED.suspect_steps,
    energy_ac_kwh = EXCLUDED.energy_ac_kwh,
    rises = EXCLUDED.rises,
    last_rose_at = EXCLUDED.last_rose_at,
    is_plain = EXCLUDED.is_plain,
    is_gapless = EXCLUDED.is_gapless,
    first_measured_at = EXCLUDED.first_measured_at,
    first_kwh = EXCLUDED.first_kwh,
    last_measured_at = EXCLUDED.last_measured_at,
    last_kwh = EXCLUDED.last_kwh
RETURNING 1
