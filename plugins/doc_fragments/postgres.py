# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """How to reach PostgreSQL; the behaviour is in module_utils/postgres.py."""

    DOCUMENTATION = r"""
options:
  login_db:
    description: Database to connect to.
    type: str
    required: true
    aliases: [db]
  login_host:
    description:
      - Host that the server listens on. Empty or V(localhost) together with O(login_unix_socket), and empty alone, means the
        server's socket on this host.
    type: str
    default: ''
    aliases: [host]
  login_unix_socket:
    description: Directory of the server's socket; empty for the one that libpq was built with, C(/var/run/postgresql) on Debian.
    type: str
    default: ''
    aliases: [unix_socket]
  login_port:
    description: Port of the server, which names its socket too.
    type: int
    default: 5432
    aliases: [port]
  login_user:
    description: Role to log in as. Over the socket the server usually asks for the system's user of that name, so run the task with C(become)
      and C(become_user) set to it.
    type: str
    default: postgres
    aliases: [login]
  login_password:
    description: Password of O(login_user). Not needed where the server trusts the system's user or a certificate.
    type: str
    default: ''
  ssl_mode:
    description: Whether the connection is encrypted, and how far the server's certificate is verified; as C(sslmode) of libpq.
    type: str
    choices: [allow, disable, prefer, require, verify-ca, verify-full]
    default: prefer
  ca_cert:
    description: File with the certificates of the authorities that may have signed the server's. V(verify-ca) and V(verify-full) need it,
      unless libpq's own C(~/.postgresql/root.crt) is there.
    type: path
    aliases: [ssl_rootcert]
  ssl_cert:
    description: File with the certificate to log in with.
    type: path
  ssl_key:
    description: File with the key of O(ssl_cert).
    type: path
  connect_params:
    description: "More parameters of libpq by their names, such as V({connect_timeout: 5}). They take precedence over the other options."
    type: dict
    default: {}
  session_role:
    description: Role to act as after the login, with C(SET ROLE). The login role has to be a member of it.
    type: str
requirements:
  - psycopg2 2.8 or newer on the host that runs the module (C(python3-psycopg2) on Debian)
  - PostgreSQL 13 to 18
"""
