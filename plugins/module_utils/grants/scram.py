# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords as PostgreSQL stores them: SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677), made here so that no password is sent."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import stringprep
import unicodedata

ITERATIONS = 4096
SALT_BYTES = 16
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_PROHIBITED = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepared(password: str) -> str:
    """SASLprep (RFC 4013) as PostgreSQL applies it: what it cannot prepare is taken as it is."""
    if password.isascii():
        return password
    mapped = "".join(" " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char))
    text = unicodedata.normalize("NFKC", mapped)
    if not mapped or any(test(char) for test in _PROHIBITED for char in text):
        return password
    if any(map(stringprep.in_table_d1, text)):
        # Text that reads from the right has to do so from end to end.
        if any(map(stringprep.in_table_d2, text)) or not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
            return password
    return text


def verifier(password: str, salt: bytes = b"", iterations: int = ITERATIONS) -> str:
    """What pg_authid.rolpassword holds for this password; a random salt unless one is given."""
    salt = salt or os.urandom(SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password).encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    texts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{texts[0]}${texts[1]}:{texts[2]}"


def is_verifier(text: str) -> bool:
    return bool(_VERIFIER.fullmatch(text))


def is_md5(text: str) -> bool:
    return bool(re.fullmatch(r"md5[0-9a-f]{32}", text))


def matches(password: str, stored: str) -> bool:
    """Whether the stored verifier is of this password (or is this verifier)."""
    if is_verifier(password):
        return hmac.compare_digest(password, stored)
    match = _VERIFIER.fullmatch(stored)
    if not match:
        return False
    try:
        salt = base64.b64decode(match[2], validate=True)
    except ValueError:
        return False
    return hmac.compare_digest(verifier(password, salt, int(match[1])), stored)
