-- The links of vehicles in a window, each with every link to the same meter that overlaps it, including
-- itself. One row without links for a vehicle that has none; no row for an unknown vehicle.
--
-- Parameters: vehicle_ids text[]; starts_at, ends_at timestamptz (half-open).
--
-- Leans on the exclusion index (vehicle, valid_during) and on the index on meter.
SELECT
    vehicle.vehicle_id,
    own.meter_id,
    own.starts_at,
    own.ends_at,
    other.vehicle_id AS other_vehicle_id,
    lower(other.valid_during) AS other_starts_at,
    upper(other.valid_during) AS other_ends_at
FROM fleet_vehicle AS vehicle
LEFT JOIN LATERAL (
    SELECT
        link.meter_id,
        greatest(lower(link.valid_during), %(starts_at)s::timestamptz) AS starts_at,
        least(upper(link.valid_during), %(ends_at)s::timestamptz) AS ends_at
    FROM fleet_vehiclemeterlink AS link
    WHERE
        link.vehicle_id = vehicle.vehicle_id
        AND link.valid_during && tstzrange(%(starts_at)s::timestamptz, %(ends_at)s::timestamptz)
) AS own ON true
LEFT JOIN fleet_vehiclemeterlink AS other
    ON
        other.meter_id = own.meter_id
        AND other.valid_during && tstzrange(own.starts_at, own.ends_at)
WHERE vehicle.vehicle_id = ANY(%(vehicle_ids)b::text[])
ORDER BY vehicle.vehicle_id, own.starts_at, other_starts_at, other_vehicle_id
