# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How the health modules reach the host's database; the options are LOGIN of module_utils/health/probe.py."""

    DOCUMENTATION = r"""
options:
  login_db:
    description: The CRM's database; empty where the host has none.
    type: str
    default: ""
  login_unix_socket:
    description: Directory of the server's socket.
    type: str
    default: ""
  login_host:
    description: Name or address of the server, where it is not reached by its socket.
    type: str
    default: ""
  login_port:
    description: Its port.
    type: int
    default: 5432
  login_user:
    description: The role to log in as. Not all is visible to others than a superuser, and repairs need one.
    type: str
    default: postgres
  login_password:
    description: Its password.
    type: str
    default: ""
"""
