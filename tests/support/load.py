# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the CRM that asks so many times a second, each time over a new connection, and tries once more where that fails.

    load.py ADDRESS NAME AUTHORITY SECONDS RATE RETRIES PATIENCE      prints one JSON object; ends early with its standard input

The second try comes a second after the first began, or when that one's patience ends. Who answered is told by the name in the
certificate. Needs Python's standard library only: it runs in a container.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import ssl
import sys
import threading
import time

AGAIN = 1.0


async def ask(address: str, name: str, context: ssl.SSLContext) -> str:
    """The host that answered; an exception otherwise."""
    reader, writer = await asyncio.open_connection(address, 443, ssl=context, server_hostname=name)
    try:
        certificate = writer.get_extra_info("peercert")
        writer.write(f"GET /health HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        if not answer.startswith(b"HTTP/1.1 200") or b'"ok"' not in answer:
            raise ConnectionError(answer[:40].decode(errors="replace") or "an empty answer")
        return dict(pair for part in certificate["subject"] for pair in part)["commonName"]
    finally:
        writer.close()


async def request(place: tuple, retries: int, patience: float, seen: list) -> None:
    started, errors, host = time.time(), [], None
    for dummy in range(retries + 1):
        try:
            host = await asyncio.wait_for(ask(*place), patience)
            break
        except (OSError, ssl.SSLError, asyncio.TimeoutError, asyncio.IncompleteReadError) as exc:
            errors.append(f"{type(exc).__name__}: {exc}")
            await asyncio.sleep(max(0.0, started + AGAIN - time.time()))
    seen.append({"started": started, "ended": time.time(), "host": host, "errors": errors})


def summary(seen: list) -> dict:
    answered = sorted(one["ended"] for one in seen if one["host"])
    hit = sorted(one["started"] for one in seen if one["errors"])
    return {
        "requests": len(seen),
        "failed": sum(1 for one in seen if not one["host"]),
        "retried": len(hit),
        # The longest time in which nobody was answered, and that between the first and the last that needed a second try.
        "gap": round(max((later - earlier for earlier, later in zip(answered, answered[1:])), default=float("inf")), 3),
        "window": round(hit[-1] - hit[0], 3) if hit else 0.0,
        "first_hit": hit[0] if hit else None,
        "slowest": round(max(one["ended"] - one["started"] for one in seen), 3),
        "hosts": collections.Counter(one["host"] for one in seen if one["host"]),
        "errors": collections.Counter(error for one in seen for error in one["errors"]).most_common(4),
    }


async def main() -> None:
    address, name, authority, seconds, rate, retries, patience = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    stopped = threading.Event()
    threading.Thread(target=lambda: (os.read(0, 1), stopped.set()), daemon=True).start()
    began, seen, tasks = time.time(), [], []
    for number in range(int(float(seconds) * float(rate))):
        await asyncio.sleep(max(0.0, began + number / float(rate) - time.time()))
        if stopped.is_set():
            break
        tasks.append(asyncio.create_task(request((address, name, context), int(retries), float(patience), seen)))
    await asyncio.gather(*tasks)
    print(json.dumps(summary(seen)))


if __name__ == "__main__":
    asyncio.run(main())
