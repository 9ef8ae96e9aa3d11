# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OSPF between the hosts of the platform: model (what is wanted), frr (its text), host (what is there). Nothing here knows Ansible."""
