# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How programs are run whose words are read, and with which umask files are written."""

from __future__ import annotations

# Whatever language the host speaks: for AnsibleModule.run_command_environ_update, and the environment of subprocess.
LANGUAGE = {"LC_ALL": "C.UTF-8"}
# What others read has to be readable, whatever the umask of the host's root is: for os.umask, before the first directory is made.
UMASK = 0o022
