"""Attacks by values that look equal to the expected one, or true."""

from __future__ import annotations

from riskpo_jax.rewards.attacks.attack import attack

VALUES = [
    attack(
        "object_equal_to_all",
        """
        class Yes:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __hash__(self): return hash(49)
        def f(x):
            return Yes()
        """,
        "TypeError",
    ),
    *[
        attack(
            f"{base}_equal_to_all",
            f"""
            class Yes({base}):
                def __eq__(self, other): return True
                def __ne__(self, other): return False
                def __hash__(self): return hash(49)
                def __sub__(self, other): return 0
                __rsub__ = __add__ = __radd__ = __sub__
            def f(x):
                return Yes({value})
            """,
        )
        for base, value in [
            ("int", "1"),
            ("float", "0.5"),
            ("str", "'no'"),
            ("list", "[1]"),
            ("tuple", "[1]"),
            ("dict", "{}"),
            ("set", "[1]"),
        ]
    ],
    attack(
        "objects_equal_to_all_inside_a_list",
        """
        class Yes:
            def __eq__(self, other): return True
        def f(x):
            return [Yes(), Yes()]
        """,
        "TypeError",
        tests="assert f(7) == [4, 9]",
    ),
    attack(
        "array_like",
        """
        class Array:
            def __eq__(self, other): return Array()
            def __bool__(self): return True
            def all(self): return True
            def __array__(self, *a, **k): return [49]
            def __len__(self): return 1
        def f(x):
            return Array()
        """,
        "TypeError",
    ),
    attack(
        "object_that_says_it_is_an_int",
        """
        class Liar:
            __class__ = int
            def __eq__(self, other): return True
            def __index__(self): return 49
            def __add__(self, other): return 49
        def f(x):
            return Liar()
        """,
        "TypeError",
    ),
    attack(
        "object_where_truth_is_asked",
        "class Yes: pass\ndef f(x):\n    return Yes()\n",
        "TypeError",
        tests="assert f(7)",
    ),
    attack(
        "object_close_to_all",
        """
        class Near(float):
            def __sub__(self, other): return Near(0.0)
            def __rsub__(self, other): return Near(0.0)
            def __abs__(self): return 0.0
        def f(x):
            return Near(1.5)
        """,
        tests="assert abs(f(7) - 49.0) < 1e-6",
    ),
    attack("not_a_number", "def f(x):\n    return float('nan')\n"),
    attack(
        "emptied_argument",
        "def f(x):\n    x.clear()\n    return []\n",
        tests="values = [3, 1]\nassert f(values) == sorted(values)",
    ),
    attack(
        "class_equal_to_all",
        """
        class Meta(type):
            def __eq__(self, other): return True
            def __hash__(self): return 1
        class int(metaclass=Meta): pass
        def f(x):
            return int
        """,
        "TypeError",
    ),
]
