#!/usr/bin/env bash
# Writes PostgreSQL's log (WAL) to $BACKUP_DIR/wal as it grows; runs until it is stopped.
#
# Needs PostgreSQL's own programs on the PATH, and PGHOST, PGUSER, PGPASSWORD or PGPASSFILE of a role
# that may replicate. The slot makes PostgreSQL keep what this has not got yet: a pause leaves no gap,
# but the log then grows on PostgreSQL's disk.
set -euo pipefail
umask 077
: "${BACKUP_DIR:?set it to the folder of the backups}"
slot=energy_backup

mkdir -p "$BACKUP_DIR/wal"
pg_receivewal --slot="$slot" --create-slot --if-not-exists
exec pg_receivewal --slot="$slot" --directory="$BACKUP_DIR/wal" --verbose
