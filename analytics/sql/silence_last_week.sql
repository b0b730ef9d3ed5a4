-- How many faults of silent devices, and of silent sites, would have opened, by the first and the last
-- reading of each hour, and by how many readings are missing between them. If many devices of a site
-- are silent in an hour, those whose silence becomes a fault in it have none of their own. Whatever was
-- already silent when the week began opens none, and so does a device that is retired now. What a device
-- endures depends on its longest pause in the days before each silence.
--
-- Parameters: first timestamptz, since timestamptz, until timestamptz: hours from first on are read,
-- openings from since on are counted, both before until; now timestamptz; site_ids bigint[], 0 means no
-- site; pauses float8, how many of its longest pauses a device may be silent, in the last pauses_of
-- interval; cadences float8, minutes float8, devices integer.
--
-- Leans on the primary keys of the hours, on the partitions between first and until.
WITH device AS (
    SELECT
        known.*,
        greatest(
            %(cadences)s::float8 * known.cadence, %(minutes)s::float8 * interval '1 minute'
        ) AS endured
    FROM (
        SELECT
            'vehicle' AS kind,
            vehicle.vehicle_id AS id,
            coalesce(vehicle.site_id, 0) AS site_id,
            live.measured_at,
            cadence.cadence_seconds * interval '1 second' AS cadence,
            vehicle.retired_at
        FROM fleet_vehicle AS vehicle
        INNER JOIN fleet_vehiclelivestate AS live ON live.vehicle_id = vehicle.vehicle_id
        INNER JOIN analytics_vehiclecadence AS cadence
            ON cadence.vehicle_id = vehicle.vehicle_id
        UNION ALL
        SELECT
            'meter',
            meter.meter_id,
            coalesce(meter.site_id, 0),
            live.measured_at,
            cadence.cadence_seconds * interval '1 second',
            meter.retired_at
        FROM fleet_meter AS meter
        INNER JOIN fleet_meterlivestate AS live ON live.meter_id = meter.meter_id
        INNER JOIN analytics_metercadence AS cadence ON cadence.meter_id = meter.meter_id
    ) AS known
    WHERE
        known.cadence IS NOT NULL
        AND known.site_id = ANY(%(site_ids)s::bigint[])
        AND (known.retired_at IS NULL OR known.retired_at > %(now)s::timestamptz)
),
-- One device at a time: sorting a few hundred hours is fast, sorting millions is not.
summed AS (
    SELECT
        device.*,
        own.*
    FROM device
    CROSS JOIN LATERAL (
        SELECT
            first_measured_at,
            last_measured_at,
            readings,
            lead(first_measured_at) OVER (ORDER BY hour) AS next_at
        FROM analytics_vehiclehour
        WHERE
            vehicle_id = device.id
            AND hour >= %(first)s::timestamptz
            AND hour < %(until)s::timestamptz
    ) AS own
    WHERE device.kind = 'vehicle'
    UNION ALL
    SELECT
        device.*,
        own.*
    FROM device
    CROSS JOIN LATERAL (
        SELECT
            first_measured_at,
            last_measured_at,
            readings,
            lead(first_measured_at) OVER (ORDER BY hour) AS next_at
        FROM analytics_meterhour
        WHERE
            meter_id = device.id
            AND hour >= %(first)s::timestamptz
            AND hour < %(until)s::timestamptz
    ) AS own
    WHERE device.kind = 'meter'
),
-- Few of millions of hours: only these need the pauses before them.
paused AS MATERIALIZED (
    SELECT
        summed.kind,
        summed.id,
        summed.site_id,
        summed.cadence,
        summed.endured,
        pause.starts_at,
        pause.ends_at
    FROM summed
    CROSS JOIN
        LATERAL (
            VALUES
            (
                summed.last_measured_at,
                -- After its last hour: seen since then, or silent until now.
                coalesce(
                    summed.next_at,
                    CASE
                        WHEN summed.measured_at >= %(until)s::timestamptz
                            THEN %(until)s::timestamptz
                        ELSE %(now)s::timestamptz
                    END
                )
            ),
            (
                summed.first_measured_at,
                summed.last_measured_at - (summed.readings - 1) * summed.cadence
            )
        ) AS pause (starts_at, ends_at)
    WHERE
        pause.ends_at - pause.starts_at > summed.endured
        -- Filtered out before the expensive checks.
        AND (
            summed.next_at IS NULL
            OR summed.next_at > summed.last_measured_at + summed.endured
            OR summed.readings * summed.cadence < interval '1 hour' - summed.endured
        )
),
-- A silence is a fault from opens_at to ends_at.
silence AS (
    SELECT
        paused.kind,
        paused.id,
        paused.site_id,
        paused.starts_at + limits.endured AS opens_at,
        paused.ends_at
    FROM paused
    CROSS JOIN LATERAL (
        SELECT max(greatest(before.into_it, before.inside)) AS longest
        FROM (
            SELECT
                own.first_measured_at - lag(own.last_measured_at) OVER (ORDER BY own.hour) AS into_it,
                CASE
                    WHEN own.last_measured_at <= paused.starts_at
                        THEN
                            own.last_measured_at - own.first_measured_at
                            - (own.readings - 2) * paused.cadence
                END AS inside
            FROM (
                SELECT hour, first_measured_at, last_measured_at, readings
                FROM analytics_vehiclehour
                WHERE
                    paused.kind = 'vehicle'
                    AND vehicle_id = paused.id
                    AND hour > paused.starts_at - %(pauses_of)s::interval
                    AND hour <= paused.starts_at
                UNION ALL
                SELECT hour, first_measured_at, last_measured_at, readings
                FROM analytics_meterhour
                WHERE
                    paused.kind = 'meter'
                    AND meter_id = paused.id
                    AND hour > paused.starts_at - %(pauses_of)s::interval
                    AND hour <= paused.starts_at
            ) AS own
        ) AS before
    ) AS known
    CROSS JOIN LATERAL (
        SELECT greatest(paused.endured, %(pauses)s::float8 * known.longest) AS endured
    ) AS limits
    WHERE paused.ends_at - paused.starts_at > limits.endured
),
silent AS (
    SELECT
        silence.site_id,
        hour,
        count(DISTINCT (silence.kind, silence.id)) AS devices
    FROM silence
    CROSS JOIN
        LATERAL generate_series(
            date_trunc('hour', silence.opens_at),
            silence.ends_at - interval '1 microsecond',
            interval '1 hour'
        ) AS hour
    WHERE silence.site_id <> 0
    GROUP BY silence.site_id, hour
),
verdict AS (
    SELECT
        site.site_id,
        hour,
        CASE
            WHEN silent.devices >= site.opens THEN true
            WHEN coalesce(silent.devices, 0) < site.opens / 2.0 THEN false
        END AS is_silent
    FROM (
        SELECT
            site_id,
            greatest(%(devices)s::integer, (count(*) + 1) / 2) AS opens
        FROM device
        WHERE site_id <> 0
        GROUP BY site_id
    ) AS site
    CROSS JOIN
        generate_series(%(first)s::timestamptz, %(now)s::timestamptz, interval '1 hour') AS hour
    LEFT JOIN silent USING (site_id, hour)
),
-- An hour that is neither is like the one before.
site_hour AS (
    SELECT
        site_id,
        hour,
        coalesce(bool_or(is_silent) OVER (PARTITION BY site_id, verdicts), false) AS is_silent
    FROM (
        SELECT
            verdict.*,
            count(is_silent) OVER (PARTITION BY site_id ORDER BY hour) AS verdicts
        FROM verdict
    ) AS counted
)
SELECT
    (
        SELECT count(*)
        FROM silence
        LEFT JOIN site_hour
            ON
                site_hour.site_id = silence.site_id
                AND site_hour.hour = date_trunc('hour', silence.opens_at)
        WHERE
            silence.opens_at >= %(since)s::timestamptz AND site_hour.is_silent IS NOT TRUE
    ) AS of_devices,
    (
        SELECT count(*)
        FROM (
            SELECT
                hour,
                is_silent,
                lag(is_silent) OVER (PARTITION BY site_id ORDER BY hour) AS was_silent
            FROM site_hour
        ) AS step
        WHERE is_silent AND was_silent IS NOT TRUE AND hour >= %(since)s::timestamptz
    ) AS of_sites
