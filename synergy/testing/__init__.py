"""Contract checks that users run on their own method, scenario, memory or network.

    from synergy import testing
    testing.check_method(MyMethod, MyMethod.Config(lr=0.1), testing.scenario("seq-digits"))
    testing.check_scenario(lambda seed: MyScenario(MyScenario.Config(), setting(seed)))
    testing.check_memory(lambda seed: MyMemory(6, np.random.default_rng(seed)), keeps="newest")
    testing.check_net(lambda generator: MyNet(generator), inputs, n_classes=10)

A check that fails raises an AssertionError, which names the check and says what was broken. `method_checks`,
`scenario_checks`, `memory_checks` and `net_checks` take the same arguments and give the checks one by one, each with a
name and a reason, as for `pytest.mark.parametrize("check", ..., ids=str)`.
"""

from synergy.testing.checks import Check
from synergy.testing.memories import check_memory, memory_checks
from synergy.testing.methods import check_method, method_checks
from synergy.testing.nets import check_net, net_checks
from synergy.testing.parts import budget, scenario, setting, trained
from synergy.testing.scenarios import check_scenario, scenario_checks

__all__ = [
    "Check",
    "budget",
    "check_memory",
    "check_method",
    "check_net",
    "check_scenario",
    "memory_checks",
    "method_checks",
    "net_checks",
    "scenario",
    "scenario_checks",
    "setting",
    "trained",
]
