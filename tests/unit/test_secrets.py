"""The secrets file: private, whole or not at all, and never in a message."""

from __future__ import annotations

import base64
import subprocess
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import PracticumError, UsageError
from cluster.secrets import (
    MAKERS,
    generate,
    hash_password,
    load_secrets,
    save_secrets,
    secrets_path,
    with_password,
)


def test_made_once_and_read_again(tmp_path: Path) -> None:
    path = secrets_path(tmp_path / "cluster.toml")
    made = generate({"proxy_token": "kept", "password.ada": "$6$x"})
    save_secrets(path, made)
    assert load_secrets(path) == made
    assert made["proxy_token"] == "kept"
    assert set(made) == {*MAKERS, "password.ada"}
    assert len(base64.b64decode(made["munge_key"])) == 1024
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [item.name for item in path.parent.iterdir()] == ["secrets.toml"]
    assert generate()["manifest_key"] != generate()["manifest_key"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o602])
def test_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secrets.toml"
    save_secrets(path, generate())
    path.chmod(mode)
    with pytest.raises(PracticumError, match=f"mode {mode:04o}.: run chmod 600"):
        load_secrets(path)


def test_damage_is_told_without_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "secrets.toml"
    with pytest.raises(PracticumError, match="practicum init makes it"):
        load_secrets(path)
    path.write_text('proxy_token = "hush\n')
    path.chmod(0o600)
    with pytest.raises(PracticumError, match="restore it from a backup") as caught:
        load_secrets(path)
    assert "hush" not in str(caught.value)
    path.write_text("proxy_token = 12345\n")
    with pytest.raises(PracticumError, match="proxy_token must be text in quotes") as caught:
        load_secrets(path)
    assert "12345" not in str(caught.value)
    path.write_text("\n".join(f'{key} = "x"' for key in MAKERS) + '\npassword.ada = "h"')
    assert load_secrets(path)["password.ada"] == "h"
    path.write_text('proxy_token = "a"\n')
    with pytest.raises(PracticumError, match=r"munge_key.* missing: run practicum init"):
        load_secrets(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "secrets.toml"
    save_secrets(path, {"a": "b"})
    with pytest.raises(UnicodeEncodeError):
        save_secrets(path, {"a": "\ud800"})
    assert tomllib.loads(path.read_text()) == {"a": "b"}
    assert [item.name for item in tmp_path.iterdir()] == ["secrets.toml"]
    with pytest.raises(PracticumError, match="cannot be written"):
        save_secrets(path / "below" / "secrets.toml", {})


@given(st.dictionaries(st.text(), st.text()))
def test_any_text_survives(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any" / "secrets.toml"
    values = {**generate(), **values}
    for key in MAKERS:
        values[key] = values[key] or "x"
    save_secrets(path, values)
    assert load_secrets(path) == values


@pytest.mark.parametrize("password", ["correct horse", "'\"$(id)`;\\", "pässwörd", "-in"])
def test_password_hashes_are_crypt_sha512(password: str) -> None:
    hashed = hash_password(password)
    _, kind, salt, _ = hashed.split("$")
    assert kind == "6"
    again = subprocess.run(
        ["openssl", "passwd", "-6", "-salt", salt, "-stdin"],
        input=password.encode() + b"\n", capture_output=True, check=True,
    )  # fmt: skip
    assert again.stdout.decode().strip() == hashed
    assert with_password({"a": "b"}, "ada", password)["password.ada"] != hashed  # another salt


@pytest.mark.parametrize("password", ["", "two\nlines", "nul\0", "x" * 256])
def test_passwords_that_openssl_would_cut(password: str) -> None:
    with pytest.raises(UsageError, match="a password"):
        hash_password(password)
