# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What backups are, which of them leads where, and what is wrong with them. Pure: nothing is run or read here.

The role installs this file beside the command ``crm-platform-backup``, which runs on the target from its timers as well
as for the modules; so it needs Python's standard library only, and nothing of Ansible.

Times are seconds since 1970, sizes bytes, positions in the log integers.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
import typing as t

# The newest backup may have the file; a deleted record needs none.
CURE_ATTACHMENTS = (
    "`crm-platform-backup files --path /var/lib/crm-platform/data` brings back those that are saved; the others add again in the CRM,"
    " or delete there"
)
KINDS = {"full": "full", "diff": "differential", "incr": "incremental"}
HOUR, DAY = 3600, 86400
TARGET_NAME = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,62}")
# What pgBackRest says where the newest set has a later name than the one that it makes.
NOT_LATER = re.compile(r"is not later than latest backup label '(?:[0-9]{8}-[0-9]{6}F_)?([0-9]{8}-[0-9]{6})[FDI]'")
# A transaction's end, as pg_waldump tells it.
ENDED = re.compile(r"desc: COMMIT\S*[^;]*?([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2})")
LABEL = re.compile(r"[0-9]{8}-[0-9]{6}F(_[0-9]{8}-[0-9]{6}[DI])?")
# A file that pgBackRest names when it verifies; of a segment of the log the last part of its path begins with the segment's name.
NAMED = re.compile(r"INFO: ((?:invalid|missing|file missing)(?: [a-z]+)?) '?([^\s':]+/[^\s':]+)")
SEGMENT = re.compile(r"(?:.*/)?([0-9A-F]{24})(-[0-9a-f]{40}(\.[a-z0-9]+)?)?")
# Characters of a message that names many things.
LINE = 4000
# Seconds after which a new attachment is saved.
ATTACHMENT_SAVED = 300


class BackupError(Exception):
    """What is wrong, with what, and what to do about it, in one line."""


class Set(t.NamedTuple):
    """One backup of the database."""

    label: str
    kind: str
    began: int
    ended: int
    timeline: int
    first: int
    last: int
    size: int
    repository_size: int
    damaged: bool

    def shown(self) -> dict:
        """As the state file and the modules tell it."""
        return {
            "label": self.label,
            "type": self.kind,
            "began": utc(self.began),
            "ended": utc(self.ended),
            "timeline": self.timeline,
            "lsn_from": show_lsn(self.first),
            "lsn_to": show_lsn(self.last),
            "size": self.size,
            "repository_size": self.repository_size,
            "damaged": self.damaged,
        }


def listed(complaints: t.Sequence[str], most: int = LINE) -> str:
    """All of them in one line, with their number; where that is too long, as many as fit and the number of the others."""
    if len(complaints) < 2:
        return "".join(complaints)
    shown = fitting(complaints, most)
    others = len(complaints) - len(shown)
    return f"{len(complaints)}: {'; '.join(shown)}{f'; and {others} more' if others else ''}"


def fitting(texts: t.Sequence[str], most: int) -> list[str]:
    """The first of them, and as many as have no more characters together."""
    length = 0
    for number, one in enumerate(texts):
        length += len(one) + 2
        if length > most and number:
            return list(texts[:number])
    return list(texts)


