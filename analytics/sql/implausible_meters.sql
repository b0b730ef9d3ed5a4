-- Meters of whose energy much was left out as suspect in the last 24 hours, and the power that their
-- readings imply. Retired ones are left out.
--
-- Parameters: now timestamptz; snapshot_since timestamptz, how old their snapshot may be; since
-- timestamptz, where the 24 hours begin; most_kw float8, the power that is assumed to be plausible for counters.
--
-- Leans on the primary keys: only such meters are looked up in history.
SELECT
    day.meter_id AS device_id,
    meter.scale,
    meter.max_power_kw,
    implied.rises,
    implied.over_limit,
    implied.median_kw,
    implied.most_kw
FROM analytics_meterday AS day
INNER JOIN fleet_meter AS meter ON meter.meter_id = day.meter_id
CROSS JOIN LATERAL (
    SELECT
        count(*) AS rises,
        count(*) FILTER (WHERE power.kw > 1.1 * coalesce(meter.max_power_kw, %(most_kw)s::float8))
        AS over_limit,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY power.kw) AS median_kw,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY power.kw) AS most_kw
    FROM (
        SELECT
            meter.scale * 3600 * (
                energy_ac_kwh - CASE
                    WHEN meter.energy_register = 'interval' THEN 0
                    ELSE lag(energy_ac_kwh) OVER in_order
                END
            ) / extract(EPOCH FROM measured_at - lag(measured_at) OVER in_order)::float8 AS kw
        FROM (
            SELECT DISTINCT ON (measured_at)
                measured_at,
                energy_ac_kwh
            FROM ingestion_meterreading
            WHERE meter_id = day.meter_id AND measured_at >= %(since)s::timestamptz
            ORDER BY measured_at ASC, received_at DESC, id DESC
        ) AS reading
        WINDOW in_order AS (ORDER BY measured_at)
    ) AS power
    WHERE power.kw > 0
) AS implied
WHERE
    day.ends_at >= %(snapshot_since)s::timestamptz
    AND (meter.retired_at IS NULL OR meter.retired_at > %(now)s::timestamptz)
    AND day.suspect_steps >= 10
    AND implied.over_limit >= 10
    AND implied.over_limit >= 0.5 * implied.rises
ORDER BY day.meter_id
