"""The table's cases are possible, and its rows say what was measured."""

import math

import pytest

from launch.costs import Collective, Costs
from launch.measure import GIB, Measured, Memory
from launch.plan import Plan
from launch.scaling_table import CASES, HEADER, Case, row
from launch.topology import CHIPS, parse_mesh
from launch.workload import find_model, reference_config


def chips_of(case: Case) -> int:
    return math.prod(int(side) for side in case.topology.split(":")[1].split("x"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.model}-{case.topology}")
def test_every_case_divides_its_chips_heads_and_width(case):
    sizes = parse_mesh(case.mesh)
    _, shape = find_model(case.model)
    assert math.prod(sizes.values()) == chips_of(case)
    assert shape.hidden_size % (16 * sizes["mesh.fsdp"]) == 0  # whole tiles
    for tensor in {sizes["mesh.tensor"], case.rollout_tensor} - {0}:
        assert shape.num_heads % tensor == chips_of(case) % tensor == 0


def test_the_cases_are_all_pairs_of_four_models_and_four_slices():
    assert len({(case.model, case.topology) for case in CASES}) == len(CASES) == 4 * 4


def plan(temporaries: int, costs: Costs | None) -> Plan:
    small, large = (Measured(Memory(GIB, 0, t, 0), 2, costs) for t in (0, temporaries))
    measured = {"read prompts": small, "gradient": large, "decode": small}
    mesh = {"data": 1, "fsdp": 4, "tensor": 2}
    config = reference_config({"rollout.tensor": 4}, 8)
    return Plan("M", "v5e:2x4", config, mesh, CHIPS["v5e"], measured)


def test_a_row_adds_up_the_programs_of_a_step():
    """And has the memory of the largest of the update and of the rollout."""
    costs = Costs(2 * 10**15, 3 * 10**9, {"all-gather": Collective(1, 512 * GIB)})
    cells = row(plan(2 * GIB, costs)).strip("| ").split(" | ")
    assert cells == [
        "M", "v5e:2x4", "1 x 4 x 2", "4", "3.0", "1.0", "15.8", "6.00 P", "6 s", "1,536", "fits",
    ]  # fmt: skip
    assert HEADER.splitlines()[0].count("|") == len(cells) + 1


def test_a_row_of_what_does_not_fit_says_so():
    assert row(plan(20 * GIB, None)).endswith("| 21.0 | 1.0 | 15.8 |  |  |  | **does not fit** |")
