# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module traffic_shaping, as far as it needs no kernel: what it makes of links and of accounts."""

from __future__ import annotations

import types

import pytest
from ansible_collections.crm.platform.plugins.module_utils.shaping import host, model
from ansible_collections.crm.platform.plugins.modules import traffic_shaping


def shaping(check_mode=False, **params):
    """What Shaping's methods read of it."""
    warned = []
    made = types.SimpleNamespace(
        params={"rate": "auto", "ingress_rate": "", "overhead": 0, "mpu": 0, **params},
        variable=lambda option: f"qos_{option}",
        guesses=[],
        warned=warned,
        module=types.SimpleNamespace(check_mode=check_mode, warn=warned.append),
    )
    return made


@pytest.mark.parametrize(
    "speed, spec, params, rate, warned",
    [
        ("-1", {}, {}, 10**9, "qos_rate: auto of a link whose speed is not known: eth0"),
        (None, {}, {}, 10**9, "qos_rate: auto of a link"),
        ("-1", {"rate": "50%"}, {}, 5 * 10**8, "qos_interfaces: eth0: rate: 50% of a link"),
        ("10000", {}, {}, 10**10, ""),
        ("-1", {}, {"rate": "10gbit"}, 10**10, ""),
        ("-1", {"rate": "20mbit"}, {}, 2 * 10**7, ""),
    ],
)
def test_a_rate_that_is_only_guessed_is_told(monkeypatch, tmp_path, speed, spec, params, rate, warned):
    def opened(path, **dummy):
        assert path == "/sys/class/net/eth0/speed"
        if speed is None:
            raise OSError("Invalid argument")
        (tmp_path / "speed").write_text(speed)
        return open(tmp_path / "speed", encoding="ascii")

    monkeypatch.setattr(host, "open", opened, raising=False)
    made = shaping(**params)
    assert traffic_shaping.Shaping.link(made, "eth0", spec).rate == rate
    assert len(made.guesses) == bool(warned) and all(guess.startswith(warned) and "1gbit" in guess for guess in made.guesses)


def users(made, *names):
    match = {"users": list(names), "ports": [9]}
    classes = [{"name": "crm", "guarantee": "60%", "matches": [match]}, {"name": "other", "guarantee": "10%", "default": True}]
    made.classes = model.parse_classes("qos_classes", classes)
    return [match.users for cls in traffic_shaping.Shaping.known_users(made) for match in cls.matches]


def test_accounts_are_written_as_numbers():
    """An account that is removed must not keep nft from loading the rules of all the others at boot."""
    assert users(shaping(), "root", "4711", "0") == [("0", "4711")]
    with pytest.raises(model.ShapingError, match="nosuchuser does not exist here; make the account first"):
        users(shaping(), "root", "nosuchuser")
    checked = shaping(check_mode=True)
    assert users(checked, "root", "nosuchuser") == [("0",)] and "does not exist here yet" in checked.warned[0]
    assert users(shaping(check_mode=True), "nosuchuser") == []
