-- Vehicles with an interval register whose values in the last 24 hours never fall, are never 0 and keep
-- rising, as only those of a counter do. Retired ones are left out.
--
-- Parameters: now timestamptz; since timestamptz, where the 24 hours begin.
--
-- Leans on the primary keys: few vehicles need more than their first reading since then.
WITH candidate AS MATERIALIZED (
    SELECT
        live.vehicle_id,
        first.energy_dc_kwh AS first_kwh,
        live.energy_dc_kwh AS last_kwh,
        vehicle.scale
    FROM fleet_vehiclelivestate AS live
    INNER JOIN fleet_vehicle AS vehicle ON vehicle.vehicle_id = live.vehicle_id
    CROSS JOIN LATERAL (
        SELECT measured_at, energy_dc_kwh
        FROM ingestion_vehiclereading
        WHERE
            vehicle_id = live.vehicle_id
            AND measured_at >= %(since)s::timestamptz
            AND measured_at < live.measured_at
        ORDER BY measured_at
        LIMIT 1
    ) AS first
    WHERE
        vehicle.energy_register = 'interval'
        AND (vehicle.retired_at IS NULL OR vehicle.retired_at > %(now)s::timestamptz)
        AND live.energy_dc_kwh > 0
        AND live.measured_at >= %(since)s::timestamptz + interval '20 hours'
        AND live.measured_at - first.measured_at >= interval '20 hours'
        AND first.energy_dc_kwh > 0
        AND first.energy_dc_kwh < live.energy_dc_kwh
        -- Nearly all are done with after a few readings.
        AND NOT EXISTS (
            SELECT 1
            FROM (
                SELECT
                    energy_dc_kwh,
                    lag(energy_dc_kwh) OVER (ORDER BY measured_at DESC) AS after_kwh
                FROM (
                    SELECT measured_at, energy_dc_kwh
                    FROM ingestion_vehiclereading
                    WHERE vehicle_id = live.vehicle_id AND measured_at >= %(since)s::timestamptz
                    ORDER BY measured_at DESC
                    LIMIT 20
                ) AS newest
            ) AS step
            -- With corrections, a few may seem to fall.
            GROUP BY ()
            HAVING count(*) FILTER (WHERE energy_dc_kwh > after_kwh) > 5
        )
)
SELECT
    candidate.vehicle_id AS device_id,
    candidate.first_kwh,
    candidate.last_kwh,
    candidate.scale,
    counted.readings,
    counted.rises
FROM candidate
CROSS JOIN LATERAL (
    SELECT
        count(*) AS readings,
        count(*) FILTER (WHERE energy_dc_kwh > before_kwh) AS rises,
        count(*) FILTER (WHERE energy_dc_kwh < before_kwh OR energy_dc_kwh = 0) AS falls
    FROM (
        SELECT
            energy_dc_kwh,
            lag(energy_dc_kwh) OVER (ORDER BY measured_at) AS before_kwh
        FROM (
            SELECT DISTINCT ON (measured_at)
                measured_at,
                energy_dc_kwh
            FROM ingestion_vehiclereading
            WHERE vehicle_id = candidate.vehicle_id AND measured_at >= %(since)s::timestamptz
            ORDER BY measured_at ASC, received_at DESC, id DESC
        ) AS reading
    ) AS step
) AS counted
WHERE counted.readings >= 20 AND counted.rises >= 10 AND counted.falls = 0
ORDER BY candidate.vehicle_id
