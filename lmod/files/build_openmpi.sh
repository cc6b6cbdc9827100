#!/bin/bash
# Builds Open MPI from Debian's source package with Slurm's PMI-2, as a Slurm job on a compute node:
#   build_openmpi.sh SOURCE PMI PREFIX [CONFIGURE_OPTION...]
# SOURCE is a folder with the source in openmpi.tar, PMI the unpacked libpmi2-0-dev. What is built
# goes to PREFIX, with Slurm's library, so that nodes need no package for it.
set -eu
source=$1 pmi=$2 prefix=$3
shift 3
work=$(mktemp -d "${SLURM_TMPDIR:-/tmp}/openmpi-XXXXXX")
trap 'rm -rf "$work"' EXIT
fail() {
    echo "error: $1"
    exit 1
}
echo "@step unpack on $(hostname)"
tar -C "$work" -xf "$source/openmpi.tar"
mkdir "$work/build"
cd "$work/build"
echo "@step configure"
# PMIx: its own copy, for the distribution's is newer than Open MPI 4 knows. InfiniBand's verbs and
# ROMIO, a second MPI-IO, are what small clusters have no use for; options of the admin come after.
"$work"/openmpi/configure --prefix="$prefix" --with-slurm --with-pmi="$pmi" \
    --with-pmi-libdir="$pmi/lib" --with-pmix=internal --disable-oshmem --without-verbs \
    --disable-io-romio --disable-static --enable-shared "$@"
if grep -q "^MCA_BUILD_opal_pmix_s2_DSO_TRUE='#'" config.log; then
    fail "configure leaves PMI-2 out"
fi
echo "@step make with ${SLURM_CPUS_PER_TASK:-1} processes"
make --no-print-directory -j"${SLURM_CPUS_PER_TASK:-1}" V=0
echo "@step install"
make --no-print-directory install V=0
cp -a "$pmi"/lib/libpmi2.so.* "$prefix/lib/"
# the site's settings: which network MPI uses
ln -sf /etc/openmpi/openmpi-mca-params.conf "$prefix/etc/openmpi-mca-params.conf"
[ -e "$prefix/lib/openmpi/mca_pmix_s2.so" ] || fail "what was built has no PMI-2"
"$prefix/bin/ompi_info" --parsable | grep -E '^mca:pmix:[a-z0-9]+:version:"?component' || :
echo "@done"
