"""The notebooks' figures: the style is found by its name and has the colours of a run's plots."""

import matplotlib.pyplot as plt

from riskpo_jax.reporting import panels


def test_the_colours_are_those_of_the_panels():
    with plt.style.context("riskpo_jax.reporting.essay"):
        cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert tuple(f"#{colour.lstrip('#')}" for colour in cycle) == panels.COLOURS
