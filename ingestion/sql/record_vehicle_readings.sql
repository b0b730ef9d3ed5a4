-- Append vehicle readings to history and move the live state of the vehicles forward. Returns the
-- vehicles that had no live state before: the only ones that can be unknown.
--
-- Parameters, arrays of one length, sorted by vehicle:
--   vehicle_id             text[]
--   measured_at            timestamptz[]
--   energy_dc_kwh          float8[]
--   soc_percent            float8[], null where absent
--   battery_temp_celsius   float8[], null where absent
--   received_at            timestamptz[]
--   is_newest              boolean[], true for the newest reading of each vehicle
-- and
--   register               boolean, whether unknown vehicles join the registry
--
-- Leans on the primary keys of live state and registry. Concurrent statements lock live rows in
-- the order of ids, so they cannot deadlock.
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
    ON CONFLICT (vehicle_id) DO UPDATE SET
        measured_at = EXCLUDED.measured_at,
        received_at = EXCLUDED.received_at,
        energy_dc_kwh = EXCLUDED.energy_dc_kwh,
        soc_percent = COALESCE(EXCLUDED.soc_percent, shown.soc_percent),
        battery_temp_celsius = COALESCE(
            EXCLUDED.battery_temp_celsius, shown.battery_temp_celsius
        )
    -- Of two deliveries with one timestamp, the one received last counts; here as in history.
    WHERE (EXCLUDED.measured_at, EXCLUDED.received_at) >= (shown.measured_at, shown.received_at)
    RETURNING vehicle_id, received_at, xmax = 0 AS is_new
),
registered AS (
    INSERT INTO fleet_vehicle (vehicle_id, energy_register, registered_at)
    SELECT vehicle_id, 'interval', received_at
    FROM live
    WHERE is_new AND %(register)s::boolean
    ON CONFLICT (vehicle_id) DO NOTHING
)
SELECT vehicle_id AS device_id FROM live WHERE is_new
