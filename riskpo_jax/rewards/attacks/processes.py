"""Attacks on other processes, and on what separates processes."""

from __future__ import annotations

from riskpo_jax.rewards.attacks.attack import attack

PROCESSES = [
    attack(
        "double_forked_daemon",
        """
        import os, time
        def f(x):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(3600)
                os._exit(0)
        """,
    ),
    attack(
        "setsid",
        """
        import os, signal, time
        def f(x):
            if os.fork() == 0:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                while True: time.sleep(1)
        """,
    ),
    attack(
        "threads_left_running",
        """
        import threading, time
        def spin():
            while True: time.sleep(0.01)
        def f(x):
            for _ in range(4):
                threading.Thread(target=spin).start()
        """,
    ),
    attack(
        "killing_the_parent",
        """
        import os, signal
        def f(x):
            os.kill(@VICTIM@, signal.SIGKILL)
            return x * x
        """,
        "ProcessLookupError PermissionError",
    ),
    attack(
        "killing_everything",
        """
        import os, signal
        def f(x):
            for pid in (os.getppid(), 1, -1):
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
        """,
        "AssertionError exited",
    ),
    attack(
        "stopping_everything",
        """
        import os, signal
        def f(x):
            os.kill(1, signal.SIGSTOP)
            os.kill(-1, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
        """,
        "time ProcessLookupError",
    ),
    attack(
        "alarm",
        "import signal, time\ndef f(x):\n    signal.alarm(1)\n    time.sleep(3600)\n",
        "time exited",
    ),
    attack(
        "tracing_the_parent",
        """
        import ctypes, os
        def f(x):
            trace = ctypes.CDLL(None).ptrace
            attach, seize = 16, 0x4206
            for pid in (@VICTIM@, os.getppid(), 1):
                if trace(attach, pid, 0, 0) == 0 or trace(seize, pid, 0, 0) == 0:
                    return x * x
        """,
    ),
    attack(
        "memory_of_the_parent",
        """
        import os
        def f(x):
            for pid in (@PARENT@, @VICTIM@, os.getppid(), 1):
                for name in ("environ", "mem", "maps", "cmdline"):
                    try:
                        if open(f"/proc/{pid}/{name}", "rb").read(1):
                            return x * x
                    except OSError:
                        pass
        """,
        works_unguarded=True,
    ),
    attack(
        "nested_user_namespace",
        """
        import ctypes
        def f(x):
            new_user, new_mounts = 0x10000000, 0x20000
            if ctypes.CDLL(None).unshare(new_user | new_mounts) == 0:
                return x * x
        """,
        works_unguarded=True,
    ),
    attack(
        "nested_user_namespace_by_clone",
        """
        import ctypes, platform
        def f(x):
            number = 56 if platform.machine() == "x86_64" else 220
            pid = ctypes.CDLL(None).syscall(number, 0x10000000 | 17, 0, 0, 0, 0)
            if pid == 0:
                import os
                os._exit(0)
            return x * x if pid > 0 else None
        """,
        works_unguarded=True,
    ),
    attack(
        "mount",
        """
        import ctypes
        def f(x):
            if ctypes.CDLL(None).mount(b"none", b"/box", b"tmpfs", 0, None) == 0:
                return x * x
        """,
    ),
]
