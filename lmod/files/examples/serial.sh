#!/bin/bash
#SBATCH --job-name=serial
#SBATCH --time=00:05:00
#SBATCH --mem=100M
#SBATCH --output=%x-%j.out

echo "One process on $(hostname), started by job $SLURM_JOB_ID"
awk 'BEGIN { for (i = 1; i <= 1000000; i++) sum += 1 / (i * i); printf "pi is about %.4f\n", sqrt(6 * sum) }'
