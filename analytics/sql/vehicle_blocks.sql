-- DC energy and battery temperature of vehicles over pieces of time, as blocks of readings in time order, from history as
-- it is now. Full hours come from their sums if these are current, the rest from history. A row for each
-- block; one with readings = 0 for a piece without any; none for a vehicle that is not in the registry.
--
-- Hours that follow each other are one block, as long as nothing between them has to be judged: of an
-- interval register without a maximum power, all of them. Before and after the pieces of a device there
-- are more, of role -1 and 1, or -2 if they go back to its first reading: of an interval register, they
-- are one reading, the nearest; of a counter, all blocks of that time, and the reading beyond it
-- (is_beyond).
--
-- Parameters: device_ids text[], starts_at timestamptz[], ends_at timestamptz[], roles smallint[] (one
-- piece each, half-open); first timestamptz and last timestamptz, a window around all pieces;
-- window_starts_at timestamptz and window_ends_at timestamptz, around those of role 0;
-- default_max_power_kw float8, for counters without one of their own.
--
-- Leans on the primary keys of sums, marks and history, on the partitions between first and last.
SELECT
    piece.number,
    device.energy_register,
    device.scale,
    device.rolls_over_at_kwh,
    register.max_power_kw,
    register.cadence_seconds,
    register.reach_seconds,
    block.is_beyond,
    block.readings,
    block.suspect_steps,
    block.energy_kwh,
    block.rises,
    block.last_rose_at,
    block.is_plain,
    block.is_gapless,
    block.first_measured_at,
    block.first_kwh,
    block.last_measured_at,
    block.last_kwh,
    block.hours_rolled_up,
    block.battery_temp_celsius_sum,
    block.battery_temp_readings,
    -- From the same snapshot as the readings: until when history is only in the archive.
    (
        SELECT max(archived.ends_at)
        FROM ingestion_archivedpartition AS archived
        WHERE
            archived.is_out
            AND archived.starts_at < %(window_ends_at)s::timestamptz
            AND archived.ends_at > %(window_starts_at)s::timestamptz
    ) AS gone_until
FROM
    unnest(
        %(device_ids)b::text[],
        %(starts_at)s::timestamptz[],
        %(ends_at)s::timestamptz[],
        %(roles)s::smallint[]
    ) WITH ORDINALITY AS piece (vehicle_id, starts_at, ends_at, role, number)
