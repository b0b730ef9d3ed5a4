-- Append vehicle readings to history, move the live state of the vehicles forward, and mark the hours
-- of readings that arrive after their hour was settled. Return the vehicles that had no live state
-- before: only they can be unknown.
--
-- Parameters, arrays of equal length, sorted by vehicle:
--   vehicle_id             text[]
--   measured_at            timestamptz[]
--   energy_dc_kwh          float8[]
--   soc_percent            float8[], null where absent
--   battery_temp_celsius   float8[], null where absent
--   received_at            timestamptz[]
--   is_newest              boolean[], true for the newest reading of each vehicle
-- and
--   register               boolean, whether to register unknown vehicles
--   ignore_case            boolean, whether A to Z equal a to z in external ids
--
-- Fails with a null vehicle_id in the registry if an unknown vehicle is another's external id. Uses
-- the primary keys of live state, registry and marks, and the index vehicle_external_id_lower;
-- device defaults are a few rows.
-- Concurrent statements lock live rows in the order of ids, so they cannot deadlock.
WITH delivered AS MATERIALIZED (
    SELECT *
    FROM unnest(
        %(vehicle_id)b::text[],
        %(measured_at)b::timestamptz[],
        %(energy_dc_kwh)b::float8[],
        %(soc_percent)b::float8[],
        %(battery_temp_celsius)b::float8[],
        %(received_at)b::timestamptz[],
        %(is_newest)b::boolean[]
    ) AS delivery (
        vehicle_id,
        measured_at,
        energy_dc_kwh,
        soc_percent,
        battery_temp_celsius,
        received_at,
        is_newest
    )
),
history AS (
    INSERT INTO ingestion_vehiclereading
        (measured_at, received_at, energy_dc_kwh, soc_percent, battery_temp_celsius, vehicle_id)
    SELECT
        measured_at,
        received_at,
        energy_dc_kwh,
        soc_percent,
        battery_temp_celsius,
        vehicle_id
    FROM delivered
),
live AS (
    INSERT INTO fleet_vehiclelivestate AS shown
        (vehicle_id, measured_at, received_at, energy_dc_kwh, soc_percent, battery_temp_celsius)
    SELECT
        vehicle_id,
        measured_at,
        received_at,
        energy_dc_kwh,
        soc_percent,
        battery_temp_celsius
    FROM delivered
    WHERE is_newest
    -- Of two deliveries with one timestamp, the one received last counts, as in history. A late one
    -- changes nothing, but locks the row and so sees the current `settled_before`.
    ON CONFLICT (vehicle_id) DO UPDATE SET
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
        energy_dc_kwh = CASE
            WHEN (EXCLUDED.measured_at, EXCLUDED.received_at)
                >= (shown.measured_at, shown.received_at)
                THEN EXCLUDED.energy_dc_kwh
            ELSE shown.energy_dc_kwh
        END,
        soc_percent = CASE
            WHEN (EXCLUDED.measured_at, EXCLUDED.received_at)
                >= (shown.measured_at, shown.received_at)
                THEN COALESCE(EXCLUDED.soc_percent, shown.soc_percent)
            ELSE shown.soc_percent
        END,
        battery_temp_celsius = CASE
            WHEN (EXCLUDED.measured_at, EXCLUDED.received_at)
                >= (shown.measured_at, shown.received_at)
                THEN COALESCE(EXCLUDED.battery_temp_celsius, shown.battery_temp_celsius)
            ELSE shown.battery_temp_celsius
        END
    RETURNING vehicle_id, received_at, xmax = 0 AS is_new, settled_before
),
marked AS (
    INSERT INTO ingestion_changedvehiclehour AS known (vehicle_id, hour, changed_at)
    SELECT
        delivered.vehicle_id,
        date_bin('1 hour', delivered.measured_at, '2000-01-01 00:00Z') AS hour,
        max(delivered.received_at)
    FROM live
    INNER JOIN delivered ON delivered.vehicle_id = live.vehicle_id
    WHERE
        delivered.measured_at < live.settled_before
        -- Nearly always there is none; this finds that out without a join.
        AND delivered.measured_at < (SELECT max(settled_before) FROM live)
    GROUP BY delivered.vehicle_id, hour
    ORDER BY delivered.vehicle_id, hour
    -- Not DO NOTHING: the mark must not be removed before this transaction has ended. For that, a
    -- recent mark only has to be locked, and is not written again.
    ON CONFLICT (vehicle_id, hour) DO UPDATE SET changed_at = EXCLUDED.changed_at
    WHERE known.changed_at < EXCLUDED.changed_at - interval '30 seconds'
),
registered AS (
    INSERT INTO fleet_vehicle (
        vehicle_id,
        registered_at,
        energy_register,
        scale,
        max_power_kw,
        interval_seconds,
        rolls_over_at_kwh
    )
    SELECT
        -- Another vehicle's external id must not become an id: null makes the statement fail, and
        -- its caller look the ids up. Not a join, so that known vehicles cost nothing.
        CASE WHEN (
            SELECT true
            FROM fleet_vehicle AS other
            WHERE
                lower(other.external_id COLLATE "C") = lower(live.vehicle_id)
                AND other.external_id IS NOT NULL
                AND (%(ignore_case)s::boolean OR other.external_id COLLATE "C" = live.vehicle_id)
            LIMIT 1
        ) AND NOT EXISTS (
            SELECT FROM fleet_vehicle AS own WHERE own.vehicle_id = live.vehicle_id
        ) THEN null ELSE live.vehicle_id END,
        live.received_at,
        coalesce(defaults.energy_register, 'interval'),
        coalesce(defaults.scale, 1),
        defaults.max_power_kw,
        defaults.interval_seconds,
        defaults.rolls_over_at_kwh
    FROM live
    -- A lateral join: without new vehicles, the table of defaults is not even opened for reading.
    LEFT JOIN LATERAL (
        SELECT *
        FROM fleet_devicedefaults
        WHERE kind = 'vehicle' AND site_id IS NULL
        LIMIT 1
    ) AS defaults ON true
    WHERE live.is_new AND %(register)s::boolean
    ON CONFLICT (vehicle_id) DO NOTHING
)
SELECT vehicle_id AS device_id FROM live WHERE is_new
