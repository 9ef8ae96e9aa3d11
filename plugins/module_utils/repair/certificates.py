# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What shows the host's certificate, once that was made anew: told to read it. The foundation role makes it."""

from __future__ import annotations

import os

from .. import units
from .registry import Repair, RepairError, Step, repair
from .services import clusters

# Who reads it when told so, and who only when it is started.
READERS = {"nginx.service": "reload", "pgbackrest.service": "reload", "crm-platform-backup-files.service": "restart"}


@repair("renew_certificates", "Have the host's certificate made anew, and shown", ("crm_certificate", "sec_certificates"))
class RenewCertificates(Repair):
    def look(self, host, outcome):
        certificate = host.options["certificate"]
        if not os.path.exists(certificate):
            return {"made": 0.0, "units": {}, "verbs": {}}
        verbs = {**{name: "reload" for name in sorted(clusters(host))}, **READERS}
        argv = ["systemctl", "show", "--no-pager", "--timestamp=us+utc", "--property", ",".join(units.PROPERTIES), "--", *verbs]
        return {"made": os.stat(certificate).st_mtime, "units": units.parse_show(host.run(argv)[1]), "verbs": verbs}

    def plan(self, found, options, outcome):
        steps = []
        for name, verb in found["verbs"].items():
            state = found["units"].get(name, {})
            if state.get("LoadState") != "loaded" or state.get("ActiveState") not in units.RUNNING:
                continue
            if options["renewed"] or units.outdated({"reads": ["it"]}, state, {"it": found["made"]}):
                text = f"{verb} {name} (it shows the certificate that was there before)"
                steps.append(Step(text, verb, (name,), f"{name}: the old certificate", f"{name}: the new certificate"))
        return steps

    def do(self, host, step, outcome):
        (name,) = step.what
        rc, dummy, err = host.run(["systemctl", step.verb, name])
        if rc:
            raise RepairError(f"`systemctl {step.verb} {name}`: {' '.join(err.split())}: {host.journal(name)}")
