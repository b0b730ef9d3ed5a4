-- Vehicles whose battery is too hot, and those with a fault for it, or with one that was closed by hand
-- while its cause lasted. One row each; value is null if nothing is known.
--
-- Parameters: since timestamptz, how old their newest reading may be; opens float8, closes float8, °C,
-- for vehicles whose site has no thresholds of its own.
--
-- Leans on the primary keys, and on the index fault_watched.
SELECT
    'hot_battery' AS kind,
    vehicle.vehicle_id,
    NULL AS meter_id,
    vehicle.site_id,
    live.battery_temp_celsius AS value,
    limits.opens AS threshold,
    coalesce(live.battery_temp_celsius > limits.opens, false) AS is_bad,
    coalesce(live.battery_temp_celsius < limits.closes, false) AS is_gone,
    fault.id AS fault_id,
    fault.state AS fault_state,
    fault.value AS fault_value,
    fault.recovering_since,
    fault.closed_at
FROM fleet_vehicle AS vehicle
LEFT JOIN analytics_faultthresholds AS own ON own.site_id = vehicle.site_id
CROSS JOIN LATERAL (
    SELECT
        coalesce(own.battery_opens_celsius, %(opens)s::float8) AS opens,
        coalesce(own.battery_closes_celsius, %(closes)s::float8) AS closes
) AS limits
LEFT JOIN fleet_vehiclelivestate AS live
    ON live.vehicle_id = vehicle.vehicle_id AND live.measured_at >= %(since)s::timestamptz
LEFT JOIN (
    SELECT DISTINCT ON (watched.vehicle_id) watched.*
    FROM analytics_fault AS watched
    WHERE
        watched.kind = 'hot_battery'
        AND (watched.state <> 'closed' OR watched.recovering_since IS NULL)
    ORDER BY watched.vehicle_id, watched.id DESC
) AS fault ON fault.vehicle_id = vehicle.vehicle_id
WHERE live.battery_temp_celsius > limits.opens OR fault.id IS NOT NULL
