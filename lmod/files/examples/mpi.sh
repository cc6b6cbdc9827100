#!/bin/bash
# Four processes on two nodes. srun starts one for each task.
#SBATCH --job-name=mpi
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --time=00:05:00
#SBATCH --mem-per-cpu=200M
#SBATCH --output=%x-%j.out

module load gcc openmpi
mpicc -O2 -o mpi mpi.c || exit
srun ./mpi
