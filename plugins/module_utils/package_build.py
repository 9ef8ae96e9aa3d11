# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why the package could not be built, out of what pip, npm, make and dpkg print. Pure."""

from __future__ import annotations

import re

# What is found, its cause and the cure. The first that matches counts: a full disk or a wrong certificate makes pip complain of
# versions that it cannot find, too.
CAUSES = (
    (
        r"another build has been under way",
        "another build has been under way for half an hour",
        "wait for it, or end it (`lslocks` names the process that holds /var/cache/crm-platform/package/lock)",
    ),
    (r"No space left on device|ENOSPC|Disk quota exceeded|MiB free, the build needs", "the disk is full", "make room below /var and run again"),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SELF_SIGNED_CERT|UNABLE_TO_(?:GET_ISSUER_CERT|VERIFY_LEAF)|DEPTH_ZERO_SELF_SIGNED"
        r"|self-signed certificate|unable to get (?:local )?issuer certificate|CERT_HAS_EXPIRED|ERR_TLS_CERT_ALTNAME|SSLCertVerificationError",
        "{index} shows a certificate that this host does not trust",
        "set crm_package_ca_bundle to a file of the controller with the certificate (PEM) of the authority that signed it",
    ),
    (
        r"\b407\b.*[Pp]roxy|[Pp]roxy.*\b407\b|Proxy Authentication Required|Cannot connect to proxy|ProxyError",
        "the proxy to {index} refuses or does not answer",
        "correct the proxy in the settings of pip and npm on the host",
    ),
    (
        r"Temporary failure in name resolution|Name or service not known|No address associated with hostname|ENOTFOUND|EAI_AGAIN"
        r"|getaddrinfo failed|NameResolutionError",
        "the name of {index} cannot be resolved",
        "correct DNS on the host, or name one that it reaches in crm_package_pip_index_url and crm_package_npm_registry",
    ),
    (
        r"Network is unreachable|No route to host|Connection refused|ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|ECONNRESET|ConnectTimeoutError"
        r"|ReadTimeoutError|[Cc]onnection timed out|[Rr]ead timed out|Connection reset by peer|NewConnectionError",
        "{index} cannot be reached",
        "give the host a route to it, or name one that it reaches in crm_package_pip_index_url and crm_package_npm_registry",
    ),
    (
        r"\b40[13] Client Error|40[13] Error|code E40[13]|E40[13]\b|User for .*: *$",
        "{index} asks for a login",
        "put the credentials into the settings of pip and npm on the host",
    ),
    (
        r"DO NOT MATCH THE HASHES|its sha512 is|EINTEGRITY|Hash mismatch",
        "{index} serves something else than what was locked",
        "name an index in crm_package_pip_index_url and crm_package_npm_registry that passes the files on as they were published",
    ),
    (
        r"No matching distribution found|Could not find a version|code E404|E404\b|404 Not Found|404 Client Error",
        "{index} lacks a version that is needed",
        "name an index in crm_package_pip_index_url and crm_package_npm_registry that has it",
    ),
    (r"\bKilled\b|Cannot allocate memory|MemoryError|out of memory", "the memory is not enough", "give the host more memory and run again"),
    (r"(?m)^[EW]: crm-platform", "lintian complains of the package", "correct what it names, or set crm_package_lintian to false"),
)
PIP = re.compile(r"/simple/|\bpip\b|No matching distribution|Could not find a version|SSLCertVerificationError|DO NOT MATCH THE HASHES")
NPM = re.compile(r"\bnpm\b|\bcode E[A-Z0-9_]+|web client")
LEFT_OUT = re.compile(r"make(\[\d+\])?: |WARNING: Retrying|\s*$|\[notice\]")
LONGEST = 200


def index(line: str) -> str:
    """What the line complains of: pip's package index, npm's registry, or one of them."""
    if NPM.search(line) and not PIP.search(line):
        return "the registry of npm"
    return "the package index of pip" if PIP.search(line) else "the package index"


def cause(text: str) -> tuple[str, str]:
    """The cause and the cure; the last words and no cure where they are unknown."""
    for pattern, said, cure in CAUSES:
        found = re.search(pattern, text)
        if found:
            begin, end = text.rfind("\n", 0, found.start()) + 1, text.find("\n", found.end())
            return said.format(index=index(text[begin : end if end >= 0 else None])), cure
    words = [line.strip() for line in text.splitlines() if not LEFT_OUT.match(line)]
    return (f"the last words are: {words[-1][:LONGEST]}" if words else "it said nothing"), ""


def problem(text: str, log: str, host: str) -> str:
    """One line: what failed, why, the cure, and where all of the output is.

    :param text: the end of the output.
    :param log: the file of the host that holds all of it.
    """
    why, cure = cause(text)
    return f"The package could not be built on {host}: {why}{'; ' + cure if cure else ''}. All that was said is in {log} there."
