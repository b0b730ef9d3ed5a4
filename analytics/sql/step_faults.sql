-- Apply the changes that the watch has found to faults: a new value, a cause that is gone or back, or
-- closing. Returns the changes of faults that close. A fault that somebody closed meanwhile stays as it
-- is.
--
-- Parameters: fault_ids bigint[], were_closed boolean[], values float8[], recovering_since
-- timestamptz[], notes text[] (null: it does not close), one each per fault; now timestamptz.
--
-- Leans on the primary key.
WITH stepped AS (
    UPDATE analytics_fault AS fault
    SET
        value = step.value,
        recovering_since = step.recovering_since,
        state = CASE WHEN step.note IS NULL THEN fault.state ELSE 'closed' END,
        closed_at = CASE WHEN step.note IS NULL THEN fault.closed_at ELSE %(now)s::timestamptz END
    FROM
        unnest(
            %(fault_ids)s::bigint[],
            %(were_closed)s::boolean[],
            %(values)s::float8[],
            %(recovering_since)s::timestamptz[],
            %(notes)s::text[]
        ) AS step (fault_id, was_closed, value, recovering_since, note)
    WHERE fault.id = step.fault_id AND (fault.state = 'closed') = step.was_closed
    RETURNING fault.id, step.note
)
INSERT INTO analytics_faultchange (fault_id, changed_at, state, note)
SELECT
    id,
    %(now)s::timestamptz,
    'closed',
    note
FROM stepped
WHERE note IS NOT NULL
RETURNING id AS change_id
