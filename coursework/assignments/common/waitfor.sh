#!/bin/bash
# bash waitfor.sh NAME...   waits until none of your jobs of these names is in the queue.
# It gives up after half an hour, and at once where there is no queue to ask.
names=$(IFS=,; echo "$*")
for try in $(seq 600); do
    jobs=$(squeue --me --noheader --format=%A --name="$names" 2>/dev/null) || exit 0
    [ -z "$jobs" ] && sleep 2 && exit 0
    sleep 3
done
echo "After half an hour there are still jobs of yours in the queue: $names" >&2
exit 1
