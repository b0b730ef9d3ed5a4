-- Functions that everything that reads the curve of a device shares. A migration installs them; the
-- planner inlines them. The rules are in docs/energy.md; those that need more than one reading on either
-- side are in figures/curve.py.

-- A function that returns other columns than before cannot be replaced.
DROP FUNCTION IF EXISTS analytics_meter_blocks, analytics_vehicle_blocks;

-- How the energy of a device is counted: its settings, and what follows from them. Steps of an interval
-- register reach back to the reading before, if that is at most reach_seconds earlier. rules names all
-- that hourly sums depend on: a sum under other rules is no longer valid.
CREATE OR REPLACE FUNCTION analytics_register(
    energy_register text,
    scale float8,
    own_max_power_kw float8,
    interval_seconds float8,
    learned_cadence_seconds float8,
    default_max_power_kw float8
) RETURNS TABLE (
    max_power_kw float8,
    cadence_seconds float8,
    reach_seconds float8,
    rules text
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        effective.max_power_kw,
        effective.cadence_seconds,
        CASE
            WHEN effective.cadence_seconds IS NULL THEN 4500
            ELSE greatest(3 * effective.cadence_seconds, 900)
        END,
        concat(
            energy_register,
            '|', scale,
            '|', effective.max_power_kw,
            '|', CASE WHEN energy_register = 'interval' THEN effective.cadence_seconds END
        )
    FROM (
        SELECT
            coalesce(
                own_max_power_kw,
                CASE WHEN energy_register <> 'interval' THEN default_max_power_kw END
            ) AS max_power_kw,
            coalesce(interval_seconds, learned_cadence_seconds) AS cadence_seconds
    ) AS effective
$$;

-- Whether energy is plausible: what the maximum power yields in that time, and a tenth and a minute more.
-- True if either is unknown.
CREATE OR REPLACE FUNCTION analytics_is_plausible(
    energy_kwh float8, max_power_kw float8, seconds float8
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(energy_kwh <= 1.1 * max_power_kw * (seconds + 60) / 3600, true);

-- How long the interval of a step of an interval register is: the pause since the reading before, the
-- cadence if that is too long ago, null if that is not known either.
CREATE OR REPLACE FUNCTION analytics_interval_seconds(
    pause_seconds float8, cadence_seconds float8, reach_seconds float8
) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN pause_seconds <= reach_seconds THEN pause_seconds ELSE cadence_seconds END;

-- The usual cadence nearest to a median pause: learned again each day, it rarely changes.
CREATE OR REPLACE FUNCTION analytics_rounded_cadence(median_seconds float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT usual.seconds
    FROM
        unnest(
            ARRAY[1, 5, 10, 15, 30, 60, 300, 600, 900, 1800, 3600, 21600, 43200, 86400]::float8[]
        ) AS usual (seconds)
    ORDER BY abs(usual.seconds - median_seconds), usual.seconds
    LIMIT 1
);

-- One span of one meter, from history: each timestamp counted once, with the delivery received last.
-- One row, with readings = 0 if there are none. The span lies between first and last, which the planner
-- knows before the statement starts: partitions outside are not even opened.
--
-- Of an interval register, energy_kwh is the sum of all readings that are plausible; the first one, whose
-- predecessor is outside, counts as plausible. Of a counter, it is what the readings rise by, and is only
-- meant if is_plain: no reading is lower than the one before it, and each rise is plausible since the
-- reading before. is_gapless: no pause between two readings is longer than a step reaches.
CREATE OR REPLACE FUNCTION analytics_meter_span(
    device_id text,
    starts_at timestamptz,
    ends_at timestamptz,
    energy_register text,
    scale float8,
    max_power_kw float8,
    cadence_seconds float8,
    reach_seconds float8,
    first timestamptz,
    last timestamptz
) RETURNS TABLE (
    readings bigint,
    suspect_steps bigint,
    energy_kwh float8,
    rises bigint,
    last_rose_at timestamptz,
    is_plain boolean,
    is_gapless boolean,
    first_measured_at timestamptz,
    first_kwh float8,
    last_measured_at timestamptz,
    last_kwh float8
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        count(*),
        count(*) FILTER (WHERE energy_register = 'interval' AND NOT step.is_plausible),
        CASE
            WHEN energy_register = 'interval'
                THEN coalesce(sum(step.kwh) FILTER (WHERE step.is_plausible), 0)
            ELSE coalesce(sum(step.rise_kwh), 0)
        END,
        count(*) FILTER (WHERE step.rise_kwh > 0),
        max(step.measured_at) FILTER (WHERE step.rise_kwh > 0),
        energy_register = 'interval'
        OR coalesce(bool_and(step.is_plausible AND coalesce(step.rise_kwh >= 0, true)), true),
        energy_register <> 'interval' OR coalesce(max(step.pause_seconds) <= reach_seconds, true),
        min(step.measured_at),
        max(step.kwh) FILTER (WHERE step.before_at IS NULL),
        max(step.measured_at),
        max(step.kwh) FILTER (WHERE step.is_last)
    FROM (
        SELECT
            counted.measured_at,
            counted.kwh,
            lag(counted.measured_at) OVER in_order AS before_at,
            lead(counted.measured_at) OVER in_order IS NULL AS is_last,
            counted.kwh - lag(counted.kwh) OVER in_order AS rise_kwh,
            extract(EPOCH FROM counted.measured_at - lag(counted.measured_at) OVER in_order)::float8
                AS pause_seconds,
            lag(counted.measured_at) OVER in_order IS NULL
            OR CASE
                WHEN energy_register <> 'interval'
                    THEN analytics_is_plausible(
                        counted.kwh - lag(counted.kwh) OVER in_order,
                        max_power_kw,
                        extract(
                            EPOCH FROM counted.measured_at - lag(counted.measured_at) OVER in_order
                        )::float8
                    )
                ELSE analytics_is_plausible(
                    counted.kwh,
                    max_power_kw,
                    analytics_interval_seconds(
                        extract(
                            EPOCH FROM counted.measured_at - lag(counted.measured_at) OVER in_order
                        )::float8,
                        cadence_seconds,
                        reach_seconds
                    )
                )
            END AS is_plausible
        FROM (
            SELECT DISTINCT ON (reading.measured_at)
                reading.measured_at,
                reading.energy_ac_kwh * scale AS kwh
            FROM ingestion_meterreading AS reading
            WHERE
                reading.meter_id = device_id
                AND reading.measured_at >= starts_at
                AND reading.measured_at < ends_at
                AND reading.measured_at >= first
                AND reading.measured_at < last
            ORDER BY reading.measured_at, reading.received_at DESC, reading.id DESC
        ) AS counted
        WINDOW in_order AS (ORDER BY counted.measured_at)
    ) AS step
$$;

-- One span of one vehicle, as analytics_meter_span does for a meter.
CREATE OR REPLACE FUNCTION analytics_vehicle_span(
    device_id text,
    starts_at timestamptz,
    ends_at timestamptz,
    energy_register text,
    scale float8,
    max_power_kw float8,
    cadence_seconds float8,
    reach_seconds float8,
    first timestamptz,
    last timestamptz
) RETURNS TABLE (
    readings bigint,
    suspect_steps bigint,
    energy_kwh float8,
    rises bigint,
    last_rose_at timestamptz,
    is_plain boolean,
    is_gapless boolean,
    first_measured_at timestamptz,
    first_kwh float8,
    last_measured_at timestamptz,
    last_kwh float8,
    battery_temp_celsius_sum float8,
    battery_temp_readings bigint
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        count(*),
        count(*) FILTER (WHERE energy_register = 'interval' AND NOT step.is_plausible),
        CASE
            WHEN energy_register = 'interval'
                THEN coalesce(sum(step.kwh) FILTER (WHERE step.is_plausible), 0)
            ELSE coalesce(sum(step.rise_kwh), 0)
        END,
        count(*) FILTER (WHERE step.rise_kwh > 0),
        max(step.measured_at) FILTER (WHERE step.rise_kwh > 0),
        energy_register = 'interval'
        OR coalesce(bool_and(step.is_plausible AND coalesce(step.rise_kwh >= 0, true)), true),
        energy_register <> 'interval' OR coalesce(max(step.pause_seconds) <= reach_seconds, true),
        min(step.measured_at),
        max(step.kwh) FILTER (WHERE step.before_at IS NULL),
        max(step.measured_at),
        max(step.kwh) FILTER (WHERE step.is_last),
        coalesce(sum(step.battery_temp_celsius), 0),
        count(step.battery_temp_celsius)
    FROM (
        SELECT
            counted.measured_at,
            counted.kwh,
            lag(counted.measured_at) OVER in_order AS before_at,
            lead(counted.measured_at) OVER in_order IS NULL AS is_last,
            counted.kwh - lag(counted.kwh) OVER in_order AS rise_kwh,
            extract(EPOCH FROM counted.measured_at - lag(counted.measured_at) OVER in_order)::float8
                AS pause_seconds,
            lag(counted.measured_at) OVER in_order IS NULL
            OR CASE
                WHEN energy_register <> 'interval'
                    THEN analytics_is_plausible(
                        counted.kwh - lag(counted.kwh) OVER in_order,
                        max_power_kw,
                        extract(
                            EPOCH FROM counted.measured_at - lag(counted.measured_at) OVER in_order
                        )::float8
                    )
                ELSE analytics_is_plausible(
                    counted.kwh,
                    max_power_kw,
                    analytics_interval_seconds(
                        extract(
                            EPOCH FROM counted.measured_at - lag(counted.measured_at) OVER in_order
                        )::float8,
                        cadence_seconds,
                        reach_seconds
                    )
                )
            END AS is_plausible,
            counted.battery_temp_celsius
        FROM (
            SELECT DISTINCT ON (reading.measured_at)
                reading.measured_at,
                reading.energy_dc_kwh * scale AS kwh,
                reading.battery_temp_celsius
            FROM ingestion_vehiclereading AS reading
            WHERE
                reading.vehicle_id = device_id
                AND reading.measured_at >= starts_at
                AND reading.measured_at < ends_at
                AND reading.measured_at >= first
                AND reading.measured_at < last
            ORDER BY reading.measured_at, reading.received_at DESC, reading.id DESC
        ) AS counted
        WINDOW in_order AS (ORDER BY counted.measured_at)
    ) AS step
$$;

-- The first counted reading of a meter at an instant or later. No row if there is none.
CREATE OR REPLACE FUNCTION analytics_meter_after(
    device_id text, at timestamptz
) RETURNS TABLE (kwh float8, measured_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        reading.energy_ac_kwh AS kwh,
        reading.measured_at
    FROM ingestion_meterreading AS reading
    WHERE reading.meter_id = device_id AND reading.measured_at >= at
    ORDER BY reading.measured_at, reading.received_at DESC, reading.id DESC
    LIMIT 1
$$;

-- The same for a vehicle.
CREATE OR REPLACE FUNCTION analytics_vehicle_after(
    device_id text, at timestamptz
) RETURNS TABLE (kwh float8, measured_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        reading.energy_dc_kwh AS kwh,
        reading.measured_at
    FROM ingestion_vehiclereading AS reading
    WHERE reading.vehicle_id = device_id AND reading.measured_at >= at
    ORDER BY reading.measured_at, reading.received_at DESC, reading.id DESC
    LIMIT 1
$$;

-- The reading beyond a piece of a meter, by its role: before it (-1), before all of history (-2) or
-- after it (1); of an interval register, the nearest reading to what the piece is beside.
CREATE OR REPLACE FUNCTION analytics_meter_beyond(
    device_id text, role integer, starts_at timestamptz, ends_at timestamptz, is_interval boolean
) RETURNS TABLE (kwh float8, measured_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        before.kwh,
        before.measured_at
    FROM analytics_meter_before(
        device_id,
        CASE
            WHEN is_interval THEN ends_at
            WHEN role = -1 THEN starts_at
            ELSE (
                SELECT min(reading.measured_at)
                FROM ingestion_meterreading AS reading
                WHERE reading.meter_id = device_id
            )
        END
    ) AS before
    WHERE role < 0
    UNION ALL
    SELECT
        after.kwh,
        after.measured_at
    FROM analytics_meter_after(device_id, CASE WHEN is_interval THEN starts_at ELSE ends_at END) AS after
    WHERE role = 1
$$;

-- The same for a vehicle.
CREATE OR REPLACE FUNCTION analytics_vehicle_beyond(
    device_id text, role integer, starts_at timestamptz, ends_at timestamptz, is_interval boolean
) RETURNS TABLE (kwh float8, measured_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        before.kwh,
        before.measured_at
    FROM analytics_vehicle_before(
        device_id,
        CASE
            WHEN is_interval THEN ends_at
            WHEN role = -1 THEN starts_at
            ELSE (
                SELECT min(reading.measured_at)
                FROM ingestion_vehiclereading AS reading
                WHERE reading.vehicle_id = device_id
            )
        END
    ) AS before
    WHERE role < 0
    UNION ALL
    SELECT
        after.kwh,
        after.measured_at
    FROM analytics_vehicle_after(device_id, CASE WHEN is_interval THEN starts_at ELSE ends_at END) AS after
    WHERE role = 1
$$;

-- What history holds of a piece of a meter, or of what is beside it, by its role: see meter_blocks.sql.
-- The names of its parameters are those of no column.
--
-- may_have_gaps: of a block that is not gapless, the hours that may have pauses longer than a step
-- reaches, each with the hour before and after, since a gapless hour is so towards another alone. Null
-- if such a pause may be anywhere in the block.
CREATE OR REPLACE FUNCTION analytics_meter_blocks(
    device_id text,
    piece_starts_at timestamptz,
    piece_ends_at timestamptz,
    piece_role integer,
    device_register text,
    device_scale float8,
    effective_max_power_kw float8,
    effective_cadence_seconds float8,
    step_reach_seconds float8,
    current_rules text,
    first timestamptz,
    last timestamptz
) RETURNS TABLE (
    is_beyond boolean,
    readings bigint,
    suspect_steps bigint,
    energy_kwh float8,
    rises bigint,
    last_rose_at timestamptz,
    is_plain boolean,
    is_gapless boolean,
    may_have_gaps tstzmultirange,
    first_measured_at timestamptz,
    first_kwh float8,
    last_measured_at timestamptz,
    last_kwh float8,
    hours_rolled_up bigint
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        block.is_beyond,
        block.readings::bigint,
        block.suspect_steps::bigint,
        block.energy_kwh::float8,
        block.rises::bigint,
        block.last_rose_at,
        block.is_plain,
        block.is_gapless,
        block.may_have_gaps,
        block.first_measured_at,
        block.first_kwh::float8,
        block.last_measured_at,
        block.last_kwh::float8,
        block.hours_rolled_up
    FROM (
        -- Not materialized: its first reader sums it up as it streams, the others rarely read it.
        WITH rolled_up AS NOT MATERIALIZED (
            SELECT hour.*
            FROM analytics_meterhour AS hour
            WHERE
                hour.meter_id = device_id
                AND hour.hour >= piece_starts_at
                AND hour.hour <= piece_ends_at - interval '1 hour'
                AND hour.hour >= first
                AND hour.hour < last
                AND hour.rules = current_rules
                AND (piece_role = 0 OR device_register <> 'interval')
                AND hour.hour <> ALL (
                    ARRAY(
                        SELECT changed.hour
                        FROM ingestion_changedmeterhour AS changed
                        WHERE
                            changed.meter_id = device_id
                            AND changed.hour >= piece_starts_at
                            AND changed.hour < piece_ends_at
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
                sum(energy_ac_kwh) AS energy_kwh,
                bool_and(is_gapless) AS is_gapless,
                range_agg(tstzrange(hour - interval '1 hour', hour + interval '2 hours'))
                    FILTER (WHERE NOT is_gapless) AS may_have_gaps,
                min(first_measured_at) AS first_measured_at,
                max(last_measured_at) AS last_measured_at
            FROM rolled_up
        ),
        -- What no sum covers: before, between and after these hours.
        rest AS (
            SELECT
                piece_starts_at AS starts_at,
                coalesce(sums.starts_at, piece_ends_at) AS ends_at
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
                piece_ends_at
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
                        WHEN device_register = 'interval'
                            THEN analytics_is_plausible(
                                first_kwh,
                                effective_max_power_kw,
                                analytics_interval_seconds(
                                    extract(
                                        EPOCH FROM first_measured_at - lag(last_measured_at) OVER in_order
                                    )::float8,
                                    effective_cadence_seconds,
                                    step_reach_seconds
                                )
                            )
                        ELSE
                            first_kwh >= lag(last_kwh) OVER in_order
                            AND analytics_is_plausible(
                                first_kwh - lag(last_kwh) OVER in_order,
                                effective_max_power_kw,
                                extract(
                                    EPOCH FROM first_measured_at - lag(last_measured_at) OVER in_order
                                )::float8
                            )
                    END,
                    false
                ) AS goes_on,
                first_kwh - lag(last_kwh) OVER in_order AS rise_kwh
            FROM rolled_up
            WHERE device_register <> 'interval' OR effective_max_power_kw IS NOT NULL
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
            -- The missing hours too, each with the hour before and after.
            coalesce(sums.may_have_gaps, '{}') + coalesce(
                (
                    SELECT
                        range_agg(
                            tstzrange(
                                rest.starts_at - interval '1 hour', rest.ends_at + interval '1 hour'
                            )
                        )
                    FROM rest
                    WHERE
                        rest.starts_at < rest.ends_at
                        AND rest.starts_at > sums.starts_at
                        AND rest.ends_at < sums.ends_at
                ),
                '{}'
            ) AS may_have_gaps,
            sums.first_measured_at,
            (SELECT first_kwh FROM rolled_up ORDER BY hour LIMIT 1) AS first_kwh,
            sums.last_measured_at,
            0 AS last_kwh,
            sums.hours AS hours_rolled_up
        FROM sums
        WHERE
            sums.hours > 0 AND device_register = 'interval' AND effective_max_power_kw IS NULL
        UNION ALL
        -- Hours of other registers.
        SELECT
            false AS is_beyond,
            sum(readings) AS readings,
            sum(suspect_steps) AS suspect_steps,
            CASE
                WHEN device_register = 'interval' THEN sum(energy_ac_kwh)
                ELSE max(last_kwh) - min(first_kwh)
            END AS energy_kwh,
            sum(rises) + count(*) FILTER (WHERE goes_on AND rise_kwh > 0) AS rises,
            greatest(
                max(last_rose_at), max(first_measured_at) FILTER (WHERE goes_on AND rise_kwh > 0)
            ) AS last_rose_at,
            bool_and(is_plain) AS is_plain,
            bool_and(is_gapless) AS is_gapless,
            range_agg(tstzrange(hour - interval '1 hour', hour + interval '2 hours'))
                FILTER (WHERE NOT is_gapless) AS may_have_gaps,
            min(first_measured_at) AS first_measured_at,
            (array_agg(first_kwh ORDER BY hour))[1] AS first_kwh,
            max(last_measured_at) AS last_measured_at,
            (array_agg(last_kwh ORDER BY hour DESC))[1] AS last_kwh,
            count(*) AS hours_rolled_up
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
            NULL::tstzmultirange AS may_have_gaps,
            counted.first_measured_at,
            counted.first_kwh,
            counted.last_measured_at,
            counted.last_kwh,
            0 AS hours_rolled_up
        FROM rest
        CROSS JOIN LATERAL analytics_meter_span(
            device_id,
            rest.starts_at,
            rest.ends_at,
            device_register,
            device_scale,
            effective_max_power_kw,
            effective_cadence_seconds,
            step_reach_seconds,
            first,
            last
        ) AS counted
        WHERE
            rest.starts_at < rest.ends_at
            AND counted.readings > 0
            AND (piece_role = 0 OR device_register <> 'interval')
        UNION ALL
        SELECT
            true AS is_beyond,
            1 AS readings,
            0 AS suspect_steps,
            CASE device_register WHEN 'interval' THEN beyond.kwh * device_scale ELSE 0 END
                AS energy_kwh,
            0 AS rises,
            NULL AS last_rose_at,
            true AS is_plain,
            true AS is_gapless,
            NULL AS may_have_gaps,
            beyond.measured_at AS first_measured_at,
            beyond.kwh * device_scale AS first_kwh,
            beyond.measured_at AS last_measured_at,
            beyond.kwh * device_scale AS last_kwh,
            0 AS hours_rolled_up
        FROM analytics_meter_beyond(
            device_id,
            piece_role,
            piece_starts_at,
            piece_ends_at,
            device_register = 'interval'
        ) AS beyond
    ) AS block
$$;

-- The same for a vehicle.
CREATE OR REPLACE FUNCTION analytics_vehicle_blocks(
    device_id text,
    piece_starts_at timestamptz,
    piece_ends_at timestamptz,
    piece_role integer,
    device_register text,
    device_scale float8,
    effective_max_power_kw float8,
    effective_cadence_seconds float8,
    step_reach_seconds float8,
    current_rules text,
    first timestamptz,
    last timestamptz
) RETURNS TABLE (
    is_beyond boolean,
    readings bigint,
    suspect_steps bigint,
    energy_kwh float8,
    rises bigint,
    last_rose_at timestamptz,
    is_plain boolean,
    is_gapless boolean,
    may_have_gaps tstzmultirange,
    first_measured_at timestamptz,
    first_kwh float8,
    last_measured_at timestamptz,
    last_kwh float8,
    hours_rolled_up bigint,
    battery_temp_celsius_sum float8,
    battery_temp_readings bigint
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        block.is_beyond,
        block.readings::bigint,
        block.suspect_steps::bigint,
        block.energy_kwh::float8,
        block.rises::bigint,
        block.last_rose_at,
        block.is_plain,
        block.is_gapless,
        block.may_have_gaps,
        block.first_measured_at,
        block.first_kwh::float8,
        block.last_measured_at,
        block.last_kwh::float8,
        block.hours_rolled_up,
        block.battery_temp_celsius_sum::float8,
        block.battery_temp_readings::bigint
    FROM (
        -- Not materialized: its first reader sums it up as it streams, the others rarely read it.
        WITH rolled_up AS NOT MATERIALIZED (
            SELECT hour.*
            FROM analytics_vehiclehour AS hour
            WHERE
                hour.vehicle_id = device_id
                AND hour.hour >= piece_starts_at
                AND hour.hour <= piece_ends_at - interval '1 hour'
                AND hour.hour >= first
                AND hour.hour < last
                AND hour.rules = current_rules
                AND (piece_role = 0 OR device_register <> 'interval')
                AND hour.hour <> ALL (
                    ARRAY(
                        SELECT changed.hour
                        FROM ingestion_changedvehiclehour AS changed
                        WHERE
                            changed.vehicle_id = device_id
                            AND changed.hour >= piece_starts_at
                            AND changed.hour < piece_ends_at
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
                range_agg(tstzrange(hour - interval '1 hour', hour + interval '2 hours'))
                    FILTER (WHERE NOT is_gapless) AS may_have_gaps,
                min(first_measured_at) AS first_measured_at,
                max(last_measured_at) AS last_measured_at,
                sum(battery_temp_celsius_sum) AS battery_temp_celsius_sum,
                sum(battery_temp_readings) AS battery_temp_readings
            FROM rolled_up
        ),
        -- What no sum covers: before, between and after these hours.
        rest AS (
            SELECT
                piece_starts_at AS starts_at,
                coalesce(sums.starts_at, piece_ends_at) AS ends_at
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
                piece_ends_at
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
                        WHEN device_register = 'interval'
                            THEN analytics_is_plausible(
                                first_kwh,
                                effective_max_power_kw,
                                analytics_interval_seconds(
                                    extract(
                                        EPOCH FROM first_measured_at - lag(last_measured_at) OVER in_order
                                    )::float8,
                                    effective_cadence_seconds,
                                    step_reach_seconds
                                )
                            )
                        ELSE
                            first_kwh >= lag(last_kwh) OVER in_order
                            AND analytics_is_plausible(
                                first_kwh - lag(last_kwh) OVER in_order,
                                effective_max_power_kw,
                                extract(
                                    EPOCH FROM first_measured_at - lag(last_measured_at) OVER in_order
                                )::float8
                            )
                    END,
                    false
                ) AS goes_on,
                first_kwh - lag(last_kwh) OVER in_order AS rise_kwh
            FROM rolled_up
            WHERE device_register <> 'interval' OR effective_max_power_kw IS NOT NULL
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
            -- The missing hours too, each with the hour before and after.
            coalesce(sums.may_have_gaps, '{}') + coalesce(
                (
                    SELECT
                        range_agg(
                            tstzrange(
                                rest.starts_at - interval '1 hour', rest.ends_at + interval '1 hour'
                            )
                        )
                    FROM rest
                    WHERE
                        rest.starts_at < rest.ends_at
                        AND rest.starts_at > sums.starts_at
                        AND rest.ends_at < sums.ends_at
                ),
                '{}'
            ) AS may_have_gaps,
            sums.first_measured_at,
            (SELECT first_kwh FROM rolled_up ORDER BY hour LIMIT 1) AS first_kwh,
            sums.last_measured_at,
            0 AS last_kwh,
            sums.hours AS hours_rolled_up,
            sums.battery_temp_celsius_sum,
            sums.battery_temp_readings
        FROM sums
        WHERE
            sums.hours > 0 AND device_register = 'interval' AND effective_max_power_kw IS NULL
        UNION ALL
        -- Hours of other registers.
        SELECT
            false AS is_beyond,
            sum(readings) AS readings,
            sum(suspect_steps) AS suspect_steps,
            CASE
                WHEN device_register = 'interval' THEN sum(energy_dc_kwh)
                ELSE max(last_kwh) - min(first_kwh)
            END AS energy_kwh,
            sum(rises) + count(*) FILTER (WHERE goes_on AND rise_kwh > 0) AS rises,
            greatest(
                max(last_rose_at), max(first_measured_at) FILTER (WHERE goes_on AND rise_kwh > 0)
            ) AS last_rose_at,
            bool_and(is_plain) AS is_plain,
            bool_and(is_gapless) AS is_gapless,
            range_agg(tstzrange(hour - interval '1 hour', hour + interval '2 hours'))
                FILTER (WHERE NOT is_gapless) AS may_have_gaps,
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
            NULL::tstzmultirange AS may_have_gaps,
            counted.first_measured_at,
            counted.first_kwh,
            counted.last_measured_at,
            counted.last_kwh,
            0 AS hours_rolled_up,
            counted.battery_temp_celsius_sum,
            counted.battery_temp_readings
        FROM rest
        CROSS JOIN LATERAL analytics_vehicle_span(
            device_id,
            rest.starts_at,
            rest.ends_at,
            device_register,
            device_scale,
            effective_max_power_kw,
            effective_cadence_seconds,
            step_reach_seconds,
            first,
            last
        ) AS counted
        WHERE
            rest.starts_at < rest.ends_at
            AND counted.readings > 0
            AND (piece_role = 0 OR device_register <> 'interval')
        UNION ALL
        SELECT
            true AS is_beyond,
            1 AS readings,
            0 AS suspect_steps,
            CASE device_register WHEN 'interval' THEN beyond.kwh * device_scale ELSE 0 END
                AS energy_kwh,
            0 AS rises,
            NULL AS last_rose_at,
            true AS is_plain,
            true AS is_gapless,
            NULL AS may_have_gaps,
            beyond.measured_at AS first_measured_at,
            beyond.kwh * device_scale AS first_kwh,
            beyond.measured_at AS last_measured_at,
            beyond.kwh * device_scale AS last_kwh,
            0 AS hours_rolled_up,
            0 AS battery_temp_celsius_sum,
            0 AS battery_temp_readings
        FROM analytics_vehicle_beyond(
            device_id,
            piece_role,
            piece_starts_at,
            piece_ends_at,
            device_register = 'interval'
        ) AS beyond
    ) AS block
$$;

-- By which rules the energy of a meter is counted, and that of vehicles that share it, whose ids are
-- separated by line feeds.
CREATE OR REPLACE FUNCTION analytics_rules_of_shares(
    id_of_meter text, ids_of_vehicles text, default_max_power_kw float8
) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT string_agg(
        concat(register.rules, '|', device.rolls_over_at_kwh),
        E'\n' ORDER BY device.position, device.id
    )
    FROM (
        SELECT
            0 AS position,
            meter.meter_id AS id,
            meter.energy_register,
            meter.scale,
            meter.max_power_kw,
            meter.rolls_over_at_kwh,
            meter.interval_seconds,
            cadence.cadence_seconds
        FROM fleet_meter AS meter
        LEFT JOIN analytics_metercadence AS cadence ON cadence.meter_id = meter.meter_id
        WHERE meter.meter_id = id_of_meter
        UNION ALL
        SELECT
            1 AS position,
            vehicle.vehicle_id AS id,
            vehicle.energy_register,
            vehicle.scale,
            vehicle.max_power_kw,
            vehicle.rolls_over_at_kwh,
            vehicle.interval_seconds,
            cadence.cadence_seconds
        FROM fleet_vehicle AS vehicle
        LEFT JOIN analytics_vehiclecadence AS cadence ON cadence.vehicle_id = vehicle.vehicle_id
        WHERE vehicle.vehicle_id = ANY(string_to_array(ids_of_vehicles, E'\n'))
    ) AS device
    CROSS JOIN LATERAL analytics_register(
        device.energy_register,
        device.scale,
        device.max_power_kw,
        device.interval_seconds,
        device.cadence_seconds,
        default_max_power_kw
    ) AS register
$$;
