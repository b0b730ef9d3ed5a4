-- The devices whose clock is known to be wrong, by their ids and by their external ids. A device whose id
-- is another's external id comes last, because the id counts.
--
-- No parameters. Leans on the partial indexes meter_clock_offset and vehicle_clock_offset.
SELECT
    kind,
    name,
    clock_offset_seconds
FROM (
    SELECT 'meter' AS kind, external_id AS name, clock_offset_seconds, false AS is_id
    FROM fleet_meter
    WHERE clock_offset_seconds <> 0 AND external_id IS NOT NULL
    UNION ALL
    SELECT 'meter', meter_id, clock_offset_seconds, true
    FROM fleet_meter
    WHERE clock_offset_seconds <> 0
    UNION ALL
    SELECT 'vehicle', external_id, clock_offset_seconds, false
    FROM fleet_vehicle
    WHERE clock_offset_seconds <> 0 AND external_id IS NOT NULL
    UNION ALL
    SELECT 'vehicle', vehicle_id, clock_offset_seconds, true
    FROM fleet_vehicle
    WHERE clock_offset_seconds <> 0
) AS known
ORDER BY is_id
