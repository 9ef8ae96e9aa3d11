# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crm.platform.config_files on a Debian host."""

from __future__ import annotations

import subprocess
import threading

import plays

SECRET = "tOp-5ecret % @ $HOME 'ü\""


def listing(host, place):
    """Everything below the place: name, kind, rights, target and content."""
    return host.sh(f"cd {place} && find . -mindepth 1 -printf '%p %y %U:%G %m %l\\n' | sort && find . -type f | sort | xargs -r tail -n +1")


def a_set(place, word="one"):
    return [
        {"path": f"{place}/conf.d", "state": "directory", "mode": "0750", "group": "www-data"},
        {"path": f"{place}/conf.d/main.conf", "content": f"# {word}\nsize = 5\n"},
        {"path": f"{place}/conf.d/key", "content": f"{SECRET} {word}\n", "mode": "0640", "owner": "daemon", "group": "www-data", "secret": True},
        {"path": f"{place}/live", "state": "link", "target": "conf.d/main.conf"},
        {"path": f"{place}/old", "state": "absent"},
    ]


def test_a_set_is_shown_made_and_left_alone(host, place, call):
    host.write(f"{place}/old", "left over\n")
    before = listing(host, place)

    checked = call("config_files", {"files": a_set(place)}, "--check", "--diff")
    assert checked.rc == 0 and checked.last["changed"], checked.text
    assert listing(host, place) == before, "check mode changed something"

    done = call("config_files", {"files": a_set(place)}, "--diff")
    assert done.rc == 0, done.text
    assert done.last["changed_paths"] == checked.last["changed_paths"] == [item["path"] for item in a_set(place)]
    assert done.last["diff"] == checked.last["diff"], "check mode shows what a run does"
    assert host.stat(f"{place}/conf.d") == "directory root:www-data 750"
    assert host.stat(f"{place}/conf.d/key") == "regular file daemon:www-data 640"
    assert host.stat(f"{place}/conf.d/main.conf") == "regular file root:root 644"
    assert host.read(f"{place}/live") == "# one\nsize = 5\n"
    assert host.read(f"{place}/conf.d/key") == f"{SECRET} one\n"
    assert host.run("test", "-e", f"{place}/old", check=False).returncode == 1

    again = call("config_files", {"files": a_set(place)})
    assert again.rc == 0 and not again.last["changed"] and again.last["changed_paths"] == []


def test_the_diff_shows_lines_but_no_secret(host, place, call):
    call("config_files", {"files": a_set(place)})
    done = call("config_files", {"files": a_set(place, "two")}, "--diff", "-vvv")
    diff = {part["after_header"]: part for part in done.last["diff"]}
    assert "# one" in diff[f"{place}/conf.d/main.conf"]["before"] and "# two" in diff[f"{place}/conf.d/main.conf"]["after"]
    assert f"{place}/conf.d/key" in diff and diff[f"{place}/conf.d/key"]["before"] != diff[f"{place}/conf.d/key"]["after"]
    assert "tOp-5ecret" not in done.text


def test_what_drifted_is_found_and_mended(host, place, call):
    call("config_files", {"files": a_set(place)})
    right = listing(host, place)
    host.sh(
        f"cd {place} && chmod 777 conf.d/key && chown root conf.d/key && chgrp root conf.d && echo x >> conf.d/main.conf && ln -sfn / live && touch old"
    )
    checked = call("config_files", {"files": a_set(place)}, "--check")
    assert {path.removeprefix(place): reasons for path, reasons in checked.last["reasons"].items()} == {
        "/conf.d": ["group"],
        "/conf.d/main.conf": ["content"],
        "/conf.d/key": ["mode", "owner"],
        "/live": ["target"],
        "/old": ["state"],
    }
    assert call("config_files", {"files": a_set(place)}).rc == 0
    assert listing(host, place) == right
    host.sh(f"rm -r {place}/conf.d")
    assert call("config_files", {"files": a_set(place)}).rc == 0
    assert listing(host, place) == right


def test_a_refused_file_keeps_the_whole_set_out(host, place, call):
    call("config_files", {"files": a_set(place)})
    before = listing(host, place)
    files = a_set(place, "two")
    files[2]["validate"] = "grep --quiet two %s"
    files[1]["validate"] = "grep --quiet 'size = 6' %s"
    done = call("config_files", {"files": files})
    assert done.rc != 0
    assert f"{place}/conf.d/main.conf" in done.failure and "grep" in done.failure and "\n" not in done.failure
    assert listing(host, place) == before


