-- The links of vehicles in a window, each with every link to the same meter that overlaps it, itself
-- among them. Links of one vehicle to one meter that touch are one. One row without links for a
-- vehicle that has none; no row for an unknown one.
--
-- Parameters: vehicle_ids text[]; starts_at, ends_at timestamptz (half-open).
--
-- Leans on the exclusion index (vehicle, valid_during) and on the index on meter.
SELECT
    vehicle.vehicle_id,
    own.meter_id,
    lower(own.span) AS starts_at,
    upper(own.span) AS ends_at,
    other.vehicle_id AS other_vehicle_id,
    lower(other.span) AS other_starts_at,
    upper(other.span) AS other_ends_at
FROM fleet_vehicle AS vehicle
LEFT JOIN LATERAL (
    -- A union of ranges joins those that touch.
    SELECT
        link.meter_id,
        unnest(
            range_agg(
                link.valid_during
                * tstzrange(%(starts_at)s::timestamptz, %(ends_at)s::timestamptz)
            )
        ) AS span
    FROM fleet_vehiclemeterlink AS link
    WHERE
        link.vehicle_id = vehicle.vehicle_id
        AND link.valid_during && tstzrange(%(starts_at)s::timestamptz, %(ends_at)s::timestamptz)
    GROUP BY link.meter_id
) AS own ON true
LEFT JOIN LATERAL (
    SELECT
        link.vehicle_id,
        unnest(range_agg(link.valid_during)) AS span
    FROM fleet_vehiclemeterlink AS link
    WHERE link.meter_id = own.meter_id AND link.valid_during && own.span
    GROUP BY link.vehicle_id
) AS other ON true
WHERE vehicle.vehicle_id = ANY(%(vehicle_ids)b::text[])
ORDER BY vehicle.vehicle_id, starts_at, other_starts_at, other_vehicle_id
