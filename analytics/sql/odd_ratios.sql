-- Vehicles whose DC of the last 24 hours is about a thousandth, or about a thousand times, of the AC of
-- the meter that they were linked to. Pairs with a retired device are left out.
--
-- Parameters: now timestamptz; since timestamptz, how old their snapshot may be; low float8, high float8: percent, the
-- bounds of the ratio, both divided and multiplied by a thousand.
--
-- Leans on the primary keys.
SELECT
    day.vehicle_id,
    day.meter_id,
    day.energy_ac_kwh,
    day.energy_dc_kwh,
    day.efficiency_percent,
    vehicle.scale AS vehicle_scale,
    meter.scale AS meter_scale
FROM analytics_vehicleday AS day
INNER JOIN fleet_vehicle AS vehicle ON vehicle.vehicle_id = day.vehicle_id
INNER JOIN fleet_meter AS meter ON meter.meter_id = day.meter_id
WHERE
    day.ends_at >= %(since)s::timestamptz
    AND (vehicle.retired_at IS NULL OR vehicle.retired_at > %(now)s::timestamptz)
    AND (meter.retired_at IS NULL OR meter.retired_at > %(now)s::timestamptz)
    AND day.ac_source IN ('linked', 'shared')
    AND day.energy_dc_kwh > 0
    AND day.energy_ac_kwh > 0
    AND (
        day.energy_dc_kwh / day.energy_ac_kwh
        BETWEEN %(low)s::float8 / 100000 AND %(high)s::float8 / 100000
        OR day.energy_dc_kwh / day.energy_ac_kwh
        BETWEEN %(low)s::float8 * 10 AND %(high)s::float8 * 10
    )
ORDER BY day.vehicle_id
