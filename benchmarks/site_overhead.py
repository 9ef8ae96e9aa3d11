# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What crm.platform.site costs over the raw commands that it stands for.

Two fresh containers, one after the other: `raw_site.sh` in the one, the playbook on
the other, then the playbook again. What the script copies (settings, wishes, rules)
is taken from the playbook's host, so that both do the same work.
The bar is a ratio of 1.3; the second run's bar is 20 s.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import deploy  # noqa: E402
import lab  # noqa: E402

NAMES = {"site": "crm-bench-site", "raw": "crm-bench-raw"}
SOURCE = ROOT / "roles" / "crm_package" / "files" / "source"


def in_container(name: str, *command: str, **options) -> subprocess.CompletedProcess:
    return lab.run("docker", "exec", "-i", name, *command, **options)


def inventory(folder: pathlib.Path) -> pathlib.Path:
    """The embedded default's inventory, for the container of this benchmark."""
    target = folder / "inventory"
    shutil.copytree(ROOT / "inventories" / "local", target)
    hosts = target / "hosts"
    hosts.write_text(hosts.read_text().replace("crm-local", NAMES["site"]))
    return target


def play(where: pathlib.Path, variables: dict) -> tuple[float, str]:
    begin = time.monotonic()
    command = [str(deploy.BIN / "ansible-playbook"), "-i", str(where), "crm.platform.site", "-e", json.dumps(variables)]
    result = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    if result.returncode:
        raise lab.LabError(result.stdout[-3000:])
    return time.monotonic() - begin, result.stdout


def prepare_raw(bundle: str, folder: pathlib.Path) -> None:
    """Hand the script what the playbook's templates and facts have made."""
    tree = folder / "source"
    shutil.copytree(SOURCE, tree)
    if bundle:
        shutil.copy(bundle, tree / "ca-bundle.pem")
    lab.run("docker", "cp", str(tree), f"{NAMES['raw']}:/root/source")
    for origin, name in (
        ("/etc/postgresql/15/main/conf.d/crm-platform.conf", "postgresql.conf"),
        ("/etc/crm-platform/crm-platform.conf", "crm-platform.conf"),
        ("/etc/crm-platform/firewall.nft", "firewall.nft"),
    ):
        text = in_container(NAMES["site"], "cat", origin).stdout
        in_container(NAMES["raw"], "sh", "-c", f"cat > /root/{name}", input=text)
    site = in_container(NAMES["site"], "sh", "-c", "cat /etc/nginx/sites-enabled/*").stdout
    for line in [line for line in site.splitlines() if "include" in line and "/etc/nginx/" in line]:
        path = line.split()[1].rstrip(";")
        text = in_container(NAMES["site"], "sh", "-c", f"cat {path}").stdout
        site = site.replace(line, text)
    in_container(NAMES["raw"], "sh", "-c", "cat > /root/site.conf", input=site)
    wishes = {
        "database": "crm",
        "modules": yaml_default("crm_service_modules"),
        "languages": ["en"],
        "admin": {"email": "admin@example.org", "password": "only-for-this-benchmark"},
        "company": {"name": "Example", "currency": "EUR", "timezone": "UTC"},
        "currencies": ["EUR", "USD"],
        "countries": "all",
        "subdivisions": True,
    }
    in_container(NAMES["raw"], "sh", "-c", "cat > /root/setup.json", input=json.dumps(wishes))


def yaml_default(name: str):
    import yaml

    return yaml.safe_load((ROOT / "roles" / "crm_service" / "defaults" / "main.yml").read_text())[name]


def raw() -> float:
    begin = time.monotonic()
    script = (ROOT / "benchmarks" / "raw_site.sh").read_text()
    in_container(NAMES["raw"], "env", "CRM_VERSION=8.0.12+raw~deb12", "bash", "-s", input=script)
    return time.monotonic() - begin


def main() -> int:
    deploy.environment()
    bundle = lab.trusted_authorities()
    variables = {"crm_package_ca_bundle": bundle} if bundle else {}
    with tempfile.TemporaryDirectory(prefix="crm-bench-") as folder:
        path = pathlib.Path(folder)
        lab.down(list(NAMES.values()))
        try:
            lab.ensure_engine()
            image = lab.ensure_image("debian12")
            for name in NAMES.values():
                lab.up(name, image, [])
            where = inventory(path)
            first, dummy = play(where, variables)
            again, said = play(where, variables)
            prepare_raw(bundle, path)
            by_hand = raw()
        finally:
            if not os.environ.get("KEEP"):
                lab.down(list(NAMES.values()))
    print(f"{'raw commands':28} {by_hand:8.1f} s")
    print(f"{'crm.platform.site, fresh':28} {first:8.1f} s   ratio {first / by_hand:.2f}  (bar 1.30)")
    print(f"{'crm.platform.site, again':28} {again:8.1f} s              (bar 20 s)")
    print("\n".join(line for line in said.splitlines() if "changed=" in line or "slowest" in line or line.startswith("    ")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
