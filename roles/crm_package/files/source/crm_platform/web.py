# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web process: gunicorn with the configuration that lies beside this file."""

from __future__ import annotations

import pathlib
import sys


def main() -> None:
    from gunicorn.app.wsgiapp import WSGIApplication

    sys.argv[1:1] = ["--config", str(pathlib.Path(__file__).with_name("gunicorn.conf.py"))]
    WSGIApplication("%(prog)s [OPTIONS]").run()


if __name__ == "__main__":
    main()
