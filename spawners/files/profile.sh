# /etc/profile has just set PATH anew; in a session of practicum's hub its wrappers of sbatch,
# srun and salloc come first.
if [ -n "${PRACTICUM_JOB_ID-}" ]; then
    case ":$PATH:" in
        *:/usr/local/lib/practicum/bin:*) ;;
        *) PATH=/usr/local/lib/practicum/bin:$PATH && export PATH ;;
    esac
fi
# A terminal of the session itself has the modules that were chosen for it: /etc/profile took
# their paths away. In jobs, which have another number, Slurm's environment counts.
if [ -n "${PRACTICUM_MODULES-}" ] && [ "${SLURM_JOB_ID-}" = "${PRACTICUM_JOB_ID-}" ] &&
    command -v module >/dev/null; then
    # shellcheck disable=SC2086 # names, none of which has a blank
    module load $PRACTICUM_MODULES
fi
