"""Registering runbooks: what is refused before anything is touched, with the runbook and the reason; and the options they are given."""

import functools
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator
from tests.support.hosts import runbook

from remediation.authoring import NoOptions, Runbook, Sentinel
from remediation.engine.registry import Registry
from remediation.errors import RegistrationError
from remediation.model.base import Frozen


class Strict(Frozen):
    limit: int = 3
    rooms: tuple[str, ...] = ()

    @field_validator("limit")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value


def optioned(model: Any) -> type[Runbook[Any]]:
    class Made(runbook("b"), Runbook[model]):
        pass

    return Made


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limt": 2}, "[runbooks.\"b\".options] has no key 'limt'; did you mean 'limit'?"),
        ({"zzz": 2}, "[runbooks.\"b\".options] has no key 'zzz'; it has limit, rooms"),
        ({"limit": 3}, '[runbooks."b".options] limit must be even'),
        ({"rooms": "hall"}, '[runbooks."b".options] rooms must be a list, not a string'),
        ({"rooms": ["hall", 3]}, '[runbooks."b".options] rooms, item 2 must be a string, not a number'),
        ({"rooms": "hall", "limt": 2}, "must be a list, not a string\n[runbooks.\"b\".options] has no key 'limt'"),
    ],
)
def test_options_that_can_not_be_used_are_told_by_table_and_key(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RegistrationError) as refused:
        Registry().add(optioned(Strict), options=options)
    assert said in str(refused.value)


def test_a_runbook_without_options_says_that_it_has_none() -> None:
    with pytest.raises(RegistrationError, match=r"has no key 'limit'; it has none at all$"):
        Registry().add(runbook("b"), options={"limit": 3})


class Corner(BaseModel):
    left: int = 0


class Plain(BaseModel):
    limit: int = 3
    corner: Corner | None = None
    named: str = Field(default="", validation_alias="by-name")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


def test_options_are_any_pydantic_model() -> None:
    options = {"limit": 5, "corner": {"left": 2}, "by-name": "x"}
    assert Registry().add(optioned(Plain), options=options).options == Plain.model_validate(options)
    assert Registry().add(optioned(Open), options={"anything": 1}).options.model_extra == {"anything": 1}
    assert Registry().add(optioned(Any)).options == NoOptions()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limt": 1}, "[runbooks.\"b\".options] has no key 'limt'; did you mean 'limit'?"),
        ({"named": "x"}, "[runbooks.\"b\".options] has no key 'named'; did you mean 'by-name'?"),
        ({"corner": {"lft": 1}}, "[runbooks.\"b\".options] corner has no key 'lft'; did you mean 'left'?"),
    ],
)
def test_a_key_that_a_plain_model_would_overlook_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RegistrationError) as refused:
        Registry().add(optioned(Plain), options=options)
    assert str(refused.value) == said


def test_options_that_are_no_model_are_refused_where_the_class_is_made() -> None:
    for base in (Runbook, Sentinel):
        with pytest.raises(TypeError, match=r"Odd: options are a pydantic model, and <class 'dict'> is none"):

            class Odd(base[dict]):
                pass


@pytest.mark.parametrize("code", ["LOCK_*", "LOCK STALE", "*", "", "A" * 80, "-x", "it is broken\x1b[2J", "LOCK_[A-Z]"])
def test_a_code_that_no_degradation_can_have_is_refused(code: str) -> None:
    with pytest.raises(RegistrationError, match=r"runbook 'b' handles the code '.*', which no degradation can have") as refused:
        Registry().add(runbook("b", code=code))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("code", ["LOCK_STALE", "a", "A" * 64, "x.y:z-1"])
def test_a_code_that_a_degradation_can_have_is_taken(code: str) -> None:
    assert Registry().add(runbook("b", code=code)).spec.handles[0].code == code


@pytest.mark.parametrize("name", ["precondition", "action", "verify", "escalate"])
def test_a_step_that_is_not_async_is_refused(name: str) -> None:
    kind = runbook("b")
    setattr(kind, name, lambda self, ctx: None)
    with pytest.raises(RegistrationError, match=f"runbook 'b': {name} is not an async function"):
        Registry().add(kind)


def test_an_async_matches_is_refused_as_it_would_always_say_yes() -> None:
    class Odd(runbook("b")):
        async def matches(self, event: Any) -> bool:
            return False

    with pytest.raises(RegistrationError, match="runbook 'b': matches is async"):
        Registry().add(Odd)


def test_a_step_in_a_decorator_is_taken() -> None:
    kind = runbook("b")
    step = kind.verify
    kind.verify = functools.wraps(step)(lambda self, ctx: step(self, ctx))
    assert Registry().add(kind).spec.id == "b"
