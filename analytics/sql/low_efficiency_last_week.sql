-- How many faults of low efficiency and of standby loss would have opened, by the hourly sums: at the end
-- of each hour, the DC of a vehicle in the previous 24 hours against the AC of the meters that it was
-- linked to when each hour began. Without DC, the AC is a standby loss if the vehicle reported. A vehicle
-- whose fault would have been open when the week began opens none.
--
-- Parameters: first timestamptz, since timestamptz, until timestamptz: hours from first on are read,
-- openings from since on are counted, both before until; site_ids bigint[], 0 means no site; opens
-- float8, closes float8, percent; standby_opens float8, standby_closes float8, kWh; min_energy_kwh
-- float8; min_coverage float8.
--
-- Leans on the primary keys of the hours, on the partitions between first and until.
WITH link AS MATERIALIZED (
    SELECT
        own.vehicle_id,
        own.meter_id,
        -- Full hours at whose beginning it was in force.
        date_trunc(
            'hour',
            greatest(lower(own.valid_during), %(first)s::timestamptz)
            + interval '1 hour' - interval '1 microsecond'
        ) AS starts_at,
        least(upper(own.valid_during), %(until)s::timestamptz) - interval '1 microsecond' AS ends_at,
        coalesce(vehicle.site_id, 0) = ANY(%(site_ids)s::bigint[]) AS is_asked,
        EXISTS (
            SELECT 1
            FROM fleet_vehiclemeterlink AS other
            WHERE
                other.meter_id = own.meter_id
                AND other.vehicle_id <> own.vehicle_id
                AND other.valid_during && own.valid_during
        ) AS is_shared,
        -- Readings that an hour needs for the minimum coverage.
        coalesce(%(min_coverage)s::float8 * 3600 / dc.cadence_seconds, 0) AS dc_wanted,
        coalesce(%(min_coverage)s::float8 * 3600 / ac.cadence_seconds, 0) AS ac_wanted
    FROM fleet_vehiclemeterlink AS own
    INNER JOIN fleet_vehicle AS vehicle ON vehicle.vehicle_id = own.vehicle_id
    LEFT JOIN analytics_vehiclecadence AS dc ON dc.vehicle_id = own.vehicle_id
    LEFT JOIN analytics_metercadence AS ac ON ac.meter_id = own.meter_id
    WHERE own.valid_during && tstzrange(%(first)s, %(until)s)
),
summed AS NOT MATERIALIZED (
    SELECT
        link.vehicle_id,
        link.meter_id,
        link.is_asked,
        link.is_shared,
        hour,
        coalesce(dc.kwh, 0) AS dc_kwh,
        coalesce(ac.kwh, 0) AS ac_kwh,
        coalesce(dc.readings, 0) AS dc_readings,
        link.dc_wanted - coalesce(dc.readings, 0) AS dc_lack,
        link.ac_wanted - coalesce(ac.readings, 0) AS ac_lack
    FROM link
    CROSS JOIN LATERAL generate_series(link.starts_at, link.ends_at, interval '1 hour') AS hour
    LEFT JOIN LATERAL (
        SELECT
            hour AS at,
            readings,
            energy_dc_kwh + CASE
                WHEN energy_register = 'interval' THEN 0
                -- Dips, leaps and resets are left out of the estimate.
                ELSE greatest(first_kwh - lag(last_kwh) OVER in_order, 0)
            END AS kwh
        FROM analytics_vehiclehour
        WHERE
            vehicle_id = link.vehicle_id
            AND hour >= %(first)s AND hour < %(until)s
        WINDOW in_order AS (ORDER BY hour)
    ) AS dc ON dc.at = hour
    LEFT JOIN LATERAL (
        SELECT
            hour AS at,
            readings,
            energy_ac_kwh + CASE
                WHEN energy_register = 'interval' THEN 0
                -- Dips, leaps and resets are left out of the estimate.
                ELSE greatest(first_kwh - lag(last_kwh) OVER in_order, 0)
            END AS kwh
        FROM analytics_meterhour
        WHERE
            meter_id = link.meter_id
            AND hour >= %(first)s AND hour < %(until)s
        WINDOW in_order AS (ORDER BY hour)
    ) AS ac ON ac.at = hour
    WHERE link.is_asked OR link.is_shared
),
compared AS (
    SELECT vehicle_id, hour, dc_kwh, ac_kwh, dc_readings, dc_lack, ac_lack
    FROM summed
    WHERE NOT is_shared
    UNION ALL
    SELECT vehicle_id, hour, dc_kwh, ac_kwh, dc_readings, dc_lack, ac_lack
    FROM (
        SELECT
            vehicle_id,
            is_asked,
            hour,
            dc_kwh,
            ac_kwh * coalesce(
                dc_kwh / nullif(sum(dc_kwh) OVER at_meter, 0), 1.0 / count(*) OVER at_meter
            ) AS ac_kwh,
            dc_readings,
            dc_lack,
            ac_lack
        FROM summed
        WHERE is_shared
        WINDOW at_meter AS (PARTITION BY meter_id, hour)
    ) AS shared
    WHERE is_asked
),
-- Running sums from the first hour on: the sum of 24 hours is the difference of two of them. The lack is
-- how many readings are missing for the minimum coverage; none for a device of unknown cadence.
so_far AS (
    SELECT
        compared.*,
        sum(dc_kwh) OVER in_order AS dc_kwh_sum,
        sum(ac_kwh) OVER in_order AS ac_kwh_sum,
        sum(dc_readings) OVER in_order AS dc_readings_sum,
        sum(dc_lack) OVER in_order AS dc_lack_sum,
        sum(ac_lack) OVER in_order AS ac_lack_sum
    FROM compared
    WINDOW in_order AS (PARTITION BY vehicle_id ORDER BY hour)
),
figure AS (
    SELECT
        vehicle_id,
        hour,
        dc_kwh_sum - first_value(dc_kwh_sum - dc_kwh) OVER day AS dc_kwh,
        ac_kwh_sum - first_value(ac_kwh_sum - ac_kwh) OVER day AS ac_kwh,
        dc_readings_sum - first_value(dc_readings_sum - dc_readings) OVER day AS dc_readings,
        dc_lack_sum - first_value(dc_lack_sum - dc_lack) OVER day AS dc_lack,
        ac_lack_sum - first_value(ac_lack_sum - ac_lack) OVER day AS ac_lack
    FROM so_far
    WINDOW day AS (
        PARTITION BY vehicle_id
        ORDER BY hour RANGE BETWEEN interval '23 hours' PRECEDING AND CURRENT ROW
    )
),
-- Neither true nor false: as it was. Differences of long sums are not exact.
verdict AS (
    SELECT
        vehicle_id,
        hour,
        CASE
            WHEN
                ac_kwh < greatest(%(min_energy_kwh)s::float8, 1e-9) OR dc_lack >= 1e-6 OR ac_lack >= 1e-6
                THEN NULL
            WHEN dc_kwh < 1e-6 THEN NULL
            -- Rounded to hundredths, as figures are.
            WHEN 100 * dc_kwh < (%(opens)s::float8 - 0.005) * ac_kwh THEN true
            WHEN
                100 * dc_kwh >= (%(closes)s::float8 - 0.005) * ac_kwh
                AND 100 * dc_kwh < 100.005 * ac_kwh
                THEN false
        END AS is_low,
        CASE
            WHEN dc_kwh >= 1e-6 OR ac_kwh < %(standby_closes)s::float8 - 1e-6 THEN false
            WHEN dc_readings > 0 AND ac_kwh >= %(standby_opens)s::float8 - 1e-6 THEN true
        END AS is_standby
    FROM figure
    WHERE hour >= %(since)s - interval '1 hour'
)
SELECT
    (
        SELECT count(*)
        FROM (
            SELECT
                hour,
                is_low,
                lag(is_low) OVER (PARTITION BY vehicle_id ORDER BY hour) AS was_low
            FROM verdict
            WHERE is_low IS NOT NULL
        ) AS step
        WHERE is_low AND was_low IS NOT TRUE AND hour >= %(since)s
    ) AS low_efficiencies,
    (
        SELECT count(*)
        FROM (
            SELECT
                hour,
                is_standby,
                lag(is_standby) OVER (PARTITION BY vehicle_id ORDER BY hour) AS was_standby
            FROM verdict
            WHERE is_standby IS NOT NULL
        ) AS step
        WHERE is_standby AND was_standby IS NOT TRUE AND hour >= %(since)s
    ) AS standby_losses
