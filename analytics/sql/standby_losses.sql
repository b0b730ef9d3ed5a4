-- Vehicles that took no DC in the last 24 hours while their meter drew AC, and those with a fault for it,
-- or with one that was closed by hand while its cause lasted. One row each; value is null if nothing is
-- known.
--
-- Parameters: since timestamptz, how old their snapshot may be; opens float8, closes float8, kWh, for
-- vehicles whose site has no thresholds of its own.
--
-- Leans on the primary keys, and on the index fault_watched.
SELECT
    'standby_loss' AS kind,
    vehicle.vehicle_id,
    NULL AS meter_id,
    vehicle.site_id,
    CASE WHEN day.reason = 'not_charging' THEN day.energy_ac_kwh END AS value,
    limits.opens AS threshold,
    coalesce(day.reason = 'not_charging' AND day.energy_ac_kwh >= limits.opens, false) AS is_bad,
    coalesce(
        day.energy_dc_kwh > 0
        -- No AC says so only if the meter has reported.
        OR day.energy_ac_kwh < limits.closes AND day.meter_readings > 0,
        false
    ) AS is_gone,
    fault.id AS fault_id,
    fault.state AS fault_state,
    fault.value AS fault_value,
    fault.recovering_since,
    fault.closed_at
FROM fleet_vehicle AS vehicle
LEFT JOIN analytics_faultthresholds AS own ON own.site_id = vehicle.site_id
CROSS JOIN LATERAL (
    SELECT
        coalesce(own.standby_opens_kwh, %(opens)s::float8) AS opens,
        coalesce(own.standby_closes_kwh, %(closes)s::float8) AS closes
) AS limits
LEFT JOIN analytics_vehicleday AS day
    ON
        day.vehicle_id = vehicle.vehicle_id
        AND day.ends_at >= %(since)s::timestamptz
        -- A share of the fleet's AC says nothing about any of its vehicles.
        AND day.ac_source <> 'fleet'
LEFT JOIN (
    SELECT DISTINCT ON (watched.vehicle_id) watched.*
    FROM analytics_fault AS watched
    WHERE
        watched.kind = 'standby_loss'
        AND (watched.state <> 'closed' OR watched.recovering_since IS NULL)
    ORDER BY watched.vehicle_id, watched.id DESC
) AS fault ON fault.vehicle_id = vehicle.vehicle_id
WHERE
    day.reason = 'not_charging' AND day.energy_ac_kwh >= limits.opens
    OR fault.id IS NOT NULL
