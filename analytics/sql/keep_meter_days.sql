-- Store the last 24 hours of all meters, replacing what was stored of them.
--
-- Parameters: an array for each column of analytics_meterday, all of the same length.
--
-- Leans on the primary key of analytics_meterday.
INSERT INTO analytics_meterday (
    meter_id,
    ends_at,
    energy_ac_kwh,
    linked_ac_kwh,
    linked_dc_kwh,
    efficiency_percent,
    coverage,
    readings,
    suspect_steps,
    health,
    reason
)
SELECT *
FROM unnest(
    %(meter_id)s::text[],
    %(ends_at)s::timestamptz[],
    %(energy_ac_kwh)s::float8[],
    %(linked_ac_kwh)s::float8[],
    %(linked_dc_kwh)s::float8[],
    %(efficiency_percent)s::float8[],
    %(coverage)s::float8[],
    %(readings)s::integer[],
    %(suspect_steps)s::integer[],
    %(health)s::text[],
    %(reason)s::text[]
)
ON CONFLICT (meter_id) DO UPDATE SET
    ends_at = EXCLUDED.ends_at,
    energy_ac_kwh = EXCLUDED.energy_ac_kwh,
    linked_ac_kwh = EXCLUDED.linked_ac_kwh,
    linked_dc_kwh = EXCLUDED.linked_dc_kwh,
    efficiency_percent = EXCLUDED.efficiency_percent,
    coverage = EXCLUDED.coverage,
    readings = EXCLUDED.readings,
    suspect_steps = EXCLUDED.suspect_steps,
    health = EXCLUDED.health,
    reason = EXCLUDED.reason
RETURNING 1
