-- The pauses of vehicles with an interval register that are longer than their steps reach, over spans of time:
-- from the reading before each to the one after it. From hourly sums that are current and have no such
-- pause, else from history.
--
-- Parameters: device_ids text[], starts_at timestamptz[], ends_at timestamptz[] (one span each,
-- half-open); first timestamptz and last timestamptz, a window around all spans; default_max_power_kw
-- float8, for counters without one of their own.
--
-- Leans on the primary keys of sums, marks and history, on the partitions between first and last.
SELECT
    span.number,
    pause.before_at,
    pause.after_at
FROM
    unnest(%(device_ids)b::text[], %(starts_at)s::timestamptz[], %(ends_at)s::timestamptz[])
    WITH ORDINALITY AS span (vehicle_id, starts_at, ends_at, number)
INNER JOIN fleet_vehicle AS device ON device.vehicle_id = span.vehicle_id
LEFT JOIN analytics_vehiclecadence AS cadence ON cadence.vehicle_id = span.vehicle_id
CROSS JOIN LATERAL analytics_register(
    device.energy_register,
    device.scale,
    device.max_power_kw,
    device.interval_seconds,
    cadence.cadence_seconds,
    %(default_max_power_kw)s::float8
) AS register
CROSS JOIN LATERAL (
    WITH gapless AS MATERIALIZED (
        SELECT
            hour.hour,
            hour.first_measured_at,
            hour.last_measured_at,
            lag(hour.hour) OVER in_order AS hour_before,
            lag(hour.last_measured_at) OVER in_order AS before_at
        FROM analytics_vehiclehour AS hour
        WHERE
            hour.vehicle_id = span.vehicle_id
            AND hour.hour >= span.starts_at
            AND hour.hour <= span.ends_at - interval '1 hour'
            AND hour.hour >= %(first)s::timestamptz
            AND hour.hour < %(last)s::timestamptz
            AND hour.rules = register.rules
            AND hour.is_gapless
            AND hour.hour <> ALL (
                ARRAY(
                    SELECT changed.hour
                    FROM ingestion_changedvehiclehour AS changed
                    WHERE
                        changed.vehicle_id = span.vehicle_id
                        AND changed.hour >= span.starts_at
                        AND changed.hour < span.ends_at
                )
            )
        WINDOW in_order AS (ORDER BY hour.hour)
    ),
    -- What lies between such hours, with the readings on either side.
    rest AS (
        SELECT
            before_at,
            coalesce(hour_before + interval '1 hour', span.starts_at) AS starts_at,
            hour AS ends_at,
            first_measured_at AS after_at
        FROM gapless
        UNION ALL
        SELECT
            max(last_measured_at) AS before_at,
            coalesce(max(hour) + interval '1 hour', span.starts_at) AS starts_at,
            span.ends_at,
            NULL AS after_at
        FROM gapless
    )
    SELECT
        reading.before_at,
        reading.measured_at AS after_at
    FROM rest
    CROSS JOIN LATERAL (
        SELECT
            inside.measured_at,
            lag(inside.measured_at) OVER (ORDER BY inside.measured_at) AS before_at
        FROM (
            SELECT reading.measured_at
            FROM ingestion_vehiclereading AS reading
            WHERE
                reading.vehicle_id = span.vehicle_id
                AND reading.measured_at >= rest.starts_at
                AND reading.measured_at < rest.ends_at
                AND reading.measured_at >= %(first)s::timestamptz
                AND reading.measured_at < %(last)s::timestamptz
            UNION ALL
            SELECT beside.measured_at
            FROM (VALUES (rest.before_at), (rest.after_at)) AS beside (measured_at)
            WHERE beside.measured_at IS NOT NULL
        ) AS inside
    ) AS reading
    WHERE
        rest.starts_at < rest.ends_at
        AND reading.measured_at - reading.before_at > make_interval(secs => register.reach_seconds)
) AS pause
ORDER BY span.number, pause.before_at
