-- Return the meters whose external id is one of the given texts: a row per text and meter, of which
-- `is_exact` says whether the case is the same. A text that is the id of a meter is no external id.
--
-- Parameters:
--   texts         text[]
--   ignore_case   boolean, whether A to Z equal a to z
--
-- Uses the index meter_external_id_lower and the primary key of the registry.
SELECT
    asked.external_id,
    known.meter_id AS device_id,
    known.external_id COLLATE "C" = asked.external_id AS is_exact
FROM unnest(%(texts)s::text[]) AS asked (external_id)
INNER JOIN fleet_meter AS known
    ON lower(known.external_id COLLATE "C") = lower(asked.external_id COLLATE "C")
WHERE
    known.external_id IS NOT NULL
    AND (%(ignore_case)s::boolean OR known.external_id COLLATE "C" = asked.external_id)
    AND NOT EXISTS (SELECT FROM fleet_meter AS own WHERE own.meter_id = asked.external_id)
