# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/nginx_sites.py: which sites of an nginx that was there before stand in the way, and what is said of them."""

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.crm.platform.plugins.module_utils import host_facts, nginx_sites as lib

DEFAULT = "/etc/nginx/sites-enabled/default"
SHOP = "/etc/nginx/sites-enabled/shop"
MAIN = """
user www-data; # server { listen 443; }
http {
    log_format main '$remote_addr "{;}" $status';
    include /etc/nginx/conf.d/*.conf;
    include /etc/nginx/sites-enabled/*;
}
"""
STOCK = """
server {
    listen 80 default_server;
    listen [::]:80 default_server;
    server_name _;
    location / { try_files $uri $uri/ =404; }
}
#server { listen 443; }
"""
NAMED = """
upstream shop { server 127.0.0.1:8000; }
server { listen 80; server_name shop.example.org; return 301 https://$host$request_uri; }
server { listen 192.0.2.1:443 ssl; listen [2001:db8::1]:443 ssl; server_name shop.example.org "www.shop.example.org"; }
"""


def seen(stock=(), **files):
    texts = {"/etc/nginx/nginx.conf": MAIN, **{path.replace("_", "/"): text for path, text in files.items()}}
    return lib.sites("".join(f"# configuration file {path}:\n{text}\n" for path, text in texts.items()), stock)


def shop(text):
    return seen(**{SHOP: text})


def said(found, foreign="refuse", listening=None, names=("crm.example.org",)):
    return lib.problem(found, listening or {}, [80, 443], list(names), "app1", "crm_service_foreign_sites", foreign)


def test_what_a_site_listens_on_and_answers_to():
    assert lib.servers(NAMED) == [
        {"ports": [80], "names": ["shop.example.org"], "default": []},
        {"ports": [443, 443], "names": ["shop.example.org", "www.shop.example.org"], "default": []},
    ]
    assert lib.servers(STOCK) == [{"ports": [80, 80], "names": ["_"], "default": [80, 80]}]
    assert lib.servers("server { server_name x; }")[0]["ports"] == [80]
    assert [lib.port(one) for one in ("8080", "127.0.0.1", "[::1]", "[::]:443", "*:81", "localhost:82")] == [8080, 80, 80, 443, 81, 82]
    assert lib.port("unix:/run/x.sock") is None and lib.servers("server { listen unix:/run/x.sock; }")[0]["ports"] == [80]


def test_nothing_there_is_nothing_in_the_way():
    assert said({}) == "" and said(seen()) == "" and said(shop("server { listen 8080; }")) == ""


def test_debians_own_page_goes_and_is_kept():
    found = seen([DEFAULT], **{DEFAULT: STOCK})
    assert said(found) == "" and lib.taken(found, [80, 443], "refuse") == [DEFAULT]


def test_one_that_somebody_has_changed_is_refused_by_name():
    found = seen(**{DEFAULT: STOCK})
    line = said(found)
    assert DEFAULT in line and "port 80" in line and "default server" in line and "crm_service_foreign_sites=replace" in line and "=keep" not in line
    assert lib.taken(found, [80, 443], "refuse") == [] and said(found, "keep") == line
    assert said(found, "replace") == "" and lib.taken(found, [80, 443], "replace") == [DEFAULT]


def test_a_site_with_a_name_of_its_own_may_stay():
    line = said(shop(NAMED))
    assert SHOP in line and "port 80, 443" in line and "=keep" in line and "=replace" in line and "\n" not in line
    assert said(shop(NAMED), "keep") == "" and lib.taken(shop(NAMED), [80, 443], "keep") == []


def test_a_site_with_our_name_may_not():
    line = said(shop("server { listen 443 ssl; server_name CRM.example.org; }"), "keep")
    assert "answers to crm.example.org" in line and "=replace" in line and "=keep" not in line


def test_what_is_in_the_main_file_cannot_be_taken_out():
    found = lib.sites("# configuration file /etc/nginx/nginx.conf:\n" + MAIN.replace("http {", "http { server { listen 80 default_server; }"))
    assert "choose another host, or move it to another port" in said(found, "replace") and lib.taken(found, [80], "replace") == []


def test_ours_are_nobody_elses():
    assert seen(**{"/etc/nginx/sites-enabled/crm-platform-repository": "server { listen 443; }"})["sites"] == []


def test_an_nginx_that_does_not_read_the_sites_or_is_broken():
    assert "does not read /etc/nginx/sites-enabled" in said(lib.sites("# configuration file /etc/nginx/nginx.conf:\nhttp { include conf.d/*.conf; }\n"))
    assert "refuses its own configuration (unknown directive)" in said({"included": True, "sites": [], "said": "unknown directive"})


def test_another_program_on_the_ports():
    sockets = (
        'LISTEN 0 511 *:80 *:* users:(("apache2",pid=31,fd=4),("apache2",pid=30,fd=4))\n'
        'LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))\nLISTEN 0 511 [::]:443 [::]:* users:(("nginx",pid=5,fd=6))\n'
    )
    listening = lib.listeners(sockets)
    assert listening == {"80": "apache2", "22": "sshd", "443": "nginx"}
    assert said({}, listening=listening).startswith("apache2 (port 80) listens on app1")


@pytest.mark.parametrize("text", ["", "server {", "}}}", "server { listen 80 'x", "http { server { listen 1; } }", "listen 80;"])
def test_whatever_is_in_a_file_can_be_read(text):
    assert isinstance(lib.servers(text), list)


def test_what_a_package_brings_is_known_by_its_sum(tmp_path):
    (tmp_path / "default").write_text(STOCK)
    (tmp_path / "changed").write_text(NAMED)
    (tmp_path / "enabled").symlink_to(tmp_path / "default")
    total = hashlib.md5(STOCK.encode(), usedforsecurity=False).hexdigest()
    listing = f" {tmp_path}/default {total}\n {tmp_path}/changed {total}\n {tmp_path}/gone {total} obsolete\n\n"
    paths = [str(tmp_path / name) for name in ("enabled", "changed", "gone")]
    assert host_facts.untouched(listing, paths) == [str(tmp_path / "enabled")]
