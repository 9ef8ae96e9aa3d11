# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/nftables.py, under the module nftables_ruleset: what counts as a difference, and what is carried over."""

from __future__ import annotations

import pytest

from ansible_collections.crm.platform.plugins.module_utils import nftables as lib

TABLE = lib.Table("inet", "crm_platform")

WANTED = """\
table inet crm_platform {
\tset friends {
\t\ttype ipv4_addr
\t\tflags interval
\t\tauto-merge
\t\telements = { 10.0.0.0/8, 192.0.2.1 }
\t}

\tset banned {
\t\ttype ipv4_addr
\t\tsize 65535
\t\tflags dynamic,timeout
\t\ttimeout 10m
\t}

\tchain input {
\t\ttype filter hook input priority filter; policy drop;
\t\ttcp dport 22 counter accept
\t}
}
"""
# The same table after a while: a rule has filled the dynamic set, over two lines.
LIVE = WANTED.replace(
    "\t\ttimeout 10m\n",
    "\t\ttimeout 10m\n\t\telements = { 198.51.100.1 expires 9m59s976ms, 198.51.100.2 expires 1m,\n\t\t\t     198.51.100.3 limit rate over 5/minute }\n",
)


class Shell:
    """Answers commands from a list of (part of the command line, answer); the last answers stay."""

    def __init__(self, *answers):
        self.answers, self.calls = list(answers), []

    def __call__(self, argv, data=None):
        self.calls.append((" ".join(argv), data))
        for number, (part, answer) in enumerate(self.answers):
            if part in " ".join(argv):
                if len([one for one in self.answers if one[0] == part]) > 1:
                    del self.answers[number]
                return answer
        return (0, "", "")

    def ran(self, part):
        return [data for line, data in self.calls if part in line]


def test_table():
    assert lib.Table.parse("inet crm_platform") == TABLE
    assert str(TABLE) == "inet crm_platform"
    for text in ("crm_platform", "inet a b", "", "tcp x"):
        with pytest.raises(lib.NftError, match="family and name"):
            lib.Table.parse(text)


def test_blocks_are_read_with_their_elements():
    friends, banned = lib.blocks(LIVE)
    assert (friends.name, friends.dynamic, friends.elements) == ("friends", False, "10.0.0.0/8, 192.0.2.1")
    assert (banned.name, banned.dynamic) == ("banned", True)
    assert banned.elements == "198.51.100.1 expires 9m59s976ms, 198.51.100.2 expires 1m, 198.51.100.3 limit rate over 5/minute"
    assert banned.declaration == lib.blocks(WANTED)[1].declaration


def test_what_rules_put_into_dynamic_sets_is_no_difference():
    assert lib.comparable(LIVE) == lib.comparable(WANTED) == WANTED


@pytest.mark.parametrize(
    "old, new",
    [
        ("policy drop", "policy accept"),
        ("\t\ttcp dport 22 counter accept\n", ""),
        ("\t\ttcp dport 22 counter accept\n", "\t\ttcp dport 22 counter accept\n\t\taccept\n"),
        ("10.0.0.0/8, ", ""),
        ("\t\ttimeout 10m\n", "\t\ttimeout 1m\n"),
        ("set banned", "set blocked"),
    ],
)
def test_anything_else_is_a_difference(old, new):
    assert lib.comparable(LIVE.replace(old, new, 1)) != lib.comparable(WANTED)


def test_contents_of_dynamic_sets_are_carried_over():
    assert lib.restore_statements(TABLE, LIVE, WANTED) == (
        "add element inet crm_platform banned { 198.51.100.1 expires 9m59s976ms,"
        " 198.51.100.2 expires 1m, 198.51.100.3 limit rate over 5/minute }\n"
    )


