#!/usr/bin/env bash
# Run base_backup.sh whenever the newest backup is a day old, until one fails; a service manager should
# restart it. The containers use it. Elsewhere, cron or a systemd timer for base_backup.sh works too.
#
# Needs the same environment as base_backup.sh.
set -euo pipefail
: "${BACKUP_DIR:?set it to the folder of the backups}"
readonly DAY_SECONDS=86400

# Print the seconds until the newest backup is a day old; 0 if there is none.
seconds_left() {
    local newest taken left
    newest=$(find "$BACKUP_DIR/base" -maxdepth 1 -name '2*Z' -printf '%f\n' | sort | tail -n 1)
    [[ $newest ]] || { echo 0 && return; }
    # Names look like 20260301T120000.123456Z.
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
