"""What a guest must know of this machine's surroundings to reach the registries.

Companies and classrooms sit behind proxies that re-sign TLS: the certificates they are
trusted by, and the settings of apt, pip, uv and npm, are copied into the guest.
"""

from __future__ import annotations

import configparser
import io
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
LOCAL_CERTIFICATES = Path("usr/local/share/ca-certificates")
PIP_FILES = ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
NPM_FILES = ("/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc", "~/.npmrc")
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy")
_NPM_KEYS = ("registry", "proxy", "https-proxy", "noproxy")
_PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
# pip and uv read these; a variable of ours stands for the setting of the same meaning.
_ENV_KEYS = {
    "PIP_INDEX_URL": "index-url",
    "PIP_EXTRA_INDEX_URL": "extra-index-url",
    "PIP_TRUSTED_HOST": "trusted-host",
}
_UV_KEYS = ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX")


def _is_remote(value: str) -> bool:
    return value.startswith(("http://", "https://"))


def read_all(files: Iterable[str]) -> list[str]:
    """Texts of those files that there are; `~` is root's home."""
    paths = (Path(name).expanduser() for name in files)
    return [path.read_text() for path in paths if path.is_file()]


def pip_conf(texts: Iterable[str], env: Mapping[str, str], own_certificates: bool) -> str:
    """A guest's pip.conf from this machine's. Addresses that are folders here are left out;
    Debian's Python must be told the system's certificates."""
    merged: dict[str, str] = {}
    for text in texts:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.read_file(io.StringIO(text))
        for section in ("global", "install"):
            if parser.has_section(section):
                merged |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    merged |= {key: env[name] for name, key in _ENV_KEYS.items() if env.get(name)}
    kept = {}
    for key in _PIP_KEYS:
        words = merged.get(key, "").split()
        if key.endswith("-url"):
            words = [word for word in words if _is_remote(word)]
        if words:
            kept[key] = " ".join(words)
    if own_certificates:
        kept["cert"] = BUNDLE
    return "".join(["[global]\n", *(f"{key} = {value}\n" for key, value in kept.items())])


def npmrc(texts: Iterable[str], own_certificates: bool) -> str:
    """A guest's npmrc: this machine's registry and proxies, and the system's certificates."""
    pairs: dict[str, str] = {}
    for text in texts:
        for line in text.splitlines():
            key, equals, value = line.partition("=")
            if equals and not key.startswith(("#", ";")):
                pairs[key.strip()] = value.strip()
    kept = {key: value for key, value in pairs.items() if key in _NPM_KEYS}
    if own_certificates:
        kept["cafile"] = BUNDLE
    return "".join(f"{key}={value}\n" for key, value in kept.items())


def environment(env: Mapping[str, str], own_certificates: bool, subnet: str) -> str:
    """A guest's /etc/environment (pam_env(8)): proxies, indexes, and certificates for what
    reads neither the system's store nor a file of its own."""
    pairs: dict[str, str] = {"LANG": "C.UTF-8"}
    for name in _PROXIES:
        value = env.get(name) or env.get(name.upper())
        if value:
            pairs |= {name: value, name.upper(): value}
    if len(pairs) > 1:
        inside = f"localhost,127.0.0.1,{subnet}"
        given = env.get("no_proxy") or env.get("NO_PROXY")
        value = f"{given},{inside}" if given else inside
        pairs |= {"no_proxy": value, "NO_PROXY": value}
    pairs |= {name: env[name] for name in _UV_KEYS if _is_remote(env.get(name, ""))}
    if own_certificates:
        names = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
        pairs |= dict.fromkeys(names, BUNDLE)
    return "".join(f'{key}="{value}"\n' for key, value in pairs.items())


def has_own_certificates() -> bool:
    """Does this machine trust more than its distribution does?"""
    folder = Path("/") / LOCAL_CERTIFICATES
    return bool(list(folder.rglob("*.crt"))) or bool(os.environ.get("SSL_CERT_FILE"))


def copy_certificates(root: Path) -> None:
    """This machine's own certificates, for update-ca-certificates in the guest to find."""
    target = root / LOCAL_CERTIFICATES
    target.mkdir(parents=True, exist_ok=True)
    for source in (Path("/") / LOCAL_CERTIFICATES).rglob("*.crt"):
        shutil.copyfile(source, target / source.name)


def copy_bundle(root: Path) -> None:
    """This machine's whole bundle, until the guest has made its own."""
    if Path(BUNDLE).is_file():
        bundle = root / BUNDLE.lstrip("/")
        bundle.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(BUNDLE, bundle)


def nameservers() -> list[str]:
    """Servers a guest can ask too: not those on this machine's loopback."""
    for name in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        path = Path(name)
        lines = path.read_text().splitlines() if path.is_file() else []
        servers = [line.split()[1] for line in lines if line.startswith("nameserver ")]
        usable = [server for server in servers if not server.startswith("127.") and server != "::1"]
        if usable:
            return usable
    return []
