-- Append meter readings to history, move the live state of the meters forward, and mark the hours of
-- readings that arrive after their hour was settled. Return the meters that had no live state before:
-- only they can be unknown.
--
-- Parameters, arrays of equal length, sorted by meter:
--   meter_id               text[]
--   measured_at            timestamptz[]
--   energy_ac_kwh          float8[]
--   voltage_v              float8[], null where absent
--   received_at            timestamptz[]
--   is_newest              boolean[], true for the newest reading of each meter
-- and
--   register               boolean, whether to register unknown meters
--   ignore_case            boolean, whether A to Z equal a to z in external ids
--
-- Fails with a null meter_id in the registry if an unknown meter is another's external id. Uses the
-- primary keys of live state, registry and marks, and the index meter_external_id_lower;
-- device defaults are a few rows. Concurrent
-- statements lock live rows in the order of ids, so they cannot deadlock.
WITH delivered AS MATERIALIZED (
    SELECT *
    FROM unnest(
        %(meter_id)b::text[],
        %(measured_at)b::timestamptz[],
        %(energy_ac_kwh)b::float8[],
        %(voltage_v)b::float8[],
        %(received_at)b::timestamptz[],
        %(is_newest)b::boolean[]
    ) AS delivery (meter_id, measured_at, energy_ac_kwh, voltage_v, received_at, is_newest)
),
history AS (
    INSERT INTO ingestion_meterreading
        (measured_at, received_at, energy_ac_kwh, voltage_v, meter_id)
    SELECT measured_at, received_at, energy_ac_kwh, voltage_v, meter_id
    FROM delivered
),
live AS (
    INSERT INTO fleet_meterlivestate AS shown
        (meter_id, measured_at, received_at, energy_ac_kwh, voltage_v)
    SELECT meter_id, measured_at, received_at, energy_ac_kwh, voltage_v
    FROM delivered
    WHERE is_newest
    -- Of two deliveries with one timestamp, the one received last counts, as in history. A late one
    -- changes nothing, but locks the row and so sees the current `settled_before`.
    ON CONFLICT (meter_id) DO UPDATE SET
        measured_at = CASE
            WHEN (EXCLUDED.measured_at, EXCLUDED.received_at)
                >= (shown.measured_at, shown.received_at)
                THEN EXCLUDED.measured_at
            ELSE shown.measured_at
        END,
        received_at = CASE
            WHEN (EXCLUDED.measured_at, EXCLUDED.received_at)
                >= (shown.measured_at, shown.received_at)
                THEN EXCLUDED.received_at
            ELSE shown.received_at
        END,
        energy_ac_kwh = CASE
            WHEN (EXCLUDED.measured_at, EXCLUDED.received_at)
                >= (shown.measured_at, shown.received_at)
                THEN EXCLUDED.energy_ac_kwh
            ELSE shown.energy_ac_kwh
        END,
        voltage_v = CASE
            WHEN (EXCLUDED.measured_at, EXCLUDED.received_at)
                >= (shown.measured_at, shown.received_at)
                THEN COALESCE(EXCLUDED.voltage_v, shown.voltage_v)
            ELSE shown.voltage_v
        END
    RETURNING meter_id, received_at, xmax = 0 AS is_new, settled_before
),
marked AS (
    INSERT INTO ingestion_changedmeterhour AS known (meter_id, hour, changed_at)
    SELECT
        delivered.meter_id,
        date_bin('1 hour', delivered.measured_at, '2000-01-01 00:00Z') AS hour,
        max(delivered.received_at)
    FROM live
    INNER JOIN delivered ON delivered.meter_id = live.meter_id
    WHERE
        delivered.measured_at < live.settled_before
        -- Nearly always there is none; this finds that out without a join.
        AND delivered.measured_at < (SELECT max(settled_before) FROM live)
    GROUP BY delivered.meter_id, hour
    ORDER BY delivered.meter_id, hour
    -- Not DO NOTHING: the mark must not be removed before this transaction has ended. For that, a
    -- recent mark only has to be locked, and is not written again.
    ON CONFLICT (meter_id, hour) DO UPDATE SET changed_at = EXCLUDED.changed_at
    WHERE known.changed_at < EXCLUDED.changed_at - interval '30 seconds'
),
registered AS (
    INSERT INTO fleet_meter (
        meter_id,
        registered_at,
        energy_register,
        scale,
        max_power_kw,
        interval_seconds,
        rolls_over_at_kwh
    )
    SELECT
        -- Another meter's external id must not become an id: null makes the statement fail, and
        -- its caller look the ids up. Not a join, so that known meters cost nothing.
        CASE WHEN (
            SELECT true
            FROM fleet_meter AS other
            WHERE
                lower(other.external_id COLLATE "C") = lower(live.meter_id)
                AND other.external_id IS NOT NULL
                AND (%(ignore_case)s::boolean OR other.external_id COLLATE "C" = live.meter_id)
            LIMIT 1
        ) AND NOT EXISTS (
            SELECT FROM fleet_meter AS own WHERE own.meter_id = live.meter_id
        ) THEN null ELSE live.meter_id END,
        live.received_at,
        coalesce(defaults.energy_register, 'interval'),
        coalesce(defaults.scale, 1),
        defaults.max_power_kw,
        defaults.interval_seconds,
        defaults.rolls_over_at_kwh
    FROM live
    -- A lateral join: without new meters, the table of defaults is not even opened for reading.
    LEFT JOIN LATERAL (
        SELECT *
        FROM fleet_devicedefaults
        WHERE kind = 'meter' AND site_id IS NULL
        LIMIT 1
    ) AS defaults ON true
    WHERE live.is_new AND %(register)s::boolean
    ON CONFLICT (meter_id) DO NOTHING
)
SELECT meter_id AS device_id FROM live WHERE is_new
