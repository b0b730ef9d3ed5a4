-- The meters and the vehicles that have no link in a window. One row, two arrays.
--
-- Parameters: starts_at, ends_at timestamptz (half-open).
--
-- Leans on the indexes of links.
SELECT
    array(
        SELECT meter.meter_id
        FROM fleet_meter AS meter
        WHERE NOT EXISTS (
            SELECT FROM fleet_vehiclemeterlink AS link
            WHERE
                link.meter_id = meter.meter_id
                AND link.valid_during
                && tstzrange(%(starts_at)s::timestamptz, %(ends_at)s::timestamptz)
        )
    ) AS meter_ids,
    array(
        SELECT vehicle.vehicle_id
        FROM fleet_vehicle AS vehicle
        WHERE NOT EXISTS (
            SELECT FROM fleet_vehiclemeterlink AS link
            WHERE
                link.vehicle_id = vehicle.vehicle_id
                AND link.valid_during
                && tstzrange(%(starts_at)s::timestamptz, %(ends_at)s::timestamptz)
        )
    ) AS vehicle_ids
