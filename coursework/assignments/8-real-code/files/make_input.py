"""Writes si.in, the input of Quantum ESPRESSO's pw.x for a crystal of silicon.

    python3 make_input.py NUMBER

Two atoms in the diamond structure. The lattice parameter depends on NUMBER; nature's is 10.26 bohr.
"""

import sys

INPUT = """\
&control
  calculation = 'scf'
  prefix = 'silicon'
  pseudo_dir = '/usr/share/espresso/pseudo'
  outdir = './tmp'
/
&system
  ibrav = 2
  celldm(1) = {a:.2f}
  nat = 2
  ntyp = 1
  ecutwfc = 20.0
/
&electrons
  conv_thr = 1.0d-9
/
ATOMIC_SPECIES
Si 28.0855 Si.pz-vbc.UPF
ATOMIC_POSITIONS alat
Si 0.00 0.00 0.00
Si 0.25 0.25 0.25
K_POINTS automatic
8 8 8 1 1 1
"""

number = int(sys.argv[1])
with open("si.in", "w") as file:
    file.write(INPUT.format(a=9.6 + number % 120 / 100))
