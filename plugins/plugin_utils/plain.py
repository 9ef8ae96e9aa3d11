# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of the inventory for the libraries, which know no Ansible."""

from __future__ import annotations


def plain(value):
    """Without the types by which Ansible remembers where a value comes from."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, str):
        return str(value)
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value
