-- Where a counter's step into a span starts. A migration installs these functions; the planner inlines
-- them.

-- The last counted reading of a meter before an instant: from history, or from a partition that went
-- into the archive. No row if there is none.
CREATE OR REPLACE FUNCTION analytics_meter_before(
    device_id text, at timestamptz
) RETURNS TABLE (kwh float8, measured_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        latest.kwh,
        latest.measured_at
    FROM (
        (
            SELECT
                reading.energy_ac_kwh AS kwh,
                reading.measured_at,
                1 AS rank
            FROM ingestion_meterreading AS reading
            WHERE reading.meter_id = device_id AND reading.measured_at < at
            ORDER BY reading.measured_at DESC, reading.received_at DESC, reading.id DESC
            LIMIT 1
        )
        UNION ALL
        (
            SELECT
                register.energy_ac_kwh AS kwh,
                register.measured_at,
                0 AS rank
            FROM ingestion_meterregister AS register
            WHERE register.meter_id = device_id AND register.measured_at < at
            ORDER BY register.measured_at DESC
            LIMIT 1
        )
    ) AS latest
    -- A reading of history may have replaced the archived one.
    ORDER BY latest.measured_at DESC, latest.rank DESC
    LIMIT 1
$$;

-- The same for a vehicle.
CREATE OR REPLACE FUNCTION analytics_vehicle_before(
    device_id text, at timestamptz
) RETURNS TABLE (kwh float8, measured_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        latest.kwh,
        latest.measured_at
    FROM (
        (
            SELECT
                reading.energy_dc_kwh AS kwh,
                reading.measured_at,
                1 AS rank
            FROM ingestion_vehiclereading AS reading
            WHERE reading.vehicle_id = device_id AND reading.measured_at < at
            ORDER BY reading.measured_at DESC, reading.received_at DESC, reading.id DESC
            LIMIT 1
        )
        UNION ALL
        (
            SELECT
                register.energy_dc_kwh AS kwh,
                register.measured_at,
                0 AS rank
            FROM ingestion_vehicleregister AS register
            WHERE register.vehicle_id = device_id AND register.measured_at < at
            ORDER BY register.measured_at DESC
            LIMIT 1
        )
    ) AS latest
    -- A reading of history may have replaced the archived one.
    ORDER BY latest.measured_at DESC, latest.rank DESC
    LIMIT 1
$$;