def test_a_refused_set_is_put_back(host, place, call):
    call("config_files", {"files": a_set(place)})
    host.write(f"{place}/old", "left over\n")
    before = listing(host, place)
    files = a_set(place, "two") + [{"path": f"{place}/new", "state": "directory"}, {"path": f"{place}/new/file", "content": ""}]
    files[0]["mode"] = "0700"
    done = call("config_files", {"files": files, "validate": [f"grep --quiet two {place}/live", "sh -c 'echo the service says no >&2; false'"]})
    assert done.rc != 0 and "the service says no" in done.failure and "put back" in done.failure
    assert listing(host, place) == before
    good = call("config_files", {"files": files, "validate": [f"grep --quiet two {place}/live"]})
    assert good.rc == 0 and good.last["changed"]


def test_validation_sees_words_not_a_shell(host, place, call):
    done = call("config_files", {"files": [{"path": f"{place}/x", "content": "", "validate": f"test -f %s ; touch {place}/oops"}]})
    assert done.rc != 0
    assert listing(host, place) == ""


def test_a_full_disk_leaves_the_old_files(host, place, call):
    host.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place)
    try:
        files = [{"path": f"{place}/a", "content": "old\n"}, {"path": f"{place}/b", "content": "old\n"}]
        assert call("config_files", {"files": files}).rc == 0
        files[0]["content"], files[1]["content"] = "new\n", "x" * 200_000
        done = call("config_files", {"files": files})
        assert done.rc != 0 and "no space left" in done.failure
        assert listing(host, place).count("old") == 2 and "staged" not in listing(host, place)
    finally:
        host.run("umount", place)


def test_an_owner_who_is_not_there_yet(host, place, call):
    files = [{"path": f"{place}/x", "content": "", "owner": "nobody-yet"}]
    assert call("config_files", {"files": files}, "--check").rc == 0
    done = call("config_files", {"files": files})
    assert done.rc != 0 and "nobody-yet" in done.failure


def test_killed_before_and_after_the_files_are_in_place(host, place, call, tmp_path):
    """SIGKILL to the module on the host while a validation runs: no half of a file, and the next run converges."""
    call("config_files", {"files": a_set(place)})
    files = a_set(place, "two")
    for where in ("staged", "live"):
        waiting = {"files": [dict(item) for item in files]}
        if where == "staged":
            waiting["files"][1]["validate"] = f"sh -c 'touch {place}-reached; exec sleep 60' %s"
        else:
            waiting["validate"] = [f"sh -c 'touch {place}-reached; exec sleep 60'"]
        play = [{"hosts": "all", "gather_facts": False, "tasks": [{"crm.platform.config_files": waiting}]}]
        host.run("rm", "-f", f"{place}-reached")
        run = subprocess.Popen(
            plays.command(tmp_path, play, plays.inventory(host.name)),
            env=plays.environment(tmp_path),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        watchdog = threading.Timer(60, run.kill)
        watchdog.start()
        host.wait_for("the validation to run", lambda: host.run("test", "-e", f"{place}-reached", check=False).returncode == 0, 30)
        run.kill()
        host.sh("pkill -KILL -x python3; pkill -KILL -x sleep; true")
        run.wait()
        watchdog.cancel()
        word = host.read(f"{place}/live").split()[1]
        assert word == ("one" if where == "staged" else "two")
    assert call("config_files", {"files": files}).rc == 0
    assert host.read(f"{place}/conf.d/main.conf").startswith("# two\n")
    assert not call("config_files", {"files": files}).last["changed"]
    assert "crm-staged" not in listing(host, place)


def test_a_copy_of_what_goes_is_kept_and_named(host, place, call):
    host.write(f"{place}/theirs", "theirs\n")
    going = [{"path": f"{place}/theirs", "state": "absent", "keep": f"{place}/before/theirs"}]
    checked = call("config_files", {"files": going}, "--check")
    assert checked.last["kept"] == {f"{place}/theirs": f"{place}/before/theirs"} and host.read(f"{place}/theirs") == "theirs\n"
    done = call("config_files", {"files": going})
    assert done.last["kept"] == checked.last["kept"] and host.read(f"{place}/before/theirs") == "theirs\n"
    assert call("config_files", {"files": going}).last["kept"] == {}
