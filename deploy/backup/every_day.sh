#!/usr/bin/env bash
# Runs base_backup.sh whenever the newest copy is a day old, until one fails: let a service manager
# start it again. The containers run it; cron or a systemd timer around base_backup.sh do as well.
#
# Needs what base_backup.sh needs.
set -euo pipefail
: "${BACKUP_DIR:?set it to the folder of the backups}"
readonly DAY_SECONDS=86400

# Prints the seconds until the newest copy is a day old; 0 where there is none.
seconds_left() {
    local newest taken left
    newest=$(find "$BACKUP_DIR/base" -maxdepth 1 -name '2*Z' -printf '%f\n' | sort | tail -n 1)
    [[ $newest ]] || { echo 0 && return; }
    # A name is such as 20260301T120000.123456Z.
    taken=$(date --utc --date="${newest:0:8} ${newest:9:2}:${newest:11:2}:${newest:13:2}" +%s)
    left=$((taken + DAY_SECONDS - $(date +%s)))
    echo $((left > 0 ? left : 0))
}

mkdir -p "$BACKUP_DIR/base"
while true; do
    left=$(seconds_left)
    ((left == 0)) || echo "The next base backup is due in $left seconds."
    sleep "$left"
    "$(dirname "$0")/base_backup.sh"
done