@pytest.mark.parametrize(
    "old, new, kept",
    [
        ("size 65535", "size 9", "198.51.100.1 expires 9m59s976ms, 198.51.100.2 expires 1m"),
        ("timeout 10m", "timeout 1h", "198.51.100.1 timeout 10m expires 9m59s976ms, 198.51.100.2 timeout 10m expires 1m"),
        ("type ipv4_addr\n\t\tsize", "type ipv4_addr . inet_service\n\t\tsize", ""),
        ("dynamic,timeout", "dynamic", ""),
        ("dynamic,timeout", "timeout", ""),
        ("set banned", "set blocked", ""),
    ],
)
def test_into_a_set_that_is_declared_otherwise_goes_what_fits(old, new, kept):
    """A source is shut out for the time that it was shut out for; a limiter begins anew."""
    carried = lib.restore_statements(TABLE, LIVE, WANTED.replace(old, new))
    assert carried == (f"add element inet crm_platform banned {{ {kept} }}\n" if kept else "")
    assert lib.restore_statements(TABLE, LIVE, WANTED.replace(old, new), alike=True) == ""


def test_a_comment_may_hold_commas():
    live = WANTED.replace("\t\ttimeout 10m\n", '\t\ttimeout 10m\n\t\telements = { 192.0.2.1 expires 1m comment "a, b", 192.0.2.2 expires 2m }\n')
    assert '192.0.2.1 timeout 10m expires 1m comment "a, b", 192.0.2.2' in lib.restore_statements(TABLE, live, WANTED.replace("10m", "1h"))


@pytest.mark.parametrize("old, new", [("policy drop", "policy accept"), ("\t\ttcp dport 22 counter accept\n", ""), ("10.0.0.0/8, ", "")])
def test_a_table_is_refilled_where_its_structure_stays(old, new):
    assert lib.skeleton(LIVE.replace(old, new, 1)) == lib.skeleton(WANTED)


@pytest.mark.parametrize(
    "old, new",
    [
        ("chain input", "chain filter"),
        ("priority filter", "priority 10"),
        ("hook input", "hook forward"),
        ("auto-merge", "counter"),
        ("timeout 10m", "timeout 1h"),
        ("set banned", "set blocked"),
        ("\tchain input {", "\tchain other {\n\t\taccept\n\t}\n\n\tchain input {"),
    ],
)
def test_and_made_anew_where_it_does_not(old, new):
    assert lib.skeleton(LIVE.replace(old, new, 1)) != lib.skeleton(WANTED)


def test_refilling_spares_the_dynamic_sets():
    content = "table inet crm_platform\ndelete table inet crm_platform;  # all of it\n\ntable inet crm_platform {\n}\n"
    assert lib.refill_statements(TABLE, LIVE, content) == (
        "flush table inet crm_platform\nflush set inet crm_platform friends\n\ntable inet crm_platform {\n}\n"
    )


def test_live():
    assert lib.read_live(Shell(("list table", (0, LIVE, ""))), TABLE).exists
    absent = (1, "", "Error: No such file or directory\nlist table inet crm_platform\n")
    assert not lib.read_live(Shell(("list table", absent)), TABLE).exists
    with pytest.raises(lib.NftError, match="Operation not permitted"):
        lib.read_live(Shell(("list table", (1, "", "Operation not permitted (you must be root)"))), TABLE)


def scratch(tables="table inet crm_platform\n", listing=WANTED, others=lib.OTHERS):
    tables += "".join(f"table {other}\n" for other in others)
    return (0, f"{tables}{lib.SEPARATOR}\n{listing}", "")


def test_wanted_is_what_the_kernel_lists():
    shell = Shell(("unshare", scratch()))
    assert lib.read_wanted(shell, TABLE, "rules").listing == WANTED
    assert shell.ran("unshare") == ["rules"]


def test_a_ruleset_may_touch_its_own_table_only():
    with pytest.raises(lib.NftError, match="makes table ip nat; only table inet crm_platform"):
        lib.read_wanted(Shell(("unshare", scratch("table inet crm_platform\ntable ip nat\n"))), TABLE, "rules")


def test_a_ruleset_may_not_flush_the_tables_of_others():
    with pytest.raises(lib.NftError, match="removes tables of others; only table inet crm_platform"):
        lib.read_wanted(Shell(("unshare", scratch(others=lib.OTHERS[:1]))), TABLE, "flush ruleset")


