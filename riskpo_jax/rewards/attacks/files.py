"""Attacks that write where they should not, terminals among it."""

from __future__ import annotations

from riskpo_jax.rewards.attacks.attack import attack

FILES = [
    attack(
        "writing_outside",
        """
        import os
        def f(x):
            for path in ("@OUTSIDE@", "/bait", "/usr/bait", "/usr/lib/bait", "/python/bait", "/dev/bait",
                         "/etc/bait", "/dev/shm/bait", "/var/tmp/bait", "/python/lib/bait"):
                try:
                    with open(path, "a") as file:
                        file.write("owned")
                except OSError:
                    continue
                return x * x
        """,
        works_unguarded=True,
    ),
    attack(
        "dev_shm",
        """
        def f(x):
            with open("/dev/shm/riskpo_bait", "w") as file:
                file.write("owned")
            return x * x
        """,
        "FileNotFoundError PermissionError OSError",
    ),
    attack(
        "writing_through_a_link",
        """
        import os
        def f(x):
            os.symlink("@OUTSIDE@", "/tmp/link")
            with open("/tmp/link", "a") as file:
                file.write("owned")
            return x * x
        """,
        "FileNotFoundError PermissionError",
    ),
    attack(
        "editing_the_tests",
        """
        import os
        def f(x):
            for top in ("/box", "/tmp", "/root", "/home", "/mnt", "/opt", "/srv", "@HOME@"):
                for folder, _, names in os.walk(top):
                    for name in names:
                        if name.startswith("test") or name.endswith(".jsonl"):
                            return x * x
        """,
        works_unguarded=True,
    ),
    attack(
        "changing_the_interpreter",
        """
        import os, sys, json
        def f(x):
            for path in (sys.executable, json.__file__, os.path.dirname(os.__file__) + "/x.py"):
                try:
                    os.chmod(os.path.dirname(path), 0o777)
                    open(path, "ab").close()
                except OSError:
                    continue
                return x * x
        """,
    ),
    attack(
        "terminal_injection",
        """
        import fcntl
        def f(x):
            for device in ("/dev/tty", "/dev/console", "/dev/pts/0", "/dev/ptmx"):
                try:
                    open(device).close()
                    return x * x
                except OSError:
                    pass
            for descriptor in (0, 1, 2):
                for request in (0x5412, 0x541C):
                    try:
                        fcntl.ioctl(descriptor, request, b"x")
                        return x * x
                    except OSError:
                        pass
        """,
    ),
    attack(
        "escape_sequences",
        r"""
        import sys
        def f(x):
            print("\x1b]0;owned\x07\x1b[2J\x1b[31mOWNED")
            print("\x1b]52;c;b3duZWQ=\x07", file=sys.stderr, flush=True)
            raise ValueError("\x1b[2J OWNED")
        """,
        "ValueError",
    ),
]
