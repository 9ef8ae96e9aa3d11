# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is not as the developers' are: it speaks German, its zone is India's, root's umask is 077, /tmp runs no programs.

A change is taken up, a second run changes nothing, and a restore brings the data back. CRM_FOREIGN_LOCALE=tr_TR.UTF-8 has another language.
"""

from __future__ import annotations

import os

import platform_image
import pytest
from backups import command

LANGUAGE = os.environ.get("CRM_FOREIGN_LOCALE", "de_DE.UTF-8")
ZONE = os.environ.get("CRM_FOREIGN_ZONE", "Asia/Kolkata")
# What sudo and PAM do elsewhere: the umask is the shell's.
PYTHON = '#!/bin/sh\numask 077\nexec /usr/bin/python3 "$@"\n'
PREPARE = f"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends locales tzdata > /dev/null
localedef -i {LANGUAGE.split(".", maxsplit=1)[0]} -f UTF-8 {LANGUAGE}
echo LANG={LANGUAGE} > /etc/default/locale
ln -sf /usr/share/zoneinfo/{ZONE} /etc/localtime
echo {ZONE} > /etc/timezone
mount -o remount,noexec /tmp
systemctl daemon-reexec
"""


@pytest.fixture(scope="module")
def foreign(collections, image, tmp_path_factory):
    server = platform_image.Server("foreign", tmp_path_factory.mktemp("foreign"), collections, image.name)
    server.host.options = ["--env", f"LANG={LANGUAGE}", "--env", f"LC_ALL={LANGUAGE}"]
    server.variables["ansible_python_interpreter"] = "/usr/local/bin/python-umask"
    try:
        server.host.create()
        server.host.write("/usr/local/bin/python-umask", PYTHON)
        server.host.sh("chmod 755 /usr/local/bin/python-umask")
        server.host.sh(PREPARE)
        server.host.wait_for("the CRM to answer", server.platform.healthy, 90)
        yield server
    finally:
        server.host.remove()


def test_it_speaks_another_language(foreign):
    assert "Datei oder Verzeichnis" in foreign.host.sh("ls /nothing 2>&1; true") or not LANGUAGE.startswith("de")
    assert foreign.host.sh("locale charmap").strip() == "UTF-8"


def test_a_change_is_taken_up_and_a_second_run_changes_nothing(foreign):
    """A host's new certificate, a setting of PostgreSQL and one of the CRM: each service runs with what is in its files."""
    before = foreign.platform.unit("nginx", "ActiveEnterTimestampMonotonic", "StateChangeTimestampMonotonic")
    foreign.variables.update(crm_service_session_minutes=90, database_settings={"work_mem": "9MB"})
    foreign.host.sh("rm /etc/crm-platform/pki/host.crt")
    done = foreign.run()
    assert done.rc == 0, done.failure or done.text[-2000:]
    assert foreign.stale() == [] and foreign.platform.sql("SHOW work_mem") == "9MB"
    assert foreign.platform.unit("nginx", "ActiveEnterTimestampMonotonic", "StateChangeTimestampMonotonic") != before
    foreign.platform.works()
    again = foreign.run()
    assert (again.rc, again.changed) == (0, []), again.failure


def test_what_others_read_can_be_read(foreign):
    unreadable = foreign.host.sh("find /srv/crm-platform/apt /etc/crm-platform/pki /var/lib/prometheus -type d ! -perm -005").strip()
    assert unreadable == ""
    foreign.host.sh("rm -rf /srv/crm-platform/apt")
    done = foreign.run(playbook="crm.platform.crm_package", crm_package_deb=platform_image.ensure().package)
    assert done.rc == 0, done.failure
    assert foreign.host.sh("find /srv/crm-platform/apt -type d ! -perm -005; find /srv/crm-platform/apt -type f ! -perm -004").strip() == ""


def test_a_backup_and_its_restore(foreign):
    party = foreign.platform.login().create_party("Größe")
    command(foreign, "backup", "incr")
    names = foreign.host.sh("ls /var/backups/crm-platform/database/backup/crm | grep ^2").split()
    # Named after UTC, so that no set of local time is ever later than the next.
    assert max(names).split("_")[-1][:13] <= foreign.host.sh("date -u +%Y%m%d-%H%M").strip()
    said = command(foreign, "restore", "--confirm", "crm")
    assert said["kept"]
    foreign.host.wait_for("the CRM to answer", foreign.platform.healthy, 30)
    assert foreign.platform.login().party_name(party) == "Größe"
    told = foreign.run(playbook="crm.platform.health_check", health_check_skip=["load", "pressure", "updates", "backup_key"])
    assert [task for task in told.tasks if task["result"].get("failed") and "could not" in str(task["result"].get("msg"))] == []
