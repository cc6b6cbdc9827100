#!/bin/bash
# One process with as many threads as it has cores: --cpus-per-task asks for them.
#SBATCH --job-name=openmp
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=00:05:00
#SBATCH --mem=200M
#SBATCH --output=%x-%j.out

module load gcc
$CC -O2 -fopenmp -o openmp openmp.c || exit
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
./openmp