INNER JOIN fleet_vehicle AS device ON device.vehicle_id = piece.vehicle_id
LEFT JOIN analytics_vehiclecadence AS cadence ON cadence.vehicle_id = piece.vehicle_id
CROSS JOIN LATERAL analytics_register(
    device.energy_register,
    device.scale,
    device.max_power_kw,
    device.interval_seconds,
    cadence.cadence_seconds,
    %(default_max_power_kw)s::float8
) AS register
CROSS JOIN LATERAL (
    -- Not materialized: its first reader sums it up as it streams, the others rarely read it.
    WITH rolled_up AS NOT MATERIALIZED (
        SELECT hour.*
        FROM analytics_vehiclehour AS hour
        WHERE
            hour.vehicle_id = piece.vehicle_id
            AND hour.hour >= piece.starts_at
            AND hour.hour <= piece.ends_at - interval '1 hour'
            AND hour.hour >= %(first)s::timestamptz
            AND hour.hour < %(last)s::timestamptz
            AND hour.rules = register.rules
            AND (piece.role = 0 OR device.energy_register <> 'interval')
            AND hour.hour <> ALL (
                ARRAY(
                    SELECT changed.hour
                    FROM ingestion_changedvehiclehour AS changed
                    WHERE
                        changed.vehicle_id = piece.vehicle_id
                        AND changed.hour >= piece.starts_at
                        AND changed.hour < piece.ends_at
                )
            )
    ),
    sums AS MATERIALIZED (
        SELECT
            count(*) AS hours,
            min(hour) AS starts_at,
            max(hour) + interval '1 hour' AS ends_at,
            sum(readings) AS readings,
            sum(suspect_steps) AS suspect_steps,
            sum(energy_dc_kwh) AS energy_kwh,
            bool_and(is_gapless) AS is_gapless,
            min(first_measured_at) AS first_measured_at,
            max(last_measured_at) AS last_measured_at,
            sum(battery_temp_celsius_sum) AS battery_temp_celsius_sum,
            sum(battery_temp_readings) AS battery_temp_readings
        FROM rolled_up
    ),
    -- What no sum covers: before, between and after these hours.
    rest AS (
        SELECT
            piece.starts_at,
            coalesce(sums.starts_at, piece.ends_at) AS ends_at
        FROM sums
        UNION ALL
        SELECT
            lag(hour) OVER (ORDER BY hour) + interval '1 hour' AS starts_at,
            hour AS ends_at
        FROM rolled_up
        -- Only if there are fewer hours than fit between the first and the last.
        WHERE (SELECT hours * interval '1 hour' < ends_at - starts_at FROM sums)
        UNION ALL
        SELECT
            sums.ends_at AS starts_at,
            piece.ends_at
        FROM sums
    ),
    -- Where a block of hours begins: where the step into an hour has to be judged.
    hour_in_order AS (
        SELECT
            rolled_up.*,
            coalesce(
                hour = lag(hour) OVER in_order + interval '1 hour'
                AND is_plain
                AND lag(is_plain) OVER in_order
                AND CASE
                    WHEN device.energy_register = 'interval'
                        THEN analytics_is_plausible(
                            first_kwh,
                            register.max_power_kw,
                            analytics_interval_seconds(
                                extract(
                                    EPOCH FROM first_measured_at - lag(last_measured_at) OVER in_order
                                )::float8,
                                register.cadence_seconds,
                                register.reach_seconds
                            )
                        )
                    ELSE
                        first_kwh >= lag(last_kwh) OVER in_order
                        AND analytics_is_plausible(
                            first_kwh - lag(last_kwh) OVER in_order,
                            register.max_power_kw,
                            extract(
                                EPOCH FROM first_measured_at - lag(last_measured_at) OVER in_order
                            )::float8
                        )
                END,
                false
            ) AS goes_on,
            first_kwh - lag(last_kwh) OVER in_order AS rise_kwh
        FROM rolled_up
        WHERE device.energy_register <> 'interval' OR register.max_power_kw IS NOT NULL
        WINDOW in_order AS (ORDER BY hour)
    ),
    hour_of_block AS (
        SELECT
            hour_in_order.*,
            count(*) FILTER (WHERE NOT goes_on) OVER (ORDER BY hour) AS block
        FROM hour_in_order
    )
    -- All hours of an interval register without a maximum power.
    SELECT
        false AS is_beyond,
        sums.readings,
        sums.suspect_steps,
        sums.energy_kwh,
        0 AS rises,
        NULL::timestamptz AS last_rose_at,
        true AS is_plain,
        sums.is_gapless AND sums.hours * interval '1 hour' = sums.ends_at - sums.starts_at
            AS is_gapless,
        sums.first_measured_at,
        (SELECT first_kwh FROM rolled_up ORDER BY hour LIMIT 1) AS first_kwh,
        sums.last_measured_at,
        0 AS last_kwh,
        sums.hours AS hours_rolled_up,
        sums.battery_temp_celsius_sum,
        sums.battery_temp_readings
    FROM sums
    WHERE
        sums.hours > 0 AND device.energy_register = 'interval' AND register.max_power_kw IS NULL
    UNION ALL
    -- Hours of other registers.
    SELECT
        false AS is_beyond,
        sum(readings) AS readings,
        sum(suspect_steps) AS suspect_steps,
        CASE
            WHEN device.energy_register = 'interval' THEN sum(energy_dc_kwh)
            ELSE max(last_kwh) - min(first_kwh)
        END AS energy_kwh,
        sum(rises) + count(*) FILTER (WHERE goes_on AND rise_kwh > 0) AS rises,
        greatest(
            max(last_rose_at), max(first_measured_at) FILTER (WHERE goes_on AND rise_kwh > 0)
        ) AS last_rose_at,
        bool_and(is_plain) AS is_plain,
        bool_and(is_gapless) AS is_gapless,
        min(first_measured_at) AS first_measured_at,
        (array_agg(first_kwh ORDER BY hour))[1] AS first_kwh,
        max(last_measured_at) AS last_measured_at,
        (array_agg(last_kwh ORDER BY hour DESC))[1] AS last_kwh,
        count(*) AS hours_rolled_up,
            sum(battery_temp_celsius_sum) AS battery_temp_celsius_sum,
            sum(battery_temp_readings) AS battery_temp_readings
    FROM hour_of_block
    GROUP BY block
    UNION ALL
    -- Readings that no sum covers.
    SELECT
        false AS is_beyond,
        counted.readings,
        counted.suspect_steps,
        counted.energy_kwh,
        counted.rises,
        counted.last_rose_at,
        counted.is_plain,
        counted.is_gapless,
        counted.first_measured_at,
        counted.first_kwh,
        counted.last_measured_at,
        counted.last_kwh,
        0 AS hours_rolled_up,
        counted.battery_temp_celsius_sum,
        counted.battery_temp_readings
    FROM rest
    CROSS JOIN LATERAL analytics_vehicle_span(
        piece.vehicle_id,
        rest.starts_at,
        rest.ends_at,
        device.energy_register,
        device.scale,
        register.max_power_kw,
        register.cadence_seconds,
        register.reach_seconds,
        %(first)s::timestamptz,
        %(last)s::timestamptz
    ) AS counted
    WHERE
        rest.starts_at < rest.ends_at
        AND counted.readings > 0
        AND (piece.role = 0 OR device.energy_register <> 'interval')
    UNION ALL
    -- The reading before, or beyond what is before.
    SELECT
        true AS is_beyond,
        1 AS readings,
        0 AS suspect_steps,
        CASE
            WHEN device.energy_register = 'interval' THEN before.kwh * device.scale
            ELSE 0
        END AS energy_kwh,
        0 AS rises,
        NULL AS last_rose_at,
        true AS is_plain,
        true AS is_gapless,
        before.measured_at AS first_measured_at,
        before.kwh * device.scale AS first_kwh,
        before.measured_at AS last_measured_at,
        before.kwh * device.scale AS last_kwh,
        0 AS hours_rolled_up,
        0 AS battery_temp_celsius_sum,
        0 AS battery_temp_readings
    FROM analytics_vehicle_before(
        piece.vehicle_id,
        CASE
            WHEN device.energy_register = 'interval' THEN piece.ends_at
            WHEN piece.role = -1 THEN piece.starts_at
            ELSE (
                SELECT min(reading.measured_at)
                FROM ingestion_vehiclereading AS reading
                WHERE reading.vehicle_id = piece.vehicle_id
            )
        END
    ) AS before
    WHERE piece.role < 0
    UNION ALL
    SELECT
        true AS is_beyond,
        1 AS readings,
        0 AS suspect_steps,
        CASE
            WHEN device.energy_register = 'interval' THEN after.kwh * device.scale
            ELSE 0
        END AS energy_kwh,
        0 AS rises,
        NULL AS last_rose_at,
        true AS is_plain,
        true AS is_gapless,
        after.measured_at AS first_measured_at,
        after.kwh * device.scale AS first_kwh,
        after.measured_at AS last_measured_at,
        after.kwh * device.scale AS last_kwh,
        0 AS hours_rolled_up,
        0 AS battery_temp_celsius_sum,
        0 AS battery_temp_readings
    FROM analytics_vehicle_after(
        piece.vehicle_id,
        CASE WHEN device.energy_register = 'interval' THEN piece.starts_at ELSE piece.ends_at END
    ) AS after
    WHERE piece.role = 1
    UNION ALL
    -- So that each piece has a row.
    SELECT
        false AS is_beyond,
        0 AS readings,
        0 AS suspect_steps,
        0 AS energy_kwh,
        0 AS rises,
        NULL AS last_rose_at,
        true AS is_plain,
        true AS is_gapless,
        NULL AS first_measured_at,
        0 AS first_kwh,
        NULL AS last_measured_at,
        0 AS last_kwh,
        0 AS hours_rolled_up,
        0 AS battery_temp_celsius_sum,
        0 AS battery_temp_readings
    WHERE piece.role = 0
) AS block
ORDER BY piece.number, block.first_measured_at
