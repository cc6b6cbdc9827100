#!/bin/bash
# One process on each of two nodes, with two threads each.
#SBATCH --job-name=hybrid
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --time=00:05:00
#SBATCH --mem-per-cpu=200M
#SBATCH --output=%x-%j.out

module load gcc openmpi
mpicc -O2 -fopenmp -o hybrid hybrid.c || exit
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
# srun does not hand on the job's --cpus-per-task by itself
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" ./hybrid
