"""Pauses: what several of them come to."""

from hypothesis import given
from hypothesis import strategies as st

from remediation.core.pausing import added, in_force
from remediation.model.entries import PauseStarted

NOW = 1_000


def pause(*, until: int = 0, panic: bool = False, revert: bool = False) -> PauseStarted:
    return PauseStarted(reason=f"{until} {panic} {revert}", by="me", until=until, panic=panic, revert=revert)


def after(*pauses: PauseStarted, at: int = NOW) -> tuple[PauseStarted, ...]:
    known: tuple[PauseStarted, ...] = ()
    for each in pauses:
        known = added(known, each, at)
    return known


def test_a_short_pause_does_not_end_a_panic() -> None:
    known = after(pause(panic=True), pause(until=NOW + 2))
    assert (found := in_force(known, NOW + 10)) is not None
    assert found.panic


def test_a_panic_that_ends_leaves_a_longer_pause() -> None:
    known = after(pause(until=NOW + 100), pause(until=NOW + 2, panic=True))
    during, later = in_force(known, NOW), in_force(known, NOW + 10)
    assert during is not None
    assert (during.panic, during.until) == (True, NOW + 100)
    assert later is not None
    assert not later.panic


def test_what_is_asked_for_later_in_a_panic_is_added_to_it() -> None:
    known = after(pause(panic=True), pause(panic=True, revert=True))
    assert (found := in_force(known, NOW)) is not None
    assert found.revert
    assert len(known) == 1


pauses = st.builds(pause, until=st.sampled_from([0, NOW - 5, NOW + 5, NOW + 50]), panic=st.booleans(), revert=st.booleans())


@given(st.lists(pauses, max_size=12), pauses, st.integers(NOW, NOW + 100))
def test_one_more_pause_never_makes_anything_milder(some: list[PauseStarted], more: PauseStarted, moment: int) -> None:
    before, then = in_force(after(*some), moment), in_force(after(*some, more), moment)
    if before is not None:
        assert then is not None
        assert then.panic >= before.panic
        assert then.revert >= before.revert
        assert then.until == 0 or 0 < before.until <= then.until


@given(st.lists(pauses, max_size=30), st.integers(NOW, NOW + 100))
def test_only_what_says_something_of_its_own_is_kept_and_nothing_is_lost(some: list[PauseStarted], moment: int) -> None:
    known = after(*some)
    assert len(known) <= 8
    found = in_force(known, moment)
    valid = [each for each in some if each.until == 0 or each.until > moment]
    assert (found is not None) == bool(valid)
    if found is not None:
        assert found.panic == any(each.panic for each in valid)
        assert found.until == (0 if any(each.until == 0 for each in valid) else max(each.until for each in valid))
