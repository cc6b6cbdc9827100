#!/bin/bash
# Two jobs, submitted at once: the second begins when the first has succeeded. Not for sbatch
# itself: run it with bash.
set -eu

first=$(sbatch --parsable --job-name=prepare --time=00:05:00 --mem=50M \
    --output=prepare-%j.out --wrap 'seq 1 100 > numbers.txt; echo "written"')
second=$(sbatch --parsable --job-name=sum --time=00:05:00 --mem=50M \
    --dependency="afterok:$first" --kill-on-invalid-dep=yes \
    --output=sum-%j.out --wrap 'awk "{ sum += \$1 } END { print sum }" numbers.txt')
echo "job $second waits for job $first"
