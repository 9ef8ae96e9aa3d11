# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module declared, kept on the host, so that health_check can tell later what somebody changed by hand. No secret is in it."""

from __future__ import annotations

import json
import os
import typing as t

from . import whole

# How the module came in, and what is about the run and not about what is wanted.
LEFT_OUT = ("login_", "ssl_", "ca_cert", "connect_params", "session_role", "record", "report", "lock_", "statement_timeout", "_ansible")


def text(options: t.Mapping[str, t.Any]) -> str:
    """The options without how they came in, and without passwords; the same whenever the same is declared."""
    kept = {name: value for name, value in options.items() if not name.startswith(LEFT_OUT)}
    if kept.get("roles"):
        kept["roles"] = [{name: value for name, value in role.items() if name != "password"} for role in kept["roles"]]
    return json.dumps(kept, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def keep(path: t.Optional[str], options: t.Mapping[str, t.Any], check: bool) -> bool:
    """Whether the file is not as it has to be; it is written unless ``check`` is set. OSError where it cannot be."""
    if not path:
        return False
    wanted = text(options)
    try:
        with open(path, encoding="utf-8") as stream:
            if stream.read() == wanted and os.fstat(stream.fileno()).st_mode & 0o777 == 0o600:
                return False
    except (OSError, ValueError):
        pass
    if not check:
        whole.write(path, wanted, 0o600)
    return True
