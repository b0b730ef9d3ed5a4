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
            hour.last_measured_at
        FROM analytics_vehiclehour AS hour
        WHERE
            hour.vehicle_id = span.vehicle_id
            AND hour.hour >= span.starts_at
            AND hour.hour <= span.ends_at - interval '1 hour'
            AND hour.hour >= %(first)s::timestamptz
            AND hour.hour < %(last)s::timestamptz
            AND hour.rules = register.rules
            AND hour.is_gapless
            AND NOT EXISTS (
                SELECT 1
                FROM ingestion_changedvehiclehour AS changed
                WHERE changed.vehicle_id = span.vehicle_id AND changed.hour = hour.hour
            )
    ),
    rest AS (
        SELECT
            coalesce(lag(hour) OVER (ORDER BY hour) + interval '1 hour', span.starts_at)
                AS starts_at,
            hour AS ends_at
        FROM gapless
        UNION ALL
        SELECT
            coalesce(max(hour) + interval '1 hour', span.starts_at) AS starts_at,
            span.ends_at
        FROM gapless
    ),
    stretch AS (
        SELECT
            first_measured_at,
            last_measured_at
        FROM gapless
        UNION ALL
        SELECT
            reading.measured_at AS first_measured_at,
            reading.measured_at AS last_measured_at
        FROM rest
        INNER JOIN ingestion_vehiclereading AS reading
            ON
                reading.vehicle_id = span.vehicle_id
                AND reading.measured_at >= rest.starts_at
                AND reading.measured_at < rest.ends_at
                AND reading.measured_at >= %(first)s::timestamptz
                AND reading.measured_at < %(last)s::timestamptz
        WHERE rest.starts_at < rest.ends_at
    )
    SELECT
        stretch.before_at,
        stretch.first_measured_at AS after_at
    FROM (
        SELECT
            first_measured_at,
            lag(last_measured_at) OVER (ORDER BY first_measured_at, last_measured_at) AS before_at
        FROM stretch
    ) AS stretch
    WHERE
        stretch.first_measured_at - stretch.before_at > make_interval(secs => register.reach_seconds)
) AS pause
ORDER BY span.number, pause.before_at
