"""Programs that attack the grading of programs, as data: the tests and experiments.code_report run them."""

from riskpo_jax.rewards.attacks.attack import Attack
from riskpo_jax.rewards.attacks.exits import EXITS
from riskpo_jax.rewards.attacks.files import FILES
from riskpo_jax.rewards.attacks.forgeries import FORGERIES
from riskpo_jax.rewards.attacks.network import NETWORK
from riskpo_jax.rewards.attacks.processes import PROCESSES
from riskpo_jax.rewards.attacks.resources import RESOURCES
from riskpo_jax.rewards.attacks.secrets import SECRETS
from riskpo_jax.rewards.attacks.values import VALUES

ATTACKS: list[Attack] = [
    *RESOURCES,
    *PROCESSES,
    *NETWORK,
    *SECRETS,
    *FILES,
    *EXITS,
    *VALUES,
    *FORGERIES,
]
