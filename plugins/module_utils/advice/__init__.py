# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What could be better in a database, with figures. Nothing in here changes anything.

look reads the server, the others judge what it read: plans the missing indexes, indexes those that are there, settings, space.
"""