def test_a_ruleset_that_nft_refuses():
    said = "/dev/stdin:3:9-12: Error: syntax error, unexpected icmp\n chain icmp {\n       ^^^^\n"
    with pytest.raises(lib.NftError, match=r"syntax error, unexpected icmp; nothing was changed$"):
        lib.read_wanted(Shell(("sh -c", (1, "", said)), ("unshare --net true", (0, "", ""))), TABLE, "rules")


def test_without_a_right_to_namespaces_nothing_is_said():
    shell = Shell(("unshare", (1, "", "unshare: unshare failed: Operation not permitted")))
    assert lib.read_wanted(shell, TABLE, "rules") is None


ANEW = "table inet crm_platform\ndelete table inet crm_platform\nrules\n"
OTHER = WANTED.replace("chain input", "chain filter")


def test_load_refills():
    shell = Shell(("nft list", (0, LIVE, "")), ("nft -s list", (0, WANTED, "")))
    assert lib.load(shell, TABLE, "rules\n", lib.State(WANTED))
    assert shell.ran("nft -f") == [lib.refill_statements(TABLE, LIVE, "rules\n")]


def test_load_makes_anew_what_refilling_did_not_get_right():
    shell = Shell(("nft list", (0, LIVE, "")), ("nft -s list", (0, WANTED.replace("192.0.2.1", "192.0.2.9"), "")))
    assert lib.load(shell, TABLE, "rules\n", lib.State(WANTED))
    assert shell.ran("nft -f")[1:] == [ANEW + "\n" + lib.restore_statements(TABLE, LIVE, WANTED)]


def test_load_carries_over_in_the_same_transaction():
    shell = Shell(("list table", (0, LIVE, "")))
    assert lib.load(shell, TABLE, "rules\n", lib.State(OTHER))
    assert shell.ran("nft -f") == [ANEW + "\n" + lib.restore_statements(TABLE, LIVE, OTHER)]


def test_load_goes_on_without_what_cannot_be_carried_over():
    refused = (1, "", "Error: x")
    shell = Shell(("list table", (0, LIVE, "")), ("nft -f", refused), ("nft -f", refused), ("nft -f", (0, "", "")))
    assert not lib.load(shell, TABLE, "rules\n", lib.State(OTHER.replace("10m", "1h")))
    assert shell.ran("nft -f")[-1] == ANEW


def test_load_without_a_trial_carries_over_what_it_can():
    shell = Shell(("list table", (0, LIVE, "")))
    assert lib.load(shell, TABLE, "rules\n", None)
    assert "add element inet crm_platform banned" in shell.ran("nft -f")[0]


def test_a_command_that_cannot_be_run_has_failed():
    class Module:
        def run_command(self, argv, **options):
            assert options["environ_update"]["LC_ALL"] == "C" and not options["handle_exceptions"]
            raise BrokenPipeError(32, "Broken pipe")

    assert lib.runner(Module())(["unshare", "x"], "data") == (32, "", "unshare: Broken pipe")


def test_load_says_that_nothing_changed_when_nft_refuses():
    shell = Shell(("list table", (1, "", "Error: No such file or directory")), ("nft -f", (1, "", "Error: Could not process rule")))
    with pytest.raises(lib.NftError, match="Could not process rule; the live table is as it was"):
        lib.load(shell, TABLE, "rules\n", lib.State(WANTED))


def test_check():
    lib.check(Shell(), "rules")
    with pytest.raises(lib.NftError, match="nothing was changed"):
        lib.check(Shell(("nft -c", (1, "", ""))), "rules")


def test_remove():
    lib.remove(Shell(("delete", (1, "", "Error: No such file or directory"))), TABLE)
    with pytest.raises(lib.NftError, match="did not delete"):
        lib.remove(Shell(("delete", (1, "", "Error: Device or resource busy"))), TABLE)


def test_environment():
    assert lib.environment()["LC_ALL"] == "C"
    assert lib.environment()["PATH"].endswith(":/usr/sbin:/sbin")
