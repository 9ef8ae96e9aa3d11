# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtime of the package: its configuration file, and what is refused before it goes live."""

from __future__ import annotations

import os
import sys
import types
import urllib.parse

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(ROOT / "roles/crm_package/files/source"))

from crm_platform import checkconf, gate, settings

GOOD = """\
[platform]
database = crm
workers = 3
access_log = yes
[database]
uri = postgresql://crm@/?host=/var/run/postgresql
default_name = postgres
list = True
[queue]
worker = True
"""


@pytest.fixture
def conf(tmp_path, monkeypatch):
    # The real driver is in the package only; what it does with a URI is not what is tested here.
    driver = types.ModuleType("psycopg")
    driver.Error = type("Error", (Exception,), {})
    driver.conninfo = types.ModuleType("psycopg.conninfo")
    driver.conninfo.conninfo_to_dict = lambda text: {}
    monkeypatch.setitem(sys.modules, "psycopg", driver)
    monkeypatch.setitem(sys.modules, "psycopg.conninfo", driver.conninfo)
    path = tmp_path / "crm-platform.conf"

    def write(text):
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_a_good_file(conf):
    path = conf(GOOD)
    assert checkconf.complaints(path) == []
    chosen = settings.read(path)
    assert (chosen.workers, chosen.access_log, chosen.threads) == (3, True, settings.Settings().threads)


def test_defaults_lie_in_their_ranges():
    for name, (low, high) in settings.RANGES.items():
        assert low <= getattr(settings.Settings(), name) <= high


def test_every_number_has_its_range():
    numbers = {name for name, value in settings.Settings()._asdict().items() if isinstance(value, int) and not isinstance(value, bool)}
    assert numbers == set(settings.RANGES)


@pytest.mark.parametrize(
    "wrong, right, said",
    [
        ("workers = 3", "workers = many", "workers"),
        ("workers = 3", "workers = 0", "from 1 to 256"),
        ("workers = 3", "workers = -1", "workers"),
        ("workers = 3", "workers = ٣", "workers"),
        ("access_log = yes", "access_log = perhaps", "true or false"),
        ("database = crm", "database =", "empty"),
        ("uri = postgresql://crm@/?host=/var/run/postgresql", "uri = sqlite://", "postgresql://"),
        ("uri = postgresql://crm@/?host=/var/run/postgresql", "", "postgresql://"),
        ("uri = postgresql://crm@/?host=/var/run/postgresql", "uri = postgresql://crm@host:port/", "libpq"),
        ("default_name = postgres", "default_name = crm", "default_name"),
        ("list = True", "list = maybe", "list"),
        ("worker = True", "worker = 7", "worker"),
        ("[queue]", "[cache]\nclean_timeout = soon\n[queue]", "clean_timeout"),
        ("[queue]", "queue]", "queue"),
        ("[queue]", "[database]", "database"),
    ],
)
def test_a_bad_file(conf, wrong, right, said):
    found = checkconf.complaints(conf(GOOD.replace(wrong, right)))
    assert found
    assert said in " ".join(found)
    assert all("\n" not in line for line in found)


def test_a_key_of_a_newer_package_is_passed_over(conf):
    assert settings.read(conf(GOOD.replace("workers = 3", "workers = 3\nnovelty = 1"))).workers == 3


def test_no_file(tmp_path):
    assert "cannot be read" in checkconf.complaints(str(tmp_path / "none"))[0]


def test_complaints_do_not_show_the_password(conf):
    found = checkconf.complaints(conf(GOOD.replace("uri = postgresql://crm@/", "uri = postgresql://crm:s3cret@host:port/")))
    assert found
    assert "s3cret" not in " ".join(found)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_any_password_survives(password):
    """What the role writes, percent-encoded, libpq gets back."""
    quoted = urllib.parse.quote(password, safe="")
    parser = settings.configparser.ConfigParser(interpolation=None)
    parser.read_string(f"[database]\nuri = postgresql://crm:{quoted}@db:5432/?sslmode=verify-full\n")
    parts = urllib.parse.urlsplit(settings.conninfo(parser, "crm"))
    assert urllib.parse.unquote(parts.password) == password
    assert (parts.hostname, parts.port, parts.path, parts.query) == ("db", 5432, "/crm", "sslmode=verify-full")


def test_names_are_for_the_process(monkeypatch):
    for name in ("TRYTOND_CONFIG", "TRYTOND_APPNAME"):
        monkeypatch.delenv(name, raising=False)
    assert settings.prepare("crm-platform-web") == settings.DEFAULT_PATH
    assert os.environ["TRYTOND_APPNAME"] == "crm-platform-web"


@pytest.mark.parametrize(
    "path, name",
    [
        ("/", None),
        ("/rpc/", None),
        ("/crm/rpc/", "crm"),
        ("/other/session/login", "other"),
        ("//other/rpc/", "other"),
        ("/avatar/Y3Jt/0123", "crm"),
        ("/s/Y3Jt$abc", "crm"),
        ("/m/b3RoZXI/unsubscribe", "other"),
        ("/m/empty.gif", None),
        ("/avatar", None),
    ],
)
def test_the_database_that_a_path_names(path, name):
    assert gate.named_database(path) in ((name,) if name else (None, ""))


@given(st.text())
def test_no_path_breaks_the_gate(path):
    gate.named_database(path)


def passed_on(status, path, body=(b"could not open file \"base/16384/2619\"",), size=""):
    """(status, body) that a client sees of what Tryton answers."""
    seen = []

    def tryton(environ, start_response):
        start_response(status, [("Content-Type", "text/html")])
        return list(body)

    environ = {"PATH_INFO": path, "REQUEST_METHOD": "POST", "CONTENT_LENGTH": size}
    found = gate.pass_on(tryton, environ, lambda *words: seen.append(words), "crm", (100, 1000))
    return seen[0][0], b"".join(found)


@pytest.mark.parametrize("path", ["/crm/", "/crm/rpc/", "/crm/session/login"])
def test_a_login_without_a_database_is_503(path):
    assert passed_on("404 NOT FOUND", path) == ("503 Service Unavailable", b'{"error": "database unavailable"}\n')


def test_what_is_not_there_is_404_elsewhere():
    assert passed_on("404 NOT FOUND", "/crm/data/party.party", [b"no"]) == ("404 NOT FOUND", b"no")
    assert passed_on("200 OK", "/crm/rpc/", [b"yes"]) == ("200 OK", b"yes")


def test_no_503_tells_a_path_of_the_server():
    assert b"base/" not in passed_on("503 SERVICE UNAVAILABLE", "/crm/rpc/")[1]


@pytest.mark.parametrize("status", ["400 BAD REQUEST", "413 REQUEST ENTITY TOO LARGE"])
def test_a_file_of_somebody_whose_session_has_ended_is_401(status):
    assert passed_on(status, "/crm/rpc/", size="1000") == ("401 Unauthorized", b'{"error": "the session has ended"}\n')
    for path, size in (("/crm/rpc/", "1001"), ("/crm/rpc/", "100"), ("/crm/data/party.party", "500")):
        assert passed_on(status, path, [b"no"], size) == (status, b"no")
