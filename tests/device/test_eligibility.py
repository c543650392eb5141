"""When a device may train: by its rules, and by what a Linux machine says of itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairyring.device.eligibility import Always, Eligibility, Facts, LinuxConditions, Rules, Told

GOOD = Facts(idle=True, charging=True, unmetered=True, battery=0.9, temperature=40.0)


def test_each_rule_refuses_by_itself_and_says_why():
    strict = Rules(unknown="refuse")
    assert strict.judge(GOOD) == Eligibility(True, ())
    for change, reason in (
        ({"idle": False}, "it is in use"),
        ({"charging": False}, "it is not charging"),
        ({"unmetered": False}, "its network is metered"),
        ({"battery": 0.29}, "its battery is below 30%"),
        ({"temperature": 80.5}, "it is hotter than 80 °C"),
        ({"idle": None}, "the system does not say whether it is in use"),
        ({"battery": None}, "the system does not say how much charge it has"),
        ({"temperature": None}, "the system does not say how hot it is"),
    ):
        assert strict.judge(GOOD._replace(**change)) == Eligibility(False, (reason,))
    nothing = Rules(idle=False, charging=False, unmetered=False, minimum_battery=0, maximum_temperature=None)
    assert nothing.judge(Facts(False, False, False, 0.0, 120.0)).eligible
    assert nothing._replace(unknown="refuse").judge(Facts()).eligible
    assert Always().now() == Eligibility(True)


@given(
    st.builds(
        Facts,
        *[st.sampled_from([None, True, False])] * 3,
        st.sampled_from([None, 0.1, 0.9]),
        st.sampled_from([None, 20.0, 99.0]),
    )
)
def test_what_is_unknown_counts_as_the_rules_say_and_nothing_else_changes(facts):
    allowing, refusing = Rules().judge(facts), Rules(unknown="refuse").judge(facts)
    assert set(allowing.reasons) <= set(refusing.reasons)
    assert len(refusing.reasons) - len(allowing.reasons) == sum(fact is None for fact in facts)
    assert allowing.eligible == (not allowing.reasons)


def test_a_device_that_is_told():
    device = Told(GOOD)
    assert device.now().eligible
    device.facts = GOOD._replace(charging=False)
    assert device.now() == Eligibility(False, ("it is not charging",))


class Machine:
    """Files as the kernel has them, and properties as services give them."""

    def __init__(self, folder):
        self.folder, self.bus = folder, {}

    def supply(self, name, **files):
        self._write(self.folder / "class" / "power_supply" / name, files)

    def zone(self, number, **files):
        self._write(self.folder / "class" / "thermal" / f"thermal_zone{number}", files)

    def _write(self, folder, files):
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n")

    def facts(self, **more):
        return LinuxConditions(system=self.folder, bus=lambda *at: self.bus.get(at[-1]), **more).facts()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_a_laptop_on_mains(machine):
    machine.supply("AC", type="Mains", online=1)
    machine.supply("BAT0", type="Battery", capacity=83, status="Not charging", scope="System")
    machine.supply("hidpp", type="Battery", capacity=5, status="Discharging", scope="Device")
    machine.zone(0, type="x86_pkg_temp", temp=51000)
    machine.zone(1, type="acpitz", temp=27800)
    machine.zone(2, type="iwlwifi", temp=95000)
    machine.bus = {"IdleHint": True, "Metered": 4}
    assert machine.facts(busy=1e9) == Facts(True, True, True, 0.83, 51.0)


@pytest.mark.parametrize(
    ("mains", "status", "expected"),
    [(0, "Discharging", False), (1, "Charging", True), (1, "Discharging", False), (0, "Full", False)],
)
def test_a_laptop_on_its_battery(machine, mains, status, expected):
    machine.supply("AC", type="Mains", online=mains)
    machine.supply("BAT0", type="Battery", capacity=40, status=status)
    machine.supply("BAT1", type="Battery", capacity=12, status="Unknown")
    assert machine.facts()[1:4:2] == (expected, 0.12)


def test_a_server_has_mains_and_a_machine_that_says_nothing_is_unknown(machine):
    assert machine.facts()[1:] == (None, None, None, None)
    machine.bus = {"OnBattery": True}
    assert machine.facts().charging is False
    (machine.folder / "class" / "power_supply").mkdir(parents=True)
    assert machine.facts()[1:4:2] == (True, 1.0)


@pytest.mark.parametrize(
    ("said", "unmetered"), [(0, None), (1, False), (2, True), (3, False), (4, True), (None, None)]
)
def test_a_network_is_what_network_manager_says(machine, said, unmetered):
    machine.bus = {"Metered": said}
    assert machine.facts().unmetered is unmetered


def test_it_is_in_use_by_its_load_or_by_its_session(machine):
    assert machine.facts(busy=-1.0).idle is False
    assert machine.facts(busy=1e9).idle is True
    machine.bus = {"IdleHint": False}
    assert machine.facts(busy=1e9).idle is False


def test_this_machine_answers():
    found = LinuxConditions(Rules(unknown="refuse")).now()
    assert found.eligible == (not found.reasons)
