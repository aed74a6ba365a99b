#!/bin/bash
# python, with CANN's own variables set. Without `set -u`: set_env.sh reads variables that are not set.
for place in /usr/local/Ascend/ascend-toolkit/set_env.sh /usr/local/Ascend/cann/set_env.sh; do
    if [ -f "$place" ]; then
        # shellcheck disable=SC1090
        source "$place"
        break
    fi
done
exec python "$@"
