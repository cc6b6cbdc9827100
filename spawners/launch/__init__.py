"""What a session's job runs on its node: fetch the session's secrets, start the server.

Standard library only, Python 3.9 or newer. :mod:`spawners.role` packs these modules into one
file, launcher.py, which is installed on every node and run by the server environment's Python
(by the system's when that is missing, only to say so); so they import each other relatively, and
nothing else of practicum. In order:

1. a folder of its own on this node, 0700, for the log, sockets and runtime files: a full or
   missing home must not keep a student from a session in which to delete files;
2. a free port of the range, kept listening from then on, so that nobody can take it;
3. the session from the hub, by munge: both sides prove who they are by the cluster's key, and
   nothing secret is in the job's environment, script or files;
4. the environment of kernels and terminals: the account's, without Slurm's variables but
   SLURM_JOB_ID and PRACTICUM_JOB_ID, which are equal in the session and nowhere else; then the
   modules that were chosen;
5. JupyterHub's single-user server, in this process, with only the extensions needed;
6. the port's report, when the server is about to answer.

A fault is told to the hub in one sentence. Where that is impossible the exit code tells: 69 the
hub cannot be reached, 70 munge does not work; 71 otherwise.
"""
