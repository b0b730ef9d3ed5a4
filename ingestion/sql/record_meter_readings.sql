-- Append meter readings to history and move the live state of the meters forward. Returns the
-- meters that had no live state before: the only ones that can be unknown.
--
-- Parameters, arrays of one length, sorted by meter:
--   meter_id               text[]
--   measured_at            timestamptz[]
--   energy_ac_kwh          float8[]
--   voltage_v              float8[], null where absent
--   received_at            timestamptz[]
--   is_newest              boolean[], true for the newest reading of each meter
-- and
--   register               boolean, whether unknown meters join the registry
--
-- Leans on the primary keys of live state and registry. Concurrent statements lock live rows in
-- the order of ids, so they cannot deadlock.
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
    ON CONFLICT (meter_id) DO UPDATE SET
        measured_at = EXCLUDED.measured_at,
        received_at = EXCLUDED.received_at,
        energy_ac_kwh = EXCLUDED.energy_ac_kwh,
        voltage_v = COALESCE(EXCLUDED.voltage_v, shown.voltage_v)
    -- Of two deliveries with one timestamp, the one received last counts; here as in history.
    WHERE (EXCLUDED.measured_at, EXCLUDED.received_at) >= (shown.measured_at, shown.received_at)
    RETURNING meter_id, received_at, xmax = 0 AS is_new
),
registered AS (
    INSERT INTO fleet_meter (meter_id, energy_register, registered_at)
    SELECT meter_id, 'interval', received_at
    FROM live
    WHERE is_new AND %(register)s::boolean
    ON CONFLICT (meter_id) DO NOTHING
)
SELECT meter_id AS device_id FROM live WHERE is_new
