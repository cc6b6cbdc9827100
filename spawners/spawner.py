"""PracticumSpawner: one click becomes one Slurm job. (Being written; the traits below stand.)

For the hub's configuration::

    c.JupyterHub.spawner_class = "spawners.spawner.PracticumSpawner"
    c.PracticumSpawner.cluster_file = "/etc/practicum/cluster.json"   # the public copy
    c.PracticumSpawner.session_api_url = "http://LOGIN:8081/hub/api"  # as compute nodes reach it
    c.Spawner.hub_connect_url = "http://LOGIN:8081"   # sessions' own calls (activity, OAuth)
    c.Spawner.environment = {"BASH_ENV": ...}         # optional: goes into every session

Set nothing else unless it differs: sudo, sbatch, scancel, munge and unmunge are looked for in
/usr/bin (traits ``sudo_path``, ``sbatch_path``, ``scancel_path``, ``munge_path``,
``unmunge_path``), the launcher at /usr/local/lib/practicum/launcher.py (``launcher``), the
server environment at ``storage.envs``/server (``server_env``). ``start_timeout`` comes from the
cluster file's ``hub.start_timeout``, the range of ports from ``hub.session_ports``, the choices
from ``profiles``. ``server_extensions`` lists the Jupyter server extensions that sessions load.
The start page's form is ``options_form`` as usual (plain HTML, classes ``practicum-profile`` and
``practicum-details``); a template may replace it: fields ``profile``, ``cpus``, ``memory``,
``time``.

The token of a server must keep its own ``access:servers!server`` scope (JupyterHub's default
``server`` role has it); the port report is authorised by it.

What sudo has to allow the hub's user, as any student or instructor, and nothing else::

    /usr/bin/sbatch --parsable
    /usr/bin/scancel ^[0-9]+$
"""
