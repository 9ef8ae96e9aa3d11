# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which database a request is for, and what a client is told where that is away or the session has ended. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import typing as t

logger = logging.getLogger("crm_platform.gate")

# Paths of Tryton that name no database, and that name it in base64.
UNNAMED = frozenset({"", "rpc"})
ENCODED = frozenset({"avatar", "m", "s"})


def named_database(path: str) -> str | None:
    """The database that a path of Tryton names; None where it names none."""
    head, dummy, rest = path.lstrip("/").partition("/")
    if head in UNNAMED:
        return None
    if head not in ENCODED:
        return head
    token = rest.partition("/")[0].partition("$")[0]
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("utf-8")
    except (binascii.Error, ValueError):
        # Such as /m/empty.gif; what Tryton cannot decode it does not open.
        return None


def answer(environ: dict, start_response: t.Callable, status: str, report: dict[str, t.Any]) -> list[bytes]:
    """A WSGI answer in JSON."""
    body = json.dumps(report).encode("utf-8") + b"\n"
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    start_response(status, headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [body]


def logs_in(path: str, database: str) -> bool:
    """Whether a path of Tryton is one at which a client logs in or asks for a new password."""
    return path in (f"/{database}/", f"/{database}/rpc/", f"/{database}/session/login")


def length(environ: dict) -> int:
    """Of the request's body, in bytes; 0 where it does not say."""
    text = environ.get("CONTENT_LENGTH") or ""
    return int(text) if text.isdecimal() else 0


def pass_on(inner: t.Callable, environ: dict, start_response: t.Callable, database: str, limits: tuple[int, int]) -> t.Any:
    """Pass a request on to Tryton, and put two of its answers right.

    Where it finds no database, the answer is 503 in words that tell nothing of the server: Tryton answers a login with 404 then, as if the
    database were unknown, and puts PostgreSQL's own message into a 503.
    Where a session has ended, the answer is 401, at which a client logs in and sends its file again: of whoever is not logged in Tryton reads
    no request of that size, and answers 400 or 413, with nothing to be done about it.

    :param limits: bytes that a request may have of a stranger, and of whoever is logged in.
    """
    begun: list = []

    def begin(status: str, headers: list, exc_info: t.Any = None) -> None:
        begun[:] = [status, headers, *([exc_info] if exc_info else [])]

    body = inner(environ, begin)
    status = begun[0] if begun else ""
    if status.startswith("503") or (status.startswith("404") and logs_in(environ.get("PATH_INFO", ""), database)):
        if hasattr(body, "close"):
            body.close()
        logger.error("%s is answered with 503: the database is not available", environ.get("PATH_INFO", ""))
        return answer(environ, start_response, "503 Service Unavailable", {"error": "database unavailable"})
    too_large = limits[0] < length(environ) <= limits[1]
    if too_large and status[:3] in ("400", "413") and environ.get("PATH_INFO", "") == f"/{database}/rpc/":
        if hasattr(body, "close"):
            body.close()
        return answer(environ, start_response, "401 Unauthorized", {"error": "the session has ended"})
    if begun:
        start_response(*begun)
    return body
