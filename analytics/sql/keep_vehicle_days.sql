-- Store the last 24 hours of some vehicles, replacing what was stored of them.
--
-- Parameters: an array for each column of analytics_vehicleday, all of the same length.
--
-- Leans on the primary key of analytics_vehicleday.
INSERT INTO analytics_vehicleday (
    vehicle_id,
    ends_at,
    energy_ac_kwh,
    energy_dc_kwh,
    efficiency_percent,
    battery_temp_celsius,
    vehicle_coverage,
    meter_coverage,
    vehicle_readings,
    meter_readings,
    suspect_steps,
    ac_source,
    health,
    reason,
    meter_id,
    loss_cost,
    loss_currency,
    loss_unpriced_kwh
)
SELECT *
FROM unnest(
    %(vehicle_id)s::text[],
    %(ends_at)s::timestamptz[],
    %(energy_ac_kwh)s::float8[],
    %(energy_dc_kwh)s::float8[],
    %(efficiency_percent)s::float8[],
    %(battery_temp_celsius)s::float8[],
    %(vehicle_coverage)s::float8[],
    %(meter_coverage)s::float8[],
    %(vehicle_readings)s::integer[],
    %(meter_readings)s::integer[],
    %(suspect_steps)s::integer[],
    %(ac_source)s::text[],
    %(health)s::text[],
    %(reason)s::text[],
    %(meter_id)s::text[],
    %(loss_cost)s::numeric[],
    %(loss_currency)s::text[],
    %(loss_unpriced_kwh)s::float8[]
)
ON CONFLICT (vehicle_id) DO UPDATE SET
    ends_at = EXCLUDED.ends_at,
    energy_ac_kwh = EXCLUDED.energy_ac_kwh,
    energy_dc_kwh = EXCLUDED.energy_dc_kwh,
    efficiency_percent = EXCLUDED.efficiency_percent,
    battery_temp_celsius = EXCLUDED.battery_temp_celsius,
    vehicle_coverage = EXCLUDED.vehicle_coverage,
    meter_coverage = EXCLUDED.meter_coverage,
    vehicle_readings = EXCLUDED.vehicle_readings,
    meter_readings = EXCLUDED.meter_readings,
    suspect_steps = EXCLUDED.suspect_steps,
    ac_source = EXCLUDED.ac_source,
    health = EXCLUDED.health,
    reason = EXCLUDED.reason,
    meter_id = EXCLUDED.meter_id,
    loss_cost = EXCLUDED.loss_cost,
    loss_currency = EXCLUDED.loss_currency,
    loss_unpriced_kwh = EXCLUDED.loss_unpriced_kwh
RETURNING 1
