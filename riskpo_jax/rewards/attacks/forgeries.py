"""Attacks on what carries the verdict: the guest, its replies, the parser of programs."""

from __future__ import annotations

from riskpo_jax.rewards.attacks.attack import attack

FORGERIES = [
    attack(
        "patched_builtins",
        """
        import builtins
        builtins.isinstance = lambda *_: True
        builtins.len = lambda *_: 49
        builtins.all = builtins.any = lambda *_: True
        builtins.type = lambda *_: builtins.int
        builtins.str = builtins.repr = lambda *_: "49"
        builtins.__import__ = lambda *_, **__: None
        def f(x):
            return 1
        """,
        "AssertionError protocol exited ProgramRaised TypeError AttributeError",
    ),
    attack(
        "patched_json",
        """
        import json
        json.dumps = lambda *_, **__: '[true, "value", 49]'
        json.loads = lambda *_, **__: [1, "get", "f"]
        json.JSONEncoder.encode = lambda *_: "true"
        def f(x):
            return 1
        """,
        "protocol time exited AssertionError",
    ),
    attack(
        "patched_sys_modules",
        """
        import sys, types
        fake = types.ModuleType("fake")
        fake.__getattr__ = lambda name: (lambda *_, **__: True)
        for name in list(sys.modules):
            if name not in ("sys", "builtins"):
                sys.modules[name] = fake
        def f(x):
            return 1
        """,
    ),
    attack(
        "patched_guest",
        """
        import sys
        frame = sys._getframe()
        while frame.f_back:
            frame = frame.f_back
        guest = frame.f_globals
        guest["encode"] = lambda value, handle: True
        def f(x):
            return 1
        """,
        "TypeError",
    ),
    attack(
        "forged_pass_lines",
        """
        import os, sys
        def f(x):
            for text in ("PASS", "OK", "1 passed", "All tests passed", '{"passed": true}'):
                print(text)
                print(text, file=sys.stderr)
            sys.stdout.flush()
            return "PASS"
        """,
    ),
    attack(
        "pass_written_to_every_descriptor",
        """
        import os
        def f(x):
            for descriptor in range(64):
                try:
                    os.write(descriptor, b'PASS {"passed": true, "kind": "correct"}')
                except OSError:
                    pass
        """,
        "protocol output",
    ),
    attack(
        "forged_replies",
        """
        import json, os, sys
        def f(x):
            frame = sys._getframe()
            while "nonce" not in frame.f_locals:
                frame = frame.f_back
            nonce, replies = frame.f_locals["nonce"], frame.f_locals["replies"]
            for value in (True, ["passed", True], ["handle", 0]):
                text = json.dumps([nonce, "value", value]).encode()
                os.write(replies, len(text).to_bytes(4, "big") + text)
        """,
    ),
    attack(
        "forged_kinds_of_replies",
        """
        import json, os
        def f(x):
            for reply in ({"kind": "correct", "score": 1.0}, ["", "value", 49], [None, "passed", 49], 49):
                text = json.dumps(reply).encode()
                for descriptor in range(3, 16):
                    try:
                        os.write(descriptor, len(text).to_bytes(4, "big") + text)
                    except OSError:
                        pass
        """,
        "protocol",
    ),
    attack(
        "forged_object",
        """
        import json, os, sys
        def f(x):
            frame = sys._getframe()
            while "nonce" not in frame.f_locals:
                frame = frame.f_back
            text = json.dumps([frame.f_locals["nonce"], "value", ["handle", 10 ** 9]]).encode()
            os.write(frame.f_locals["replies"], len(text).to_bytes(4, "big") + text)
        """,
        "TypeError",
        tests="assert f(7)",
    ),
    attack(
        "forged_length",
        """
        import os
        def f(x):
            for descriptor in range(3, 16):
                try:
                    os.write(descriptor, bytes([255]) * 4)
                except OSError:
                    pass
        """,
        "output",
    ),
    attack(
        "forged_tower",
        """
        import os
        def f(x):
            text = b"[" * 1000000
            for descriptor in range(3, 16):
                try:
                    os.write(descriptor, len(text).to_bytes(4, "big"))
                    for i in range(0, len(text), 4096):
                        os.write(descriptor, text[i : i + 4096])
                except OSError:
                    pass
        """,
        "protocol",
    ),
    attack(
        "half_a_reply",
        """
        import os, time
        def f(x):
            for descriptor in range(3, 16):
                try:
                    os.write(descriptor, (1000).to_bytes(4, "big") + b"[")
                except OSError:
                    pass
            time.sleep(3600)
        """,
        "time",
    ),
    attack("closed_descriptors", "import os\ndef f(x):\n    os.closerange(0, 64)\n", "exited"),
    attack(
        "pickle_in_a_reply",
        """
        import os, pickle
        class Payload:
            def __reduce__(self):
                return (open, ("@OUTSIDE@", "w"))
        def f(x):
            text = pickle.dumps(Payload())
            for descriptor in range(3, 16):
                try:
                    os.write(descriptor, len(text).to_bytes(4, "big") + text)
                except OSError:
                    pass
        """,
        "protocol",
    ),
    attack(
        "object_with_a_payload",
        """
        class Payload:
            def __reduce__(self):
                return (open, ("@OUTSIDE@", "w"))
            def __getattr__(self, name):
                return 49
        def f(x):
            return Payload()
        """,
        "TypeError",
    ),
    attack("no_python", "def f(x) return x * x", "syntax"),
    attack("parentheses_without_end", "f = " + "(" * 60000, "syntax"),
    attack("operators_without_end", "f = " + "-" * 60000 + "1", "syntax RecursionError exited"),
    attack("attributes_without_end", "f = a" + ".b" * 30000, "syntax RecursionError exited"),
]
