# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a database to what was declared: modules, admin, company, lists.

Data flows one way: `desired` reads the document, `facts` the database with
plain SQL, `plan` compares the two, `apply` executes what the plan lists. Only
`apply` loads Tryton, which is why a run with nothing to do takes no second.
"""
