#!/usr/bin/python3 -I
"""Does PAM let these users in, by the account rules of a service? Asked of PAM itself.

Usage: check_access.py SERVICE USER...   Exit 0 when it lets in all of them.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import pwd
import sys

PAM_RHOST = 4  # pam_set_item(3)
PAM_SILENT = 0x8000
PAM_SUCCESS = 0


PAM_CONV_ERR = 19
Answer = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)


def nobody(_count: int, _messages: int, _answers: int, _data: int) -> int:
    """Nobody is there to be asked."""
    return PAM_CONV_ERR


class Conversation(ctypes.Structure):
    _fields_ = (("function", Answer), ("data", ctypes.c_void_p))


def allowed(pam: ctypes.CDLL, service: str, user: str) -> str:
    """ "" when PAM lets the user in, else its word for the refusal."""
    handle = ctypes.c_void_p()
    answer = Answer(nobody)  # kept until PAM is done with it
    talk = Conversation(answer, None)
    code = pam.pam_start(service.encode(), user.encode(), ctypes.byref(talk), ctypes.byref(handle))
    if code != PAM_SUCCESS:
        return f"PAM does not start ({code})"
    pam.pam_set_item(handle, PAM_RHOST, ctypes.c_char_p(b"192.0.2.1"))
    code = pam.pam_acct_mgmt(handle, PAM_SILENT)
    pam.pam_strerror.restype = ctypes.c_char_p
    text = pam.pam_strerror(handle, code)
    pam.pam_end(handle, code)
    return "" if code == PAM_SUCCESS else text.decode()


def main(arguments: list[str]) -> int:
    service, *users = arguments
    pam = ctypes.CDLL(ctypes.util.find_library("pam") or "libpam.so.0")
    for user in users:
        try:
            pwd.getpwnam(user)
        except KeyError:
            sys.stderr.write(
                f"{user} has no account here, and would be locked out: make it first\n"
            )
            return 1
        reason = allowed(pam, service, user)
        if reason:
            sys.stderr.write(
                f"{user} would be locked out ({reason}): the SSH rules stay as they are\n"
            )
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
