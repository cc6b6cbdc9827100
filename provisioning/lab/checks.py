"""What must be so before a lab can be: each thing missing is one sentence with its remedy."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from cluster.errors import PracticumError

# The command that is needed, and the package of Debian and Ubuntu that has it.
NEEDED = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FEATURES = (
    (Path("/sys/module/overlay"), "overlay", "overlay file systems"),
    (Path("/sys/module/bridge"), "bridge", "network bridges"),
    (Path("/sys/module/nf_tables"), "nf_tables", "nftables"),
)


def require(platform: str = sys.platform, uid: int | None = None, path: str | None = None) -> None:
    """PracticumError unless this is Linux, we are root and every command is there."""
    if platform != "linux":
        raise PracticumError(
            f"a lab needs Linux (Debian 12 or 13, or Ubuntu 24.04), and this is {platform}: "
            "run it on such a machine, or in a virtual machine"
        )
    if (os.geteuid() if uid is None else uid) != 0:
        raise PracticumError("a lab needs root, to boot containers: run this with sudo")
    where = path if path is not None else f"{os.environ.get('PATH', '')}:{_PATH}"
    missing = [name for name in NEEDED if shutil.which(name, path=where) is None]
    if missing:
        packages = " ".join(dict.fromkeys(NEEDED[name] for name in missing))
        raise PracticumError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing on this machine: "
            f"apt-get install {packages}"
        )
