-- Functions that every calculation of sums shares. A migration installs them; the planner inlines them.

-- The energy between two readings of a counter, in kWh; null if it is suspect, because the device can't
-- take that much in that time. A counter that drops was reset, and has counted from zero since. Without
-- a previous reading there is no step: 0.
CREATE OR REPLACE FUNCTION analytics_step_kwh(
    previous_kwh float8,
    previous_at timestamptz,
    current_kwh float8,
    current_at timestamptz,
    max_power_kw float8
) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN previous_kwh IS NULL THEN 0
    WHEN
        current_kwh - CASE WHEN current_kwh >= previous_kwh THEN previous_kwh ELSE 0 END
        > max_power_kw * extract(EPOCH FROM current_at - previous_at)::float8 / 3600
        THEN NULL
    ELSE current_kwh - CASE WHEN current_kwh >= previous_kwh THEN previous_kwh ELSE 0 END
END;

-- One span of one meter, from history: each timestamp counted once, with the delivery received last.
-- One row, with readings = 0 if there are none. For a counter, the energy is that of the steps between
-- readings of the span. The span lies between first and last, which the planner knows before the
-- statement starts: partitions outside are not even opened.
CREATE OR REPLACE FUNCTION analytics_meter_span(
    device_id text,
    starts_at timestamptz,
    ends_at timestamptz,
    energy_register text,
    max_power_kw float8,
    first timestamptz,
    last timestamptz
) RETURNS TABLE (
    readings bigint,
    suspect_steps bigint,
    energy_kwh float8,
    first_measured_at timestamptz,
    first_kwh float8,
    last_measured_at timestamptz,
    last_kwh float8
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT
        count(*),
        count(*) FILTER (WHERE step.energy_kwh IS NULL),
        coalesce(sum(step.energy_kwh), 0),
        min(step.measured_at),
        max(step.kwh) FILTER (WHERE step.is_first),
        max(step.measured_at),
        max(step.kwh) FILTER (WHERE step.is_last)
    FROM (
        SELECT
            counted.measured_at,
            counted.kwh,
            lag(counted.measured_at) OVER in_order IS NULL AS is_first,
            lead(counted.measured_at) OVER in_order IS NULL AS is_last,
            CASE
                WHEN energy_register = 'interval' THEN counted.kwh
                ELSE analytics_step_kwh(
                    lag(counted.kwh) OVER in_order,
                    lag(counted.measured_at) OVER in_order,
                    counted.kwh,
                    counted.measured_at,
                    max_power_kw
                )
            END AS energy_kwh
        FROM (
            SELECT DISTINCT ON (reading.measured_at)
                reading.measured_at,
                reading.energy_ac_kwh AS kwh
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
    max_power_kw float8,
    first timestamptz,
    last timestamptz
) RETURNS TABLE (
    readings bigint,
    suspect_steps bigint,
    energy_kwh float8,
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
        count(*) FILTER (WHERE step.energy_kwh IS NULL),
        coalesce(sum(step.energy_kwh), 0),
        min(step.measured_at),
        max(step.kwh) FILTER (WHERE step.is_first),
        max(step.measured_at),
        max(step.kwh) FILTER (WHERE step.is_last),
        coalesce(sum(step.battery_temp_celsius), 0),
        count(step.battery_temp_celsius)
    FROM (
        SELECT
            counted.measured_at,
            counted.kwh,
            lag(counted.measured_at) OVER in_order IS NULL AS is_first,
            lead(counted.measured_at) OVER in_order IS NULL AS is_last,
            CASE
                WHEN energy_register = 'interval' THEN counted.kwh
                ELSE analytics_step_kwh(
                    lag(counted.kwh) OVER in_order,
                    lag(counted.measured_at) OVER in_order,
                    counted.kwh,
                    counted.measured_at,
                    max_power_kw
                )
            END AS energy_kwh,
            counted.battery_temp_celsius
        FROM (
            SELECT DISTINCT ON (reading.measured_at)
                reading.measured_at,
                reading.energy_dc_kwh AS kwh,
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
