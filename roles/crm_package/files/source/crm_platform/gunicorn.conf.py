# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gunicorn's configuration; every value comes from section [platform]."""

import gc as _gc
import os as _os

import gunicorn.util as _util

from crm_platform import settings as _settings

_settings.prepare("crm-platform-web")
_chosen = _settings.read()

wsgi_app = "crm_platform.wsgi:application"
proc_name = "crm-platform"
bind = _chosen.bind
# The socket is for nginx, which runs as a user of its own: 0666. What comes in
# through it has to log in, as everybody.
umask = 0o111

# gunicorn hands each socket that it makes to the user and group that it runs as,
# also when they are its owners already. The unit forbids all changing of owners.
_chown = _util.chown


def _chown_what_differs(path, uid, gid):
    status = _os.stat(path)
    if (status.st_uid, status.st_gid) != (uid, gid):
        _chown(path, uid, gid)


_util.chown = _chown_what_differs

worker_class = "gthread"
workers = _chosen.workers
threads = _chosen.threads
max_requests = _chosen.max_requests
# Not all workers leave at the same moment.
max_requests_jitter = _chosen.max_requests // 10
timeout = 60
graceful_timeout = _chosen.graceful_timeout
keepalive = 75
# The heartbeat file: on a disk, a busy one would make workers look dead.
worker_tmp_dir = _chosen.worker_tmp_dir
control_socket_disable = True

# The journal is the log.
errorlog = "-"
loglevel = "warning"
accesslog = "-" if _chosen.access_log else None
access_log_format = '%({x-forwarded-for}i)s "%(r)s" %(s)s %(b)s %(M)sms'

# nginx alone reaches the socket and sets these headers; Tryton reads them
# ([web] num_proxies = 1), gunicorn only the scheme.
forwarded_allow_ips = "*"


# Imported once, before the workers are forked: they share that memory.
preload_app = True


def _load(step, log):
    from crm_platform import pool

    try:
        with pool.patience(3):
            step()
    except Exception as exc:  # noqa: BLE001 - the first request tries again
        log.warning("the database does not answer yet: %s", " ".join(str(exc).split()))


def when_ready(server):
    """Load the models as well; what comes meanwhile waits at the socket."""
    from crm_platform import wsgi

    _load(wsgi.application.preload, server.log)
    # A collection would write to, and so copy, all that the workers share.
    _gc.collect()
    _gc.freeze()


def post_worker_init(worker):
    """Where the database was away before, load them before the first request."""
    from crm_platform import wsgi

    _load(wsgi.application.load, worker.log)
