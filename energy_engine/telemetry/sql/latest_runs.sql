-- The newest run of each periodic job, its last failure, its last success and its number of failures.
-- One row per job.
--
-- Parameters: task_names text[]; failed_since timestamptz, the earliest failure to look for.
--
-- At most one run of a job is waiting and at most one is running, so the newest started run is among
-- the newest three.
-- Leans on procrastinate_periodic_defers_unique, procrastinate_jobs_pkey and
-- procrastinate_events_job_id_fkey_v1: finished jobs are many, and no index finds them by name.
SELECT
    task.name AS task_name,
    run.status::text AS status,
    run.started_at,
    run.ended_at,
    failure.failed_at,
    failure.failures,
    success.succeeded_at
FROM unnest(%(task_names)s::text []) AS task (name)
LEFT JOIN LATERAL (
    SELECT
        job.status,
        event.started_at,
        CASE WHEN job.status NOT IN ('todo', 'doing') THEN event.ended_at END AS ended_at
    FROM (
        SELECT defer.job_id
        FROM procrastinate_periodic_defers AS defer
        WHERE defer.task_name = task.name AND defer.periodic_id = ''
        ORDER BY defer.defer_timestamp DESC
        LIMIT 3
    ) AS turn
    INNER JOIN procrastinate_jobs AS job ON turn.job_id = job.id
    INNER JOIN LATERAL (
        SELECT
            max(happened.at) FILTER (WHERE happened.type = 'started') AS started_at,
            max(happened.at) FILTER (
                WHERE happened.type IN ('succeeded', 'failed', 'aborted')
            ) AS ended_at
        FROM procrastinate_events AS happened
        WHERE happened.job_id = job.id
    ) AS event ON event.started_at IS NOT NULL
    ORDER BY event.started_at DESC
    LIMIT 1
) AS run ON TRUE
LEFT JOIN LATERAL (
    SELECT
        max(happened.at) AS failed_at,
        count(DISTINCT job.id) AS failures
    FROM procrastinate_periodic_defers AS defer
    INNER JOIN procrastinate_jobs AS job ON defer.job_id = job.id AND job.status = 'failed'
    INNER JOIN procrastinate_events AS happened
        ON job.id = happened.job_id AND happened.type = 'failed'
    WHERE
        defer.task_name = task.name
        AND defer.periodic_id = ''
        AND defer.defer_timestamp >= extract(EPOCH FROM %(failed_since)s::timestamptz)::bigint
) AS failure ON TRUE
LEFT JOIN LATERAL (
    SELECT happened.at AS succeeded_at
    FROM procrastinate_periodic_defers AS defer
    INNER JOIN procrastinate_jobs AS job ON defer.job_id = job.id AND job.status = 'succeeded'
    INNER JOIN procrastinate_events AS happened
        ON job.id = happened.job_id AND happened.type = 'succeeded'
    WHERE defer.task_name = task.name AND defer.periodic_id = ''
    ORDER BY defer.defer_timestamp DESC
    LIMIT 1
) AS success ON TRUE
ORDER BY task.name
