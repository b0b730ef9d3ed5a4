-- Devices that have been silent for too long for their cadence, and those with a fault for it, or with
-- one that was closed by hand while its cause lasted. One row each; only devices whose cadence is known.
-- A retired device is not silent: the cause of its fault is gone.
-- site_opens: how many silent devices are a fault of the whole site.
--
-- Parameters: now timestamptz; pauses float8, how many of its longest pauses a device may be silent;
-- cadences float8, minutes float8, devices integer, for devices whose site has no thresholds of its own.
--
-- Leans on the primary keys, and on the index fault_watched.
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
    WHERE kind = 'silent' AND (state <> 'closed' OR recovering_since IS NULL)
    ORDER BY vehicle_id, meter_id, id DESC
),
device AS (
    SELECT
        live.vehicle_id,
        NULL AS meter_id,
        vehicle.site_id,
        coalesce(vehicle.retired_at <= %(now)s::timestamptz, false) AS is_retired,
        live.received_at,
        cadence.cadence_seconds,
        cadence.longest_pause_seconds,
        watched.fault_id,
        watched.fault_state,
        watched.fault_value,
        watched.recovering_since,
        watched.closed_at
    FROM fleet_vehiclelivestate AS live
    INNER JOIN fleet_vehicle AS vehicle ON vehicle.vehicle_id = live.vehicle_id
    INNER JOIN analytics_vehiclecadence AS cadence ON cadence.vehicle_id = live.vehicle_id
    LEFT JOIN watched ON watched.vehicle_id = live.vehicle_id
    WHERE cadence.cadence_seconds IS NOT NULL
    UNION ALL
    SELECT
        NULL AS vehicle_id,
        live.meter_id,
        meter.site_id,
        coalesce(meter.retired_at <= %(now)s::timestamptz, false) AS is_retired,
        live.received_at,
        cadence.cadence_seconds,
        cadence.longest_pause_seconds,
        watched.fault_id,
        watched.fault_state,
        watched.fault_value,
        watched.recovering_since,
        watched.closed_at
    FROM fleet_meterlivestate AS live
    INNER JOIN fleet_meter AS meter ON meter.meter_id = live.meter_id
    INNER JOIN analytics_metercadence AS cadence ON cadence.meter_id = live.meter_id
    LEFT JOIN watched ON watched.meter_id = live.meter_id
    WHERE cadence.cadence_seconds IS NOT NULL
),
judged AS (
    SELECT
        device.*,
        extract(EPOCH FROM %(now)s::timestamptz - device.received_at)::float8 / 60 AS value,
        greatest(
            coalesce(own.silent_opens_cadences, %(cadences)s::float8) * device.cadence_seconds / 60,
            coalesce(own.silent_opens_minutes, %(minutes)s::float8),
            %(pauses)s::float8 * device.longest_pause_seconds / 60
        ) AS threshold,
        greatest(
            coalesce(own.site_silent_devices, %(devices)s::integer),
            (count(*) FILTER (WHERE NOT device.is_retired) OVER (PARTITION BY device.site_id) + 1) / 2
        ) AS site_opens
    FROM device
    LEFT JOIN analytics_faultthresholds AS own ON own.site_id = device.site_id
)
SELECT
    'silent' AS kind,
    vehicle_id,
    meter_id,
    site_id,
    value,
    threshold,
    value > threshold AND NOT is_retired AS is_bad,
    value <= threshold OR is_retired AS is_gone,
    fault_id,
    fault_state,
    fault_value,
    recovering_since,
    closed_at,
    site_opens
FROM judged
WHERE (value > threshold AND NOT is_retired) OR fault_id IS NOT NULL
