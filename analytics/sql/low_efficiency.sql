-- Vehicles whose efficiency of the last 24 hours is low, and those with a fault for it, or with one that
-- was closed by hand while its cause lasted. One row each; value is null if nothing is known, or if a
-- setting must be wrong.
--
-- Parameters: since timestamptz, how old their snapshot may be; opens float8, closes float8, percent,
-- for vehicles whose site has no thresholds of its own.
--
-- Leans on the primary keys, and on the index fault_watched.
SELECT
    'low_efficiency' AS kind,
    vehicle.vehicle_id,
    NULL AS meter_id,
    vehicle.site_id,
    day.efficiency_percent AS value,
    limits.opens AS threshold,
    coalesce(day.efficiency_percent < limits.opens, false) AS is_bad,
    coalesce(day.efficiency_percent >= limits.closes, false) AS is_gone,
    fault.id AS fault_id,
    fault.state AS fault_state,
    fault.value AS fault_value,
    fault.recovering_since,
    fault.closed_at
FROM fleet_vehicle AS vehicle
LEFT JOIN analytics_faultthresholds AS own ON own.site_id = vehicle.site_id
CROSS JOIN LATERAL (
    SELECT
        coalesce(own.efficiency_opens_percent, %(opens)s::float8) AS opens,
        coalesce(own.efficiency_closes_percent, %(closes)s::float8) AS closes
) AS limits
LEFT JOIN analytics_vehicleday AS day
    ON
        day.vehicle_id = vehicle.vehicle_id
        AND day.ends_at >= %(since)s::timestamptz
        AND day.reason IS NULL
        -- More than 100 % is impossible: neither good nor bad.
        AND day.health <> 'suspect'
        -- All vehicles without a link have the same ratio: it says nothing about any of them.
        AND day.ac_source <> 'fleet'
        -- A thousandth is a matter of unit: `analytics.hints.evidence`.
        AND day.efficiency_percent NOT BETWEEN 0.04 AND 0.125
        AND NOT EXISTS (
            SELECT 1
            FROM analytics_hint AS hint
            WHERE
                hint.vehicle_id = day.vehicle_id
                AND hint.kind IN ('unit', 'register')
                AND hint.dismissed_at IS NULL
        )
        AND NOT EXISTS (
            SELECT 1
            FROM analytics_hint AS hint
            WHERE
                hint.meter_id = day.meter_id
                AND hint.kind IN ('unit', 'register')
                AND hint.dismissed_at IS NULL
        )
LEFT JOIN (
    SELECT DISTINCT ON (watched.vehicle_id) watched.*
    FROM analytics_fault AS watched
    WHERE
        watched.kind = 'low_efficiency'
        AND (watched.state <> 'closed' OR watched.recovering_since IS NULL)
    ORDER BY watched.vehicle_id, watched.id DESC
) AS fault ON fault.vehicle_id = vehicle.vehicle_id
WHERE day.efficiency_percent < limits.opens OR fault.id IS NOT NULL
