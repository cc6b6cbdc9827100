# /etc/profile has just set PATH anew; in a session of practicum's hub its wrappers of sbatch,
# srun and salloc come first.
if [ -n "${PRACTICUM_JOB_ID-}" ]; then
    case ":$PATH:" in
        *:/usr/local/lib/practicum/bin:*) ;;
        *) PATH=/usr/local/lib/practicum/bin:$PATH && export PATH ;;
    esac
fi
