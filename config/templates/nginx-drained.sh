#!/bin/sh
# For `drained` of the adapter `template`: ends with 0 when no worker of an older configuration is left, with 1 while there is one.
#   nginx-drained.sh PID-FILE WORKERS        WORKERS as in worker_processes. The tests run this file.
# The workers are counted, not looked at: right after a reload the old ones do not say yet that they are shutting down.
master=$(cat "$1") || exit 2
children=$(cat "/proc/$master/task/$master/children") || exit 2
expected=$2
set -- $children
[ "$#" -eq "$expected" ] || exit 1
