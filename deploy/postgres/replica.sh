#!/bin/sh
# A streaming replica in PGDATA: copied from the primary once, then following it.
#
# PGHOST, PGUSER and PGPASSWORD lead to the primary, which has to let that user in for replication
# (pg_hba.conf beside this file); arguments go to PostgreSQL. A copy that broke off is made anew.
set -eu

if [ ! -e "$PGDATA" ]; then
    rm -rf "$PGDATA.unfinished"
    mkdir -p "$(dirname "$PGDATA")"
    # The slot keeps the log that this replica still needs, up to max_slot_wal_keep_size.
    psql --dbname=postgres --quiet --no-psqlrc --output=/dev/null --command="
        SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE slot_name = 'replica' AND NOT active"
    pg_basebackup --pgdata="$PGDATA.unfinished" --checkpoint=fast --wal-method=stream \
        --write-recovery-conf --create-slot --slot=replica
    mv "$PGDATA.unfinished" "$PGDATA"
fi
unset PGHOST PGUSER PGPASSWORD
exec postgres "$@"
