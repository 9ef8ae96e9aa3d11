# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A quicker way to ask PostgreSQL for a table's foreign keys.

While Tryton makes its tables, in one transaction, it asks the views of
information_schema for the foreign keys of each table. The statistics of the
catalogs are still those of an empty database then, and PostgreSQL walks all
columns once for each foreign key: one to two seconds a question, a third of the
whole initialisation. Asked of pg_constraint by the table, it is an index scan.
"""

from __future__ import annotations

QUERY = """
SELECT c.conname, a.attname,
       CASE c.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT'
            WHEN 'r' THEN 'RESTRICT' ELSE 'NO ACTION' END
  FROM pg_class r
  JOIN pg_namespace n ON n.oid = r.relnamespace
  JOIN pg_constraint c ON c.conrelid = r.oid AND c.contype = 'f'
  JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = ANY (c.conkey)
 WHERE r.relname = %s AND n.nspname = %s
"""
# Where the handler of a table keeps the answer, until its definitions change.
CACHE = "_TableHandler__fk_deltypes"


def install() -> None:
    """Put the quicker question in place of Tryton's, in this process."""
    from trytond.backend.postgresql.table import TableHandler
    from trytond.transaction import Transaction

    def delete_rules(self):
        known = getattr(self, CACHE, None)
        if known is None:
            cursor = Transaction().connection.cursor()
            cursor.execute(QUERY, (self.table_name, self.table_schema))
            known = {(name, column): rule for name, column, rule in cursor}
            setattr(self, CACHE, known)
        return known

    if isinstance(getattr(TableHandler, "_fk_deltypes", None), property):
        TableHandler._fk_deltypes = property(delete_rules)