def utc(moment: float) -> str:
    """1767225600 -> '2026-01-01T00:00:00Z'."""
    return datetime.datetime.fromtimestamp(int(moment), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_lsn(text: str) -> int:
    """'1/A0' -> 4294967456; BackupError where that is no position in the log."""
    match = re.fullmatch(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", text)
    if not match:
        raise BackupError(f"{text!r} is no position in the log; write it as pg_current_wal_lsn() does, such as 0/3000148")
    return (int(match[1], 16) << 32) + int(match[2], 16)


def show_lsn(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def read_time(text: str) -> float:
    """'2026-01-31 12:30:00+01:00' -> seconds; a time without its zone is refused, since controller and server may differ in theirs."""
    if not re.search(r"\d\d:\d\d", text):
        # ansible-playbook ends a value of -e at its first space.
        raise BackupError(
            f"backup_restore_time is {text!r}, which has no time of day; on a command line it takes quotes inside of the quotes, as in"
            " -e \"backup_restore_time='2026-01-31 12:30:00+01:00'\", or a T in place of the space"
        )
    cleaned = re.sub(r"([+-]\d\d)$", r"\1:00", text.strip().replace("Z", "+00:00"))
    try:
        moment = datetime.datetime.fromisoformat(cleaned)
    except ValueError:
        raise BackupError(f"backup_restore_time is {text!r}, which is not a time; write it as 2026-01-31 12:30:00+01:00 or 2026-01-31T11:30:00Z") from None
    if moment.tzinfo is None:
        raise BackupError(f"backup_restore_time is {text!r} and does not say its zone; add it, as in {text.strip()}Z or {text.strip()}+01:00")
    return moment.timestamp()


def show_time(moment: float) -> str:
    """As recovery_target_time takes it, to the microsecond."""
    return datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f+00")


def key_of(key: str, what: str) -> str:
    """A key for one thing, made from the repository's own: pgBackRest hands that of the sets to the database's host, which must not read other hosts' files."""
    return hmac.new(key.encode(), what.encode(), hashlib.sha256).hexdigest()


def key_of_files(key: str, host: str) -> str:
    """Of one host's files, which that host has and no other."""
    return key_of(key, f"files of {host}")


# --- What pgBackRest tells ---


def within(one: dict, repository: int) -> bool:
    """Whether a part of pgBackRest's answer (a backup, the log) is of this repository."""
    return one["database"]["repo-key"] == repository


def in_short(message: str) -> str:
    """The first line of what pgBackRest says, and the reason that an S3 server gives in a document below it."""
    reason = re.search(r"<Message>(.*?)</Message>", message, re.DOTALL)
    return message.strip().split("\n")[0] + (f" {' '.join(reason[1].split())}" if reason else "")


def stanza_of(info: list, name: str, repository: int = 1) -> dict:
    """The part of `pgbackrest info --output=json` that is about one stanza; BackupError where the repository is not well."""
    for one in info:
        if one.get("name") == name:
            # The status of all of them is of no use where one is not well.
            status = next((each["status"] for each in one["repo"] if each["key"] == repository), one["status"])
            code, message = status["code"], status["message"]
            # 2: no valid backup yet.
            if code not in (0, 2):
                raise BackupError(f"the repository says of {name}: {in_short(message)}")
            return one
    raise BackupError(f"the repository knows no {name}: missing stanza path")


def sets_of(stanza: dict, repository: int = 1) -> list[Set]:
    """The backups of a stanza in one repository, oldest first."""
    found = []
    for one in stanza.get("backup", []):
        if not within(one, repository):
            continue
        found.append(
            Set(
                label=one["label"],
                kind=one["type"],
                began=one["timestamp"]["start"],
                ended=one["timestamp"]["stop"],
                timeline=int((one["archive"]["stop"] or one["archive"]["start"] or "00000001")[:8], 16),
                first=read_lsn(one["lsn"]["start"]),
                last=read_lsn(one["lsn"]["stop"]),
                size=one["info"]["size"],
                repository_size=one["info"]["repository"]["delta"],
                damaged=bool(one.get("error")),
            )
        )
    return sorted(found, key=lambda one: (one.ended, one.label))


def current(stanza: dict, repository: int) -> dict:
    """The cluster that the stanza saves now. Each repository counts its clusters for itself."""
    return max((one for one in stanza["db"] if one["repo-key"] == repository), key=lambda one: one["id"])


def system_of(stanza: dict, repository: int = 1) -> int:
    """System identifier of the cluster that the stanza saves now."""
    return current(stanza, repository)["system-id"]


def archive_of(stanza: dict, repository: int = 1) -> dict:
    """First and last segment of the log in the repository, of the current cluster."""
    for one in stanza.get("archive", []):
        if within(one, repository) and one["database"]["id"] == current(stanza, repository)["id"]:
            return {"first": one["min"], "last": one["max"], "id": one.get("id")}
    return {"first": None, "last": None, "id": None}


class Gap(t.NamedTuple):
    """Segments of the log that are not in the repository, although later ones of the same timeline are."""

    timeline: int
    first: str
    last: str
    resumed: int
    since: float

    def before(self, one: Set) -> bool:
        """Whether the log from this set on has the gap in it."""
        return one.first < self.resumed if one.timeline == self.timeline else one.ended < self.since


def segment_number(name: str) -> int:
    """Of a segment of 16 MiB, as it is in the repository's files: '000000010000000200000003' -> 0x203."""
    return (int(name[8:16], 16) << 8) + int(name[16:24], 16)


def segment_name(timeline: int, number: int) -> str:
    return f"{timeline:08X}{number >> 8:08X}{number & 0xFF:08X}"


def gap_of(segments: dict[str, float]) -> Gap | None:
    """The latest gap in the log.

    :param segments: {name: when it came into the repository}
    """
    found, before = [], ""
    for name in sorted(segments):
        if before[:8] == name[:8] and segment_number(name) > segment_number(before) + 1:
            timeline, number = int(name[:8], 16), segment_number(name)
            first, last = segment_name(timeline, segment_number(before) + 1), segment_name(timeline, number - 1)
            found.append(Gap(timeline, first, last, number << 24, segments[name]))
        before = name
    return max(found, key=lambda one: one.since) if found else None


def usable_from(sets: list[Set], gap: Gap | None, resumed: float) -> Set | None:
    """The oldest set from which on the log is whole: none of before a gap, or of before archiving began again.

    :param resumed: when it did, as the host remembers; 0 for never.
    """
    return next((one for one in sets if not one.damaged and one.ended >= resumed and not (gap and gap.before(one))), None)


class Lost(t.NamedTuple):
    """What cannot be brought back without a segment of the log."""

    # The set from whose end on all can be; None where there is none yet.
    until: Set | None
    # Positions in the log, to where it is whole and from where on it is again.
    first: int
    last: int
    # Sets that need the segment themselves.
    unusable: list[str]


def lost_without(segment: str, stored: float, sets: list[Set]) -> Lost:
    """What is lost with a segment of the log.

    :param stored: when it came into the repository, which tells what is later on another timeline
    """
    timeline, first = int(segment[:8], 16), segment_number(segment) << 24
    last = first + (1 << 24)

    def later(one: Set) -> bool:
        return one.first >= last if one.timeline == timeline else one.began > stored

    after = [one for one in sets if not one.damaged and later(one)]
    return Lost(after[0] if after else None, first, after[0].last if after else last, unusable(sets, [segment]))


def unusable(sets: list[Set], segments: t.Iterable[str]) -> list[str]:
    """Labels of the sets that cannot be restored without one of these segments, at whose log they begin and end."""
    places = [(int(name[:8], 16), segment_number(name)) for name in segments]
    return [one.label for one in sets if any(one.timeline == line and one.first >> 24 <= number <= one.last >> 24 for line, number in places)]


def later_full(segment: str, stored: float, sets: list[Set]) -> bool:
    """Whether a full set was made after a segment of the log."""
    return lost_without(segment, stored, [one for one in sets if one.kind == "full"]).until is not None


def segments_of(files: t.Iterable[str]) -> list[str]:
    """Of damaged files those that are segments of the log."""
    return [one for one in files if SEGMENT.fullmatch(one)]


def damaged_files(text: str) -> dict[str, str]:
    """{path: what is wrong with it} of what `pgbackrest verify --log-level-console=info` names."""
    return {path: what for what, path in NAMED.findall(text)}


def damage(path: str, what: str, repository: int = 1) -> str:
    """A damaged file, and the cure."""
    match = SEGMENT.fullmatch(path)
    if not match or repository != 1:
        return f"{path}: {what}"
    return f"{path}: {what}; when a later full set is there, `crm-platform-backup set-aside {match[1]}` takes this segment of the log out"


def verified(text: str) -> list[str]:
    """Complaints of `pgbackrest verify --output=text --verbose`, whose exit code is 0 on damage as well. Without the files: see damaged_files."""
    states, complaints, subject = 0, [], ""
    # The same is among the information before it, where it cannot be told apart.
    for line in text[text.rfind("\nstanza:") + 1 :].splitlines():
        words = line.strip()
        subject = words.split(",")[0] if words.startswith(("backup:", "archiveId:")) else subject
        match = re.search(r"\bstatus: *(\w+)", words)
        states += bool(match)
        if match and match[1] not in ("valid", "ok", "in-progress"):
            complaints.append(f"{subject or 'the repository'}: {words}")
        for word, count in re.findall(r"(checksum invalid|size invalid|missing|other): (\d+)", words):
            if int(count):
                complaints.append(f"{subject or 'the repository'}: {count} x {word}")
    if not states:
        complaints.append("the verification said nothing")
    # That something is wrong needs no word beside what it is.
    told = [one for one in complaints if not one.startswith("the repository: status:")]
    return list(dict.fromkeys(told or complaints))


def history_complaint(name: str, text: str) -> str:
    """What is wrong with a timeline's history file; '' for nothing. Encryption has no checksum: damage makes it unreadable in places."""
    lines = [line for line in text.splitlines() if line.strip()]
    whole = lines and all(re.fullmatch(r"\d+\t[0-9A-F]+/[0-9A-F]+\t[\x20-\x7e]*", line) for line in lines)
    return "" if whole else f"{name}: damaged"


# --- What its programs say ---


def zone_after(said: str, now: float) -> str:
    """The zone, as POSIX writes one, in which pgBackRest's next name is later than that of the newest set; '' where that is not its complaint.

    By the hour at least, so that each set until then is named later than the one before.
    """
    found = NOT_LATER.search(said)
    if not found:
        return ""
    ahead = datetime.datetime.strptime(found.group(1), "%Y%m%d-%H%M%S").replace(tzinfo=datetime.timezone.utc).timestamp() - now
    hours_ahead = max(int(ahead // HOUR) + 1, 1)
    # The sign is POSIX's: what is east of UTC is negative. More than a day is no zone, but a clock that was wrong.
    return f"<+{hours_ahead:02}>-{hours_ahead}" if hours_ahead <= 24 else ""


def first_commit(text: str) -> int | None:
    """When the first transaction was committed that pg_waldump tells of, with UTC as its zone."""
    found = ENDED.search(text)
    return int(datetime.datetime.fromisoformat(found.group(1) + "+00:00").timestamp()) if found else None


# --- Where a backup leads to ---


def read_history(text: str) -> dict[int, int]:
    """A timeline's history file -> {earlier timeline: position at which it was left}."""
    found = {}
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if len(words) >= 2 and words[0].isdigit():
            found[int(words[0])] = read_lsn(words[1])
    return found


def leads_to(one: Set, timeline: int, history: dict[int, int]) -> bool:
    """Whether the log leads from the end of this set to the timeline: not where a restore left that set's future behind."""
    return one.timeline == timeline or one.last <= history.get(one.timeline, -1)


def choose(
    sets: list[Set], timeline: int, history: dict[int, int], label: str = "", moment: float | None = None, position: int | None = None, name: str = ""
) -> Set:
    """The set to restore from: the named one, or the newest that ended before the target and leads to the timeline.

    Nobody knows where a named point is before the log is replayed: for it the oldest set is taken, which is before it if any is.
    """
    if label:
        for one in sets:
            if one.label == label:
                if one.damaged:
                    raise BackupError(f"{label}: damage was found when it was made; name another set")
                if moment is not None and moment < one.ended:
                    raise BackupError(f"{label} ended at {utc(one.ended)}, after the target time {utc(moment)}; name an earlier set")
                if position is not None and position < one.last:
                    raise BackupError(f"{label} ended at {show_lsn(one.last)}, after the target {show_lsn(position)}; name an earlier set")
                return one
        raise BackupError(f"there is no set {label}; there are {', '.join(one.label for one in sets) or 'none'}")
    usable = [one for one in sets if not one.damaged and leads_to(one, timeline, history)]
    if not usable:
        raise BackupError(f"there is no backup that leads to timeline {timeline}; take one" if sets else "there is no backup; take one")
    before = [one for one in usable if (moment is None or one.ended <= moment) and (position is None or one.last <= position)]
    if not before:
        first = usable[0]
        raise BackupError(
            f"the target is before the end of the first backup, {first.label}: {utc(first.ended)}, {show_lsn(first.last)}; choose a later one"
        )
    return before[0] if name else before[-1]


# --- What is wrong ---


def newest(sets: list[Set], *kinds: str) -> Set | None:
    """The newest set of these kinds, of all where none is named."""
    found = [one for one in sets if not one.damaged and (not kinds or one.kind in kinds)]
    return found[-1] if found else None


def problem(check: str, message: str) -> dict:
    return {"check": check, "message": message}


def hours(seconds: float) -> str:
    return f"{seconds / HOUR:.1f} hours"


def database_problems(policy: dict, facts: dict, now: float) -> list[dict]:
    """Of the database's backups: missing, old, damaged."""
    found = []
    database = facts["database"]
    if database.get("error"):
        return [problem("repository", database["error"])]
    sets = database["sets"]
    full, last = newest(sets, "full"), newest(sets)
    if full is None or last is None:
        found.append(problem("age", "there is no full backup of the database"))
    else:
        if now - full.ended > policy["full_max_hours"] * HOUR:
            found.append(problem("age", f"the newest full backup of the database is {hours(now - full.ended)} old, limit {policy['full_max_hours']}"))
        if now - last.ended > policy["max_hours"] * HOUR:
            found.append(problem("age", f"the newest backup of the database is {hours(now - last.ended)} old, limit {policy['max_hours']}"))
    gap, resumed = database.get("gap"), facts.get("resumed") or 0
    # Segments overtake one another on their way.
    late = gap and now - gap.since > policy["archive_max_seconds"]
    if last is not None and usable_from(sets, gap if late else None, resumed) is None:
        what = f"the log from {gap.first} to {gap.last} is missing in the repository" if late else f"the log was not archived until {utc(resumed)}"
        found.append(problem("archive", f"{what}, and there is no backup of later; take one"))
    for one in sets:
        if one.damaged:
            found.append(problem("damaged", f"backup {one.label}: pages of the database were damaged when it was made"))
    return found


def archive_problems(policy: dict, facts: dict, now: float) -> list[dict]:
    """Of the log's way to the repository, as the database's own host knows it."""
    found = []
    archiver = facts["database"].get("archiver")
    if archiver is None:
        return [problem("archive", "PostgreSQL does not answer, so nobody knows whether its log is archived")]
    if archiver["command"] != policy["archive_command"] or not archiver["mode"]:
        found.append(problem("archive", f"PostgreSQL runs with archive_command {archiver['command']!r}, not with the backup's"))
    if archiver["failing"]:
        found.append(
            problem(
                "archive", f"the log does not reach the repository: {archiver['failed_count']} failures, the last of {archiver['last_failed_wal']}"
            )
        )
    elif archiver["waiting"] and archiver["oldest_waiting_seconds"] > policy["archive_max_seconds"]:
        found.append(
            problem(
                "archive",
                f"{archiver['waiting']} segments of the log wait for the repository, the first for {archiver['oldest_waiting_seconds']:.0f} s",
            )
        )
    # Until its first checkpoint after a start PostgreSQL hands nothing over by itself.
    elif archiver.get("pending_since") and now - archiver["pending_since"] > policy["archive_max_seconds"]:
        found.append(
            problem(
                "archive",
                f"what was committed since {utc(archiver['pending_since'])} is not in the repository ({now - archiver['pending_since']:.0f} s,"
                f" limit {policy['archive_max_seconds']}): archive_timeout does nothing; `CHECKPOINT;` in psql wakes it",
            )
        )
    return found


def files_problems(policy: dict, files: dict, now: float, host: str = "") -> list[dict]:
    """Of the backup of one host's attachments, configuration and secrets."""
    whose = f"the files of {host}" if host else "the files"
    if files.get("error"):
        return [problem("repository", files["error"])]
    if not files["snapshots"]:
        return [problem("files", f"there is no backup of {whose}")]
    age = now - files["snapshots"][-1]["time"]
    if age > policy["max_hours"] * HOUR:
        return [problem("files", f"the newest backup of {whose} is {hours(age)} old, limit {policy['max_hours']}")]
    return []


def second_problems(policy: dict, second: dict, now: float) -> list[dict]:
    """Of the second repository: it does not answer, its last run failed, what it holds is missing, old or damaged."""
    found = [second["unreadable"]] if second["unreadable"] else []
    if not second["begun"]:
        return [
            problem(
                "second",
                f"the second repository, {second['place']}, holds no backup yet: {second['unreadable'] or second['error'] or 'none was made'}",
            )
        ]
    if second["left"]:
        found.append(f"since {utc(second['left'])} it did not answer, and lacks the log from then on until the next backup is in it")
    if second["error"] and second["error"] != second["unreadable"]:
        found.append(f"the last backup into it failed: {second['error']}")
    if not second["unreadable"]:
        if second["sets"] is not None:
            found += [one["message"] for one in database_problems(policy, {"database": {"sets": second["sets"]}}, now)]
        for client, files in sorted(second["files"].items()):
            found += [one["message"] for one in files_problems(policy, files, now, client)]
    found += [one for one in second["complaints"] if one not in found]
    return [problem("second", f"the second repository, {second['place']}: {message}") for message in found]


def forged(snapshots: list, known: dict, now: float) -> list[str]:
    """Snapshots that are not of the time at which they came: with such, a host that fell could push its old ones out of the retention.

    :param known: {id: seconds} of those that were looked at before, and `looked`, when that was.
    """
    looked = known.get("looked")
    earliest = looked - 26 * HOUR if looked is not None else float("-inf")
    return [one["id"] for one in snapshots if one["id"] not in known.get("ids", []) and not earliest <= one["time"] <= now + 600]


def run_problems(facts: dict) -> list[dict]:
    """Of the runs: the last of each kind failed, or was killed."""
    found = []
    for kind, last in sorted(facts["runs"].items()):
        # What a restore lacks of the attachments is told as long as it lacks it, and by its own name.
        if kind != "drill" and not last["ok"] and last.get("lacks") != ["attachments"]:
            found.append(problem("run", f"the last {kind} failed at {utc(last['ended'])}: {last['error']}"))
    for one in facts["killed"]:
        found.append(problem("run", f"the {one['kind']} that began at {utc(one['began'])} was killed; run it again"))
    return found


def drill_problems(policy: dict, facts: dict, now: float) -> list[dict]:
    """Of the drill: it failed, or is overdue; before the first one the period counts from the first backup."""
    drills = facts["drills"]
    if drills and not drills[-1]["ok"]:
        return [problem("drill", f"the last drill failed at {utc(drills[-1]['ended'])}: {drills[-1]['error']}")]
    since = drills[-1]["ended"] if drills else facts["since"]
    if since is not None and now - since > policy["drill_max_days"] * DAY:
        what = f"the last drill was {(now - since) / DAY:.1f} days ago" if drills else f"no drill in {(now - since) / DAY:.1f} days"
        return [problem("drill", f"{what}, limit {policy['drill_max_days']}")]
    return []


def verification_problems(policy: dict, facts: dict, now: float) -> list[dict]:
    """Of the verification, where it has a timer of its own; elsewhere the drill ends with one."""
    found = [problem("verify", complaint) for complaint in facts["verify"]]
    since = facts["verified"] or facts["since"]
    if policy["verify"] and since is not None and now - since > policy["drill_max_days"] * DAY:
        found.append(
            problem("verify", f"the repository was not read whole for {(now - since) / DAY:.1f} days, limit {policy['drill_max_days']}; verify it")
        )
    return found


def attachments_named(count: int, names: list[str], what: str) -> str:
    """Their number, and as many names as fit."""
    shown = fitting(names, LINE)
    others = count - len(shown)
    return f"{count} attachment{'s' if count != 1 else ''} {what}: {'; '.join(shown)}{f'; and {others} more' if others else ''}"


def attachment_problems(facts: dict, now: float) -> list[dict]:
    """Of attachments that the database names: their files are missing here, or in the backup; or new ones are not saved in time."""
    found = []
    here, drills = facts.get("attachments") or {}, facts["drills"]
    proved = (drills[-1].get("attachments") or {}) if drills else {}
    if here.get("without_file"):
        found.append(problem("attachments", f"{attachments_named(here['without_file'], here['missing'], 'without a file')}; {CURE_ATTACHMENTS}"))
    if proved.get("not_saved"):
        what = attachments_named(proved["not_saved"], proved["missing"], "that the newest backup of the files lacked at the last drill")
        found.append(problem("attachments", f"{what}; when they are saved, or deleted in the CRM, run the drill again"))
    known = facts.get("followed") or {}
    if known.get("error") and now - known["since"] > ATTACHMENT_SAVED:
        found.append(problem("files", f"new attachments are not saved since {utc(known['since'])}: {known['error']}"))
    return found


def timer_problems(policy: dict, facts: dict) -> list[dict]:
    return [
        problem("timer", f"{name} is {facts['timers'].get(name) or 'not known'}; start it")
        for name in policy["timers"]
        if facts["timers"].get(name) != "active"
    ]


def judge(policy: dict, facts: dict, now: float) -> list[dict]:
    """Everything that is wrong: a list of {check, message}; empty where the backups can be relied on.

    :param policy: limits and expectations, as the role writes them into backup.json.
    :param facts: what the command found on the host, see `crm_platform_backup.look`.
    """
    found = []
    if policy["sets"]:
        found += database_problems(policy, facts, now)
    if policy["database"]:
        found += archive_problems(policy, facts, now)
        found += drill_problems(policy, facts, now)
    if policy["files"]:
        found += files_problems(policy, facts["files"], now)
    for host, files in sorted(facts["clients"].items()):
        found += files_problems(policy, files, now, host)
        for one in files.get("forged", []):
            found.append(
                problem(
                    "forged",
                    f"snapshot {one} of the files of {host} bears a time at which it did not come; nothing of that host is expired until it is gone",
                )
            )
    if facts["second"] is not None:
        found += second_problems(policy, facts["second"], now)
    found += attachment_problems(facts, now)
    found += run_problems(facts)
    found += timer_problems(policy, facts)
    found += verification_problems(policy, facts, now)
    space = facts.get("space")
    if space and space["percent"] >= policy["space_max_percent"]:
        found.append(problem("space", f"the repository's disk is {space['percent']:.0f} % full, limit {policy['space_max_percent']}"))
    if policy["key"] and not facts["key_exported"]:
        found.append(problem("key", "nobody has exported the key of the repository: without it the backups are worth nothing once this host is lost"))
    return found


def hard(problems: list[dict]) -> list[dict]:
    """Those that make the backups unreliable today. The key that only this host has does so on the day that it is lost.

    What is lost of the attachments is told, and what is saved is as good as it was.
    """
    return [one for one in problems if one["check"] not in ("key", "attachments")]


def metrics(state: dict) -> str:
    """The state for node_exporter's textfile collector."""
    lines = []

    def add(name: str, kind: str, what: str, *samples: tuple) -> None:
        lines.append(f"# HELP crm_backup_{name} {what}")
        lines.append(f"# TYPE crm_backup_{name} {kind}")
        for labels, value in samples:
            lines.append(f"crm_backup_{name}{labels} {value}")

    counted: dict[str, int] = {}
    for one in state["problems"]:
        counted[one["check"]] = counted.get(one["check"], 0) + 1
    add("written_seconds", "gauge", "When this was written, in seconds since 1970.", ("", int(state["written"])))
    add("problems", "gauge", "Problems of each kind.", *[('{check="%s"}' % name, count) for name, count in sorted(counted.items())] or [("", 0)])
    database = state.get("database") or {}
    for name in ("age", "age_full"):
        if database.get(name) is not None:
            what = "Age of the newest backup in seconds." if name == "age" else "Age of the newest full backup in seconds."
            add(f"{name}_seconds", "gauge", what, ("", int(database[name])))
    if database.get("sets"):
        add("repository_bytes", "gauge", "Size of all sets in the repository.", ("", sum(one["repository_size"] for one in database["sets"])))
        add("database_bytes", "gauge", "Size of the database in the newest set.", ("", database["sets"][-1]["size"]))
    space = state.get("space")
    if space:
        add("space_free_bytes", "gauge", "Free space where the repository is.", ("", space["free"]))
    last = (state.get("drill") or {}).get("last")
    if last:
        add("drill_seconds", "gauge", "Duration of the last drill.", ("", round(last["seconds"], 1)))
        if last.get("rto") is not None:
            add("drill_rto_seconds", "gauge", "From the start of the restore to a login (recovery time).", ("", round(last["rto"], 1)))
        add("drill_ok", "gauge", "Whether the last drill succeeded.", ("", int(last["ok"])))
        add("drill_time_seconds", "gauge", "When the last drill ended, in seconds since 1970.", ("", int(last["ended"])))
        if last.get("rpo") is not None:
            add(
                "drill_rpo_seconds",
                "gauge",
                "Age of what the repository held when the last drill began (recovery point).",
                ("", round(last["rpo"], 1)),
            )
    return "\n".join(lines) + "\n"
