# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an nginx that was there before this platform serves, and what of it stands in the way. Pure."""

from __future__ import annotations

import re
import typing as t

OURS = "crm-platform"
ENABLED = "/etc/nginx/sites-enabled"
# Where what is taken out of the way goes, flat: the links of sites-enabled lead to the right place from there, too.
KEPT = "/etc/nginx/before-crm-platform"
HEADER = re.compile(r"(?m)^# configuration file (/.*):$")
TOKEN = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{};]|[^\s{};"'#]+|["']""")
INCLUDED = re.compile(r"(?m)^\s*include\s+(?:/etc/nginx/)?sites-enabled/\*\s*;")


def directives(text: str) -> t.Iterator[tuple[list[str], str]]:
    """The words of each directive with what ends it: `;`, `{`, or `}` of a block with no words."""
    words: list[str] = []
    for token in TOKEN.findall(text):
        if token.startswith("#"):
            continue
        if token in ";{}":
            yield words, token
            words = []
        else:
            words.append(token.strip("\"'") or token)


def port(listen: str) -> t.Optional[int]:
    """The TCP port of `listen`; None of a socket of the file system."""
    if listen.startswith("unix:"):
        return None
    found = re.search(r"^(\d+)$|:(\d+)$", listen)
    return int(found[1] or found[2]) if found else 80


def servers(text: str) -> list[dict[str, t.Any]]:
    """The blocks `server` of one file: `ports`, `names`, and the ports of which each is the default server."""
    found, stack = [], []
    for words, end in directives(text):
        if end == "{":
            stack.append({"ports": [], "names": [], "default": []} if words == ["server"] else None)
        elif end == "}":
            server = stack.pop() if stack else None
            if server is not None:
                # Without `listen` it is port 80, as root.
                server["ports"] = server["ports"] or [80]
                found.append(server)
        elif stack and stack[-1] is not None and len(words) > 1:
            if words[0] == "server_name":
                stack[-1]["names"] += words[1:]
            elif words[0] == "listen" and port(words[1]) is not None:
                stack[-1]["ports"].append(port(words[1]))
                if {"default_server", "default"} & set(words[2:]):
                    stack[-1]["default"].append(port(words[1]))
    return found


def files(dump: str) -> list[str]:
    """The files of which `nginx -T` has printed the text."""
    return HEADER.findall(dump)


def sites(dump: str, stock: t.Container[str] = ()) -> dict[str, t.Any]:
    """What `nginx -T` printed: whether sites-enabled is `included`, and the `sites`, a file each, but for ours.

    :param stock: files that are as the package brings them.
    """
    pieces = HEADER.split(dump)
    found, included = [], False
    for path, text in zip(pieces[1::2], pieces[2::2]):
        included = included or bool(INCLUDED.search(text))
        blocks = servers(text)
        if blocks and not path.rsplit("/", 1)[-1].startswith(OURS):
            every = {key: sorted({one for block in blocks for one in block[key]}) for key in ("ports", "names", "default")}
            found.append({"file": path, "stock": path in stock, **every})
    return {"included": included, "sites": found, "said": ""}


def listeners(text: str) -> dict[str, str]:
    """{port: program} of the lines of `ss -Hltnp`; '?' where it names no program."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        number = words[3].rsplit(":", 1)[-1] if len(words) > 3 else ""
        if number.isdigit():
            program = re.search(r'\(\("([^"]+)"', line)
            found[number] = program[1] if program else "?"
    return found


def in_the_way(seen: t.Mapping[str, t.Any], ports: t.Iterable[int]) -> list[dict[str, t.Any]]:
    """The sites of somebody else that listen on our ports. What the package itself brings is nobody's."""
    wanted = set(ports)
    return [site for site in seen.get("sites", []) if not site["stock"] and wanted & set(site["ports"])]


def movable(site: t.Mapping[str, t.Any]) -> bool:
    """Whether the site is a file of its own."""
    return not site["file"].endswith("/nginx.conf")


def clashes(site: t.Mapping[str, t.Any], ports: t.Iterable[int], names: t.Iterable[str]) -> str:
    """Why a site cannot stay beside ours; '' where it can."""
    default = sorted(set(ports) & set(site["default"]))
    if default:
        return f"is the default server of port {', '.join(map(str, default))}"
    shared = sorted({name.lower() for name in names} & {name.lower() for name in site["names"]})
    return f"answers to {', '.join(shared)}" if shared else ""


def taken(seen: t.Mapping[str, t.Any], ports: t.Sequence[int], foreign: str) -> list[str]:
    """The files that go: the page that the package brings, and with `replace` what listens on our ports."""
    going = [site for site in seen.get("sites", []) if site["stock"]] + (in_the_way(seen, ports) if foreign == "replace" else [])
    return [site["file"] for site in going if movable(site)]


def problem(
    seen: t.Mapping[str, t.Any], listening: t.Mapping[str, str], ports: t.Sequence[int], names: t.Sequence[str], host: str, variable: str, foreign: str
) -> str:
    """Why this host's web server is not ours to configure, in one line with the cure; '' where nothing stands in the way.

    :param seen: as `sites` makes it; nothing where nginx is not there.
    :param listening: as `listeners` makes it.
    :param variable: the option that lets sites pass; '' where there is none.
    :param foreign: its value: refuse, keep or replace.
    """
    others = [f"{listening[str(one)]} (port {one})" for one in ports if listening.get(str(one), "nginx") != "nginx"]
    if others:
        return f"{', '.join(others)} listens on {host} where nginx has to: stop and disable it, or choose another host"
    if seen.get("said"):
        return f"nginx on {host} was here before this platform and refuses its own configuration ({seen['said']}): correct it first"
    if seen and not seen["included"]:
        return (
            f"nginx on {host} was here before this platform and does not read {ENABLED}: add `include {ENABLED}/*;` to the block http of"
            " /etc/nginx/nginx.conf, or choose another host"
        )
    for site in in_the_way(seen, ports):
        shared = ", ".join(str(one) for one in site["ports"] if one in ports)
        clash = clashes(site, ports, names)
        if foreign == "replace" and movable(site) or foreign == "keep" and not clash:
            continue
        cures = [f"{variable}=replace to take it out of the way ({KEPT} has it then)"] if variable and movable(site) else []
        cures += [f"{variable}=keep to serve it beside the CRM"] if variable and not clash else []
        what = f"{site['file']} on {host} was here before this platform and listens on port {shared}{' and ' + clash if clash else ''}"
        return f"{what}: choose another host, {'set ' + ' or '.join(cures) if cures else 'or move it to another port'}"
    return ""
