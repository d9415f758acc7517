"""Becomes another program that ends with its parent and need not be root: run by `tableforge.ops.servers`, by path.

These steps belong between fork and exec. Taken there by Python itself (`preexec_fn`) they can block a parent that has
threads for ever; a small program of its own cannot.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
REFUSED = 125
"""Exit code: the program was not started."""


def become(identity: str) -> None:
    """Take on `user:<uid>:<gid>`, or `namespace:<uid>:<gid>`: those numbers inside, the caller's rights outside."""
    kind, _, numbers = identity.partition(":")
    if not kind:
        return
    uid, gid = (int(one) for one in numbers.split(":"))
    if kind == "user":
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        return
    outside = {"uid": os.getuid(), "gid": os.getgid()}
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {outside['uid']} 1"),
        ("gid_map", f"{gid} {outside['gid']} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def main(parent: str, signal_number: str, identity: str, folder: str, *command: str) -> None:
    """Change to `folder` as whoever it will be, ask for the parent's last signal, and become `command`."""
    try:
        become(identity)
        os.chdir(folder)
        # After the change of user, which would withdraw it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal_number))
        if os.getppid() != int(parent):
            sys.exit(REFUSED)
        os.execv(command[0], command)  # noqa: S606 - a program that the parent chose, without a shell
    except OSError as error:
        sys.stderr.write(f"{command[0]} was not started: {error}\n")
        sys.exit(REFUSED)


if __name__ == "__main__":
    main(*sys.argv[1:])
