-- Devices whose clock is behind, and those with a fault for it, or with one that was closed by hand while
-- its cause lasted. One row each; value in hours. A clock is behind if the newest readings lag behind
-- their receipt by the same time as those of three hours before: a backlog or an import is received in one
-- go, so its lag shrinks. A retired device has no slow clock: the cause of its fault is gone.
--
-- Parameters: now timestamptz; hours float8, the least lag of a fault, for devices whose site has no
-- thresholds of its own.
--
-- Leans on the primary keys of live state and history, and on the index fault_watched: two descents into
-- history for each device that lags.
WITH watched AS (
    SELECT DISTINCT ON (vehicle_id, meter_id)
        id AS fault_id,
        vehicle_id,
        meter_id,
        state AS fault_state,
        value AS fault_value,
        recovering_since,
        closed_at
    FROM analytics_fault
    WHERE kind = 'clock' AND (state <> 'closed' OR recovering_since IS NULL)
    ORDER BY vehicle_id, meter_id, id DESC
),
device AS (
    SELECT
        live.vehicle_id,
        NULL AS meter_id,
        vehicle.site_id,
        coalesce(vehicle.retired_at <= %(now)s::timestamptz, false) AS is_retired,
        live.measured_at,
        live.received_at,
        watched.fault_id,
        watched.fault_state,
        watched.fault_value,
        watched.recovering_since,
        watched.closed_at
    FROM fleet_vehiclelivestate AS live
    INNER JOIN fleet_vehicle AS vehicle ON vehicle.vehicle_id = live.vehicle_id
    LEFT JOIN watched ON watched.vehicle_id = live.vehicle_id
    UNION ALL
    SELECT
        NULL AS vehicle_id,
        live.meter_id,
        meter.site_id,
        coalesce(meter.retired_at <= %(now)s::timestamptz, false) AS is_retired,
        live.measured_at,
        live.received_at,
        watched.fault_id,
        watched.fault_state,
        watched.fault_value,
        watched.recovering_since,
        watched.closed_at
    FROM fleet_meterlivestate AS live
    INNER JOIN fleet_meter AS meter ON meter.meter_id = live.meter_id
    LEFT JOIN watched ON watched.meter_id = live.meter_id
),
-- Nearly all devices are left out here, before history is read.
lagging AS MATERIALIZED (
    SELECT
        device.*,
        device.received_at - device.measured_at AS lag,
        coalesce(own.clock_opens_hours, %(hours)s::float8) AS threshold
    FROM device
    LEFT JOIN analytics_faultthresholds AS own ON own.site_id = device.site_id
    WHERE
        device.fault_id IS NOT NULL
        OR NOT device.is_retired
        AND device.received_at - device.measured_at
        > coalesce(own.clock_opens_hours, %(hours)s::float8) * interval '1 hour'
        AND device.received_at > %(now)s::timestamptz - interval '3 hours'
),
judged AS (
    SELECT
        lagging.*,
        extract(EPOCH FROM coalesce(newest.lag, lagging.lag))::float8 / 3600 AS value,
        NOT lagging.is_retired
        AND lagging.lag > lagging.threshold * interval '1 hour'
        AND lagging.received_at > %(now)s::timestamptz - interval '3 hours'
        AND newest.lag BETWEEN earlier.lag - interval '5 minutes'
        AND earlier.lag + interval '5 minutes' AS is_bad
    FROM lagging
    -- The least of some: in a delivery of many readings, the last one lags least.
    CROSS JOIN LATERAL (
        SELECT min(received_at - measured_at) AS lag
        FROM (
            SELECT *
            FROM (
                SELECT measured_at, received_at
                FROM ingestion_vehiclereading
                WHERE
                    vehicle_id = lagging.vehicle_id
                    AND measured_at <= lagging.measured_at
                    AND measured_at > lagging.measured_at - interval '3 hours'
                ORDER BY measured_at DESC
                LIMIT 100
            ) AS of_vehicle
            UNION ALL
            SELECT *
            FROM (
                SELECT measured_at, received_at
                FROM ingestion_meterreading
                WHERE
                    meter_id = lagging.meter_id
                    AND measured_at <= lagging.measured_at
                    AND measured_at > lagging.measured_at - interval '3 hours'
                ORDER BY measured_at DESC
                LIMIT 100
            ) AS of_meter
        ) AS reading
    ) AS newest
    CROSS JOIN LATERAL (
        SELECT min(received_at - measured_at) AS lag
        FROM (
            SELECT *
            FROM (
                SELECT measured_at, received_at
                FROM ingestion_vehiclereading
                WHERE
                    vehicle_id = lagging.vehicle_id
                    AND measured_at <= lagging.measured_at - interval '3 hours'
                    AND measured_at > lagging.measured_at - interval '2 days'
                ORDER BY measured_at DESC
                LIMIT 100
            ) AS of_vehicle
            UNION ALL
            SELECT *
            FROM (
                SELECT measured_at, received_at
                FROM ingestion_meterreading
                WHERE
                    meter_id = lagging.meter_id
                    AND measured_at <= lagging.measured_at - interval '3 hours'
                    AND measured_at > lagging.measured_at - interval '2 days'
                ORDER BY measured_at DESC
                LIMIT 100
            ) AS of_meter
        ) AS reading
    ) AS earlier
)
SELECT
    'clock' AS kind,
    vehicle_id,
    meter_id,
    site_id,
    value,
    threshold,
    coalesce(is_bad, false) AS is_bad,
    lag <= threshold * interval '1 hour' OR is_retired AS is_gone,
    fault_id,
    fault_state,
    fault_value,
    recovering_since,
    closed_at
FROM judged
WHERE is_bad OR fault_id IS NOT NULL
