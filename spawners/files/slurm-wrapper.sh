#!/bin/sh
# sbatch, srun and salloc inside a session of practicum's hub: what a student submits is a job
# of its own, not a step of the session. In the session, and only there, SLURM_JOB_ID equals
# PRACTICUM_JOB_ID; inside any other job everything passes through untouched.
#
# SLURM_CONF and the student's own SBATCH_*, SALLOC_* and SRUN_* settings stay: the session began
# without any. Its token and its runtime folder stay behind, for sbatch stores the environment.
real=/usr/bin/${0##*/}
if [ -n "${PRACTICUM_JOB_ID-}" ] && [ "${SLURM_JOB_ID-}" = "$PRACTICUM_JOB_ID" ]; then
    unset JUPYTERHUB_API_TOKEN JPY_API_TOKEN JUPYTER_RUNTIME_DIR
    for name in $(/usr/bin/env | /usr/bin/sed -n \
        's/^\(\(SLURM\|SLURMD\|PMI\|PMIX\)_[A-Za-z0-9_]*\|SLURM_JOBID\)=.*/\1/p'); do
        case $name in
            SLURM_CONF | SLURM_CONF_SERVER) ;;
            *) unset "$name" ;;
        esac
    done
fi
exec "$real" "$@"
