#!/bin/bash
# The energy of a silicon crystal, with Quantum ESPRESSO on two cores.
#SBATCH --job-name=silicon
#SBATCH --nodes=1
#SBATCH --ntasks=2
#SBATCH --time=00:30:00
#SBATCH --mem-per-cpu=400M
#SBATCH --output=%x-%j.out

module load gcc openmpi quantum-espresso || exit
export OMP_NUM_THREADS=1
srun pw.x -in silicon.in
