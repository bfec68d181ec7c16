"""Beats: who counts as well, silent or missing, whatever clocks, suspends and pids do."""

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.coordination import beats
from remediation.coordination.beats import Beat, BeatFile, Verdict, judge

AFTER = 30_000


@pytest.fixture
def living(tmp_path: Path) -> Beat:
    """The beat of this very process."""
    BeatFile(tmp_path / "a.json", "atlas", "a", pace=1).write(1)
    (beat,) = beats.beats_in(tmp_path)
    return beat


def judged(*known: Beat, now: int, since: int = -1_000_000, well: int = -1_000_000) -> Verdict:
    return judge(known, now_ms=now, since_ms=since, well_ms=well, after_ms=AFTER)


def test_a_file_says_who_the_host_is_and_is_gone_afterwards(tmp_path: Path) -> None:
    file = BeatFile(tmp_path / "a.json", "atlas", "a", pace=1)
    before = beats.monotonic_ms()
    file.write(0.5)
    (beat,) = beats.beats_in(tmp_path)
    assert (beat.host, beat.instance, beat.pid, beat.pace_ms) == ("atlas", "a", os.getpid(), 500)
    assert before <= beat.beat_ms <= beats.monotonic_ms()
    assert beat.state() in ("R", "S")
    file.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_another_host_is_left_alone(tmp_path: Path) -> None:
    first, second = (BeatFile(tmp_path / "ready", "atlas", name, pace=1) for name in "ab")
    first.write(1)
    second.write(1)
    first.remove()
    known = beats.read(tmp_path / "ready")
    assert known is not None
    assert known.instance == "b"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"v": 2}', '{"v": 1}', '{"v": 1, "pid": "x"}', "\udcff", '{"v": 1, "more": 1}']
)
def test_a_file_that_says_nothing_is_passed_over(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert beats.beats_in(tmp_path) == []


def test_a_number_that_is_none_is_not_believed(living: Beat, tmp_path: Path) -> None:
    known = json.loads((tmp_path / "a.json").read_text())
    for name, value in (("pid", -1), ("pid", True), ("beat_ms", 1.5), ("boot_id", None)):
        (tmp_path / "a.json").write_text(json.dumps({**known, name: value}))
        assert beats.beats_in(tmp_path) == []


def test_a_host_that_beats_is_well_and_one_that_does_not_is_silent(living: Beat) -> None:
    assert judged(living, now=living.beat_ms + AFTER).state == "well"
    verdict = judged(living, now=living.beat_ms + AFTER + 1)
    assert (verdict.state, verdict.silence_ms, verdict.hosts) == ("silent", AFTER + 1, (living,))


def test_a_pid_that_was_given_to_another_process_is_not_the_host(living: Beat) -> None:
    other = replace(living, born=living.born + 1)
    assert other.state() == ""
    assert judged(other, now=living.beat_ms + AFTER + 1).state == "missing"


def test_what_another_boot_left_behind_is_no_host(living: Beat) -> None:
    old = replace(living, boot_id="another")
    assert old.state() == ""
    assert judged(old, now=living.beat_ms).state == "missing"


def test_a_beat_from_the_future_is_of_another_boot(living: Beat) -> None:
    assert judged(replace(living, beat_ms=living.beat_ms + 5000, pid=2**22 + 1), now=living.beat_ms).state == "missing"


def test_a_zombie_does_not_count_as_a_process(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "60"])
    born = beats._process(child.pid)[1]
    beat = Beat("atlas", "a", child.pid, born, beats.boot_id(), "", 0, 1000)
    assert beat.state() in ("R", "S", "D")
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert beat.state() == ""
    child.wait()


def test_a_dead_host_is_nobody_s_business_while_another_beats(living: Beat) -> None:
    dead = replace(living, instance="b", born=0, beat_ms=living.beat_ms - 10 * AFTER)
    assert judged(dead, living, now=living.beat_ms).state == "well"
    assert judged(dead, now=living.beat_ms).state == "missing"


def test_one_host_of_two_that_is_stuck_is_told_by_name(living: Beat) -> None:
    stuck = replace(living, instance="b", beat_ms=living.beat_ms - AFTER - 1)
    verdict = judged(stuck, living, now=living.beat_ms)
    assert (verdict.state, verdict.hosts) == ("silent", (stuck,))


def test_where_no_host_is_it_counts_from_when_one_was_last_seen() -> None:
    assert judged(now=AFTER, since=0, well=0).state == "well"
    assert judged(now=AFTER + 1, since=0, well=0).state == "missing"
    assert judged(now=AFTER + 1, since=0, well=AFTER).state == "well"


@given(silent=st.integers(0, 10**9), watched=st.integers(0, 10**9))
def test_time_that_nobody_watched_is_no_silence(silent: int, watched: int) -> None:
    now = 2 * 10**9
    beat = Beat("atlas", "a", os.getpid(), beats._process(os.getpid())[1], beats.boot_id(), "", now - silent, 1000)
    verdict = judged(beat, now=now, since=now - watched)
    assert (verdict.state == "silent") == (min(silent, watched) > AFTER)


def test_the_dead_are_cleared_away_and_the_living_stay(living: Beat, tmp_path: Path) -> None:
    known = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "b.json").write_text(json.dumps({**known, "instance": "b", "born": 1}))
    (tmp_path / "c.json").write_text("nonsense")
    beats.remove_dead(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
