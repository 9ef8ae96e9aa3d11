# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a certificate is for a name: what browsers compare, which is the alternative names alone. Pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t


def names(text: str) -> list[str]:
    """Names and addresses of what `openssl x509 -ext subjectAltName` prints."""
    found = re.findall(r"(DNS|IP Address):([^,\s]+)", text)
    return [value.lower() if kind == "DNS" else str(ipaddress.ip_address(value)) for kind, value in found]


def covers(name: str, wanted: str) -> bool:
    """Whether a name of a certificate stands for what is wanted. A wildcard is one label, and the first."""
    wanted = wanted.lower().rstrip(".")
    try:
        return name == str(ipaddress.ip_address(wanted.strip("[]")))
    except ValueError:
        return name == wanted or (name.startswith("*.") and wanted.partition(".")[2] == name[2:])


def problem(text: str, wanted: t.Sequence[str], certificate: str, host: str, given: bool) -> str:
    """Why the certificate does not do, with the cure, in one line; '' where it names all that is wanted.

    :param text: what openssl printed of it; nothing where it cannot be read.
    :param given: whether it is the operator's, in crm_service_tls_certificate, and not by the internal authority.
    """
    found = names(text)
    missing = sorted({one for one in wanted if not any(covers(name, one) for name in found)})
    if not missing:
        return ""
    has = f"names {', '.join(found)}" if found else "names nothing"
    if given:
        return (
            f"crm_service_tls_certificate ({certificate}) on {host} {has}, not {', '.join(missing)}, under which users reach the CRM:"
            " put one on the host that names it, or correct foundation_domain or foundation_url"
        )
    return (
        f"{certificate} on {host} {has}, not {', '.join(missing)} (foundation_domain, foundation_url), and nginx would show it for that name:"
        " run crm.platform.foundation first, which makes it anew, or crm.platform.site"
    )
