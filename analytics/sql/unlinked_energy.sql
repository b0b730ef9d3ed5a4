-- AC energy of all meters, and DC energy of all vehicles, that have no link in a window; each
-- delivery counted once. One row.
--
-- Parameters: starts_at, ends_at timestamptz (half-open).
--
-- Leans on the primary keys of the partitions of the window, one descent for each device, and on
-- the indexes of links.
SELECT
    meters.readings AS meter_readings,
    meters.energy_ac_kwh,
    vehicles.energy_dc_kwh
FROM (
    SELECT
        count(*) AS readings,
        coalesce(sum(counted.energy_ac_kwh), 0) AS energy_ac_kwh
    FROM fleet_meter AS meter
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (measured_at) energy_ac_kwh
        FROM ingestion_meterreading
        WHERE
            meter_id = meter.meter_id
            AND measured_at >= %(starts_at)s::timestamptz
            AND measured_at < %(ends_at)s::timestamptz
        ORDER BY measured_at, received_at DESC, id DESC
    ) AS counted
    WHERE NOT EXISTS (
        SELECT FROM fleet_vehiclemeterlink AS link
        WHERE
            link.meter_id = meter.meter_id
            AND link.valid_during
            && tstzrange(%(starts_at)s::timestamptz, %(ends_at)s::timestamptz)
    )
) AS meters
CROSS JOIN (
    SELECT coalesce(sum(counted.energy_dc_kwh), 0) AS energy_dc_kwh
    FROM fleet_vehicle AS vehicle
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (measured_at) energy_dc_kwh
        FROM ingestion_vehiclereading
        WHERE
            vehicle_id = vehicle.vehicle_id
            AND measured_at >= %(starts_at)s::timestamptz
            AND measured_at < %(ends_at)s::timestamptz
        ORDER BY measured_at, received_at DESC, id DESC
    ) AS counted
    WHERE NOT EXISTS (
        SELECT FROM fleet_vehiclemeterlink AS link
        WHERE
            link.vehicle_id = vehicle.vehicle_id
            AND link.valid_during
            && tstzrange(%(starts_at)s::timestamptz, %(ends_at)s::timestamptz)
    )
) AS vehicles
