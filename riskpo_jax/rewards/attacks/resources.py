"""Attacks that use up the machine: memory, processes, time, disk, output."""

from __future__ import annotations

from riskpo_jax.rewards.attacks.attack import attack

RESOURCES = [
    attack(
        "fork_bomb",
        """
        import os
        def f(x):
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
        """,
        "time processes",
    ),
    attack(
        "thread_bomb",
        """
        import threading, time
        def f(x):
            for _ in range(2000):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            return x * x
        """,
        "RuntimeError memory",
    ),
    attack(
        "memory_bomb_of_one_process",
        """
        def f(x):
            kept = [bytearray(16 << 20) for _ in range(128)]
            return x * x
        """,
        "MemoryError memory",
    ),
    attack(
        "memory_bomb_of_many_processes",
        """
        import os, time
        def f(x):
            done, report = os.pipe()
            for _ in range(12):
                if os.fork() == 0:
                    kept = b"x" * (64 << 20)
                    os.write(report, b".")
                    time.sleep(60)
            for _ in range(12):
                os.read(done, 1)
            return x * x
        """,
        "memory",
    ),
    attack(
        "memory_bomb_in_shared_pages",
        """
        import mmap, os, time
        def f(x):
            done, report = os.pipe()
            for _ in range(12):
                if os.fork() == 0:
                    kept = mmap.mmap(-1, 64 << 20)
                    for i in range(0, 64 << 20, 4096):
                        kept[i] = 1
                    os.write(report, b".")
                    time.sleep(60)
            for _ in range(12):
                os.read(done, 1)
            return x * x
        """,
        "memory",
    ),
    attack(
        "memory_bomb_in_files_without_a_name",
        """
        import os
        def f(x):
            os.memfd_create("bomb")
            return x * x
        """,
        "PermissionError",
        works_unguarded=True,
    ),
    attack(
        "memory_bomb_in_system_v_shared_memory",
        """
        import ctypes
        def f(x):
            segment = ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600)
            return x * x if segment >= 0 else None
        """,
    ),
    attack("busy_loop", "def f(x):\n    while True: pass\n", "time"),
    attack("busy_loop_at_the_top_level", "f = lambda x: x * x\nwhile True: pass\n", "time"),
    attack("busy_loop_in_c", "def f(x):\n    return sum(range(1 << 60))\n", "time"),
    attack(
        "busy_loop_that_ignores_signals",
        """
        import signal
        for number in range(1, 32):
            try:
                signal.signal(number, signal.SIG_IGN)
            except OSError:
                pass
        def f(x):
            while True: pass
        """,
        "time",
    ),
    attack("sleep", "import time\ndef f(x):\n    time.sleep(3600)\n    return x * x\n", "time"),
    attack(
        "disk_fill",
        """
        def f(x):
            for i in range(64):
                with open(f"/tmp/{i}", "wb") as file:
                    file.write(bytes(1 << 20))
            return x * x
        """,
        "OSError",
    ),
    attack(
        "one_big_file",
        """
        def f(x):
            with open("/tmp/big", "wb") as file:
                file.truncate(1 << 30)
            return x * x
        """,
        "OSError exited",
    ),
    attack(
        "inode_fill",
        """
        import os
        def f(x):
            for i in range(1000000):
                os.close(os.open(f"/tmp/{i}", os.O_CREAT))
            return x * x
        """,
        "files",
    ),
    attack("stdout_flood", "def f(x):\n    while True: print('x' * 100000)\n", "output"),
    attack(
        "stderr_flood",
        "import os\ndef f(x):\n    while True: os.write(2, b'x' * 100000)\n",
        "output",
    ),
    attack(
        "fd_leak",
        """
        import os
        def f(x):
            kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(2000)]
            return x * x
        """,
        "OSError",
    ),
    attack(
        "raised_limits",
        """
        import os, resource
        def f(x):
            for kind in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
                resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            return x * x
        """,
        "ValueError PermissionError",
    ),
    attack("returned_bomb", "def f(x):\n    return 'x' * (64 << 20)\n", "output exited"),
    attack(
        "returned_tower",
        """
        def f(x):
            tower = []
            for _ in range(100000):
                tower = [tower]
            return tower
        """,
        "ValueError",
    ),
    attack(
        "returned_range_without_end",
        "def f(x):\n    return 10 ** 15\n",
        "time",
        tests="assert sum(1 for _ in range(f(7))) == 49",
    ),
    attack(
        "returned_hash_collisions",
        "def f(x):\n    return {i * (2 ** 61 - 1) for i in range(60000)}\n",
        "time",
    ),
    attack(
        "memory_bomb_while_the_tests_compute",
        """
        import os, time
        def f(x):
            for _ in range(12):
                if os.fork() == 0:
                    time.sleep(0.2)
                    kept = b"x" * (64 << 20)
                    time.sleep(3600)
            return 10 ** 8
        """,
        "memory",
        tests="assert sum(range(f(7))) and f(7) == 49",
    ),
    attack("returned_integer_without_end", "def f(x):\n    return 1 << (1 << 22)\n", "ValueError"),
    attack("returned_range", "def f(x):\n    return range(10 ** 12)\n", "protocol"),
]
