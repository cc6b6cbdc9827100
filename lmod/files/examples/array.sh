#!/bin/bash
# The same script ten times, at most four at once. Each has its own number.
#SBATCH --job-name=array
#SBATCH --array=1-10%4
#SBATCH --time=00:05:00
#SBATCH --mem=50M
#SBATCH --output=%x-%A_%a.out

n=$SLURM_ARRAY_TASK_ID
echo "the square of $n is $((n * n))"
