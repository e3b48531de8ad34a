"""Imports go one way. Read from the source, so that an import inside a function counts too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "riskpo_jax").rglob("*.py"))

# Who may import what beside itself, from the ground up. A dotted name opens that one module only.
GROUND = {"errors", "types", "masked", "buckets"}
MAY_IMPORT = {
    "errors": set(),
    "types": set(),
    "masked": set(),
    "buckets": set(),
    "files": set(),
    "compilation": set(),
    "compile_cache": {"errors"},
    "device_memory": {"errors"},
    "processes": {"errors"},
    "config": {"errors"},
    "config_presets": {"config"},
    "config_rules": {"errors", "config", "config_presets"},
    "config_resume": {"errors", "config", "config_rules"},
    "algorithms": GROUND,
    "theory": {"algorithms"},
    "reporting": {"errors", "config", "config_resume", "files"},
    "sharding": {"errors"},
    "models": GROUND | {"files", "sharding"},
    "rollout": GROUND | {"sharding", "models"},
    "data": GROUND | {"config"},
    "rewards": {"errors", "config", "processes", "data.problem", "data.reasoning_gym"},
    "evaluation": GROUND | {"rollout", "rewards", "data.problem", "files"},
    "diagnostics": GROUND | {"algorithms", "evaluation.bootstrap"},
    "training": GROUND
    | {"config", "algorithms", "sharding", "models", "rollout", "rewards", "data"}
    | {"files", "config_rules", "processes", "evaluation", "reporting"}
    | {"compilation", "device_memory"},
    "sweeps": {"errors", "files", "reporting", "evaluation.bootstrap"},
}


def module_name(file: Path) -> str:
    """riskpo_jax/rewards/math.py -> rewards.math"""
    return ".".join(file.relative_to(ROOT / "riskpo_jax").with_suffix("").parts)


def imported(file: Path) -> set[str]:
    """The absolute names that a file imports: for `from a import b` that is a.b."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def is_inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def own(file: Path) -> set[str]:
    """What a file imports of this package, without the package's name."""
    names = {name for name in imported(file) if is_inside(name, "riskpo_jax")}
    return {name.removeprefix("riskpo_jax.") for name in names}


def test_every_module_has_its_place_in_the_table():
    assert {module_name(file).split(".")[0] for file in FILES} - {"__init__"} == set(MAY_IMPORT)


def test_the_table_has_no_cycle():
    placed = set()
    for package, allowed in MAY_IMPORT.items():
        assert {name.split(".")[0] for name in allowed} <= placed
        placed.add(package)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_lies_below_it(package):
    allowed = MAY_IMPORT[package] | {package}
    violations = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in FILES
        if is_inside(module_name(file), package)
        for name in own(file)
        if not any(is_inside(name, place) for place in allowed)
    ]
    assert not violations


def test_nothing_imports_the_programs():
    """experiments/ sees all of riskpo_jax/, launch/ sees both, and nobody sees them."""
    for file in FILES:
        assert not [name for name in imported(file) if is_inside(name, "experiments")], file
    for file in [*FILES, *(ROOT / "experiments").rglob("*.py")]:
        assert not [name for name in imported(file) if is_inside(name, "launch")], file


def test_linen_stays_in_models():
    users = {
        file.parent.name
        for file in FILES
        if any(is_inside(name, "flax.linen") for name in imported(file))
    }
    assert users == {"models"}


def test_algorithms_see_arrays_only():
    """No model, no configuration, no files: what they import besides themselves is jax and types."""
    outside = {
        name.split(".")[0]
        for file in FILES
        if is_inside(module_name(file), "algorithms")
        for name in imported(file)
    }
    standard = {"__future__", "collections", "functools", "types", "typing"}
    assert outside <= standard | {"jax", "riskpo_jax"}
