"""HLO text is read as it is written, and loops are counted as often as they turn."""

import jax
import jax.numpy as jnp
import pytest

from launch.hlo import arrays, parse, size_in_bytes
from launch.loops import executions

# A loop as the TPU compiler leaves it: no known_trip_count, a counter that starts at 1, a bound that is an
# operand of the loop, a condition of two parts, one in a fusion; layouts and comments between shapes.
TPU_LOOP = """\
HloModule jit_f, is_scheduled=true, replica_count=2, num_partitions=4

%fused.1 (param_0: s32[], param_1: s32[]) -> pred[] {
  %param_0 = s32[]{:T(128)} parameter(0)
  %param_1 = s32[]{:T(128)} parameter(1)
  ROOT %lt = pred[]{:T(512)S(6)} compare(%param_0, %param_1), direction=LT
}

%condition (state: (s32[], f32[8,2], s32[], pred[])) -> pred[] {
  %state = (s32[]{:T(128)}, f32[8,2]{1,0:T(8,128)S(1)}, s32[], /*index=3*/pred[]) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %two = s32[] constant(2)
  %shifted = s32[] add(%i, %two)
  %bound = s32[] get-tuple-element(%state), index=2
  %done = pred[] get-tuple-element(%state), index=3
  %less = pred[] fusion(%shifted, %bound), kind=kLoop, calls=%fused.1
  %goes_on = pred[] not(%done)
  ROOT %and = pred[] and(%less, %goes_on)
}

%inner (x: f32[8,2]) -> f32[8,2] {
  %x = f32[8,2]{1,0:T(8,128)} parameter(0)
  ROOT %neg = f32[8,2]{1,0:T(8,128)} negate(%x)
}

%body (state: (s32[], f32[8,2], s32[], pred[])) -> (s32[], f32[8,2], s32[], pred[]) {
  %state = (s32[]{:T(128)}, f32[8,2]{1,0:T(8,128)S(1)}, s32[], /*index=3*/pred[]) parameter(0)
  %f = f32[8,2] get-tuple-element(%state), index=1
  %called = f32[8,2] call(%f), to_apply=%inner, metadata={op_name="a(b)/c"}
  %i = s32[] get-tuple-element(%state), index=0
  %bound = s32[] get-tuple-element(%state), index=2
  %done = pred[] get-tuple-element(%state), index=3
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one), backend_config={"estimated_cycles":"8"}
  %kept = s32[] copy(%next)
  ROOT %out = (s32[], f32[8,2], s32[], /*index=3*/pred[]) tuple(%kept, %called, %bound, %done)
}

ENTRY %main (x: f32[8,2]) -> f32[8,2] {
  %x = f32[8,2]{1,0:T(8,128)} parameter(0)
  %one = s32[]{:T(128)} constant(1)
  %bound = s32[]{:T(128)} constant(13)
  %false = pred[]{:T(512)} constant(false)
  %start = s32[]{:T(128)} copy(%one)
  %tuple = (s32[], f32[8,2]{1,0}, s32[], /*index=3*/pred[]) tuple(%start, %x, %bound, /*index=3*/%false)
  %while = (s32[], f32[8,2]{1,0}, s32[], pred[]) while(%tuple), condition=%condition, body=%body
  ROOT %result = f32[8,2]{1,0:T(8,128)} get-tuple-element(%while), index=1
}
"""


def test_a_loop_of_the_tpu_compiler_is_counted_from_its_condition():
    module = parse(TPU_LOOP)
    counts, unknown = executions(module)
    assert counts["body"] == counts["inner"] == 10  # 1 + 2 up to 13
    assert counts["main"] == 1 and not unknown
    assert module.entry == "main" and module.devices == 8


@pytest.mark.parametrize(("step", "turns"), [(2, 5), (3, 4), (4, 3)])
def test_a_counter_is_raised_by_what_the_body_says(step, turns):
    """XLA's own loops take several parts in a turn."""
    raised = TPU_LOOP.replace("%one = s32[] constant(1)", f"%one = s32[] constant({step})")
    counts, _ = executions(parse(raised))
    assert counts["body"] == turns


def test_a_loop_of_unknown_length_is_named_and_counted_as_often_as_one_says():
    module = parse(TPU_LOOP.replace("constant(13)", "parameter(1)"))
    counts, unknown = executions(module)
    assert unknown == ["while"] and counts["inner"] == 1
    counts, unknown = executions(module, turns_untold=16)
    assert unknown == ["while"] and counts["inner"] == 16 and counts["main"] == 1


def test_a_kernel_whose_metadata_takes_several_lines_ends_no_computation():
    lines = (
        'call(%f), to_apply=%inner, frontend_attributes={kernel_metadata={\n"a":"{\\"b\\": 1}"\n}}'
    )
    module = parse(TPU_LOOP.replace("call(%f), to_apply=%inner", lines))
    assert (
        module.computations["body"].instructions["called"].attributes.endswith('op_name="a(b)/c"}')
    )
    assert executions(module) == executions(parse(TPU_LOOP))


def test_instructions_are_taken_apart():
    body = parse(TPU_LOOP).computations["body"]
    called = body.instructions["called"]
    assert (called.opcode, called.operands, called.shape) == ("call", ("f",), "f32[8,2]")
    assert list(called.callees()) == [("to_apply", "inner")]
    assert body.operand(called, 0).attributes == ", index=1"
    assert body.root == "out"


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[2,3]", 24),
        ("(bf16[8,128], pred[4], s32[])", 2048 + 4 + 4),
        ("((u32[2], f8e4m3fn[3]), token[])", 11),
        ("s4[10]", 5),
        ("c64[2]", 16),
        ("f32[<=6]", 24),
    ],
)
def test_sizes_are_those_of_the_types(shape, size):
    assert size_in_bytes(shape) == size


def test_arrays_of_a_shape():
    assert arrays("(f32[2,3], s32[])") == [("f32", (2, 3)), ("s32", ())]


def counted(function, *args) -> list[int]:
    """How often the computations with a `dot` run, of a program that this machine's compiler made."""
    module = parse(jax.jit(function).lower(*args).compile().as_text())
    counts, unknown = executions(module)
    assert not unknown
    return [
        counts[name]
        for name, computation in module.computations.items()
        for instruction in computation.instructions.values()
        if instruction.opcode == "dot"
    ]


def test_nested_scans_multiply():
    x = jnp.ones((40, 40))

    def inner(y, _):
        return y @ y, None

    def outer(y, _):
        return jax.lax.scan(inner, y @ x, None, length=5)[0], None

    times = counted(lambda y: jax.lax.scan(outer, y, None, length=7)[0], x)
    assert sorted(times) == [7, 35]


def test_a_loop_that_may_end_early_counts_in_full():
    x = jnp.ones((40, 40))

    def goes_on(carry):
        return (carry[0] < 9) & ~jnp.all(carry[1] > 1e3)

    times = counted(
        lambda y: jax.lax.while_loop(goes_on, lambda c: (c[0] + 1, c[1] @ c[1]), (2, y)), x
    )
    assert times == [7]
