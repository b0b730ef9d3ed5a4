-- Return the vehicles whose external id is one of the given texts: a row per text and vehicle, of which
-- `is_exact` says whether the case is the same. A text that is the id of a vehicle is no external id.
--
-- Paravehicles:
--   texts         text[]
--   ignore_case   boolean, whether A to Z equal a to z
--
-- Uses the index vehicle_external_id_lower and the primary key of the registry.
SELECT
    asked.external_id,
    known.vehicle_id AS device_id,
    known.external_id COLLATE "C" = asked.external_id AS is_exact
FROM unnest(%(texts)s::text[]) AS asked (external_id)
INNER JOIN fleet_vehicle AS known
    ON lower(known.external_id COLLATE "C") = lower(asked.external_id COLLATE "C")
WHERE
    known.external_id IS NOT NULL
    AND (%(ignore_case)s::boolean OR known.external_id COLLATE "C" = asked.external_id)
    AND NOT EXISTS (SELECT FROM fleet_vehicle AS own WHERE own.vehicle_id = asked.external_id)
