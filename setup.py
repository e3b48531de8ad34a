"""Installation. `pip install -e .` runs the main job, `pip install -e '.[test]'` runs the tests."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="riskpo_jax",
    version="0.1.0",
    description="Post-training of language models with verifiable rewards under risk measures, in JAX.",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(
        include=["riskpo_jax", "riskpo_jax.*", "experiments", "experiments.*", "launch", "launch.*"]
    ),
    package_data={"riskpo_jax.reporting": ["*.mplstyle"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.5",
        "flax>=0.12",
        "importlib_resources>=6.0",
        "jinja2>=3.1",
        "jax>=0.10",
        "latex2sympy2_extended>=1.11",
        "matplotlib>=3.9",
        "mpmath>=1.3",
        "numpy>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.12",
        "rich>=13.9",
        "scipy>=1.13",
        "sympy>=1.13",
        "tensorboardX>=2.6",
        "tensorflow-datasets>=4.9.7",
        "tokenizers>=0.21",
        "transformers>=5.0",
    ],
    extras_require={
        "gpu": ["jax[cuda12]>=0.10"],
        "tpu": ["jax[tpu]>=0.10"],
        "datasets": ["datasets>=3.0"],
        "reasoning-gym": ["reasoning-gym>=0.1.20"],
        "parity": ["peft>=0.18", "torch>=2.8"],
        "wandb": ["wandb>=0.19"],
        "notebooks": ["ipykernel>=6.29", "jupyterlab>=4.2", "nbclient>=0.10"],
        "test": [
            "hypothesis>=6.100",
            "ipykernel>=6.29",
            "math-verify>=0.9",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "pytest>=8.3",
            "pytest-xdist>=3.6",
            "safetensors>=0.5",
        ],
    },
)
