"""Each class of secrets against the corpus: what must be masked, and what must not."""

import collections

import pytest
from tests.support.secret_lines import Line, negative, positive

from remediation.model.redaction import Redactor
from remediation.model.redaction.patterns import BUILTIN

REDACTOR = Redactor()
POSITIVE, NEGATIVE = positive(), negative()


@pytest.mark.parametrize("line", POSITIVE, ids=lambda line: line.name)
@pytest.mark.parametrize("frame", ["{}", "before {} after", "line\n{}\nline", "({})"])
def test_a_secret_is_masked_and_the_mask_names_its_class(line: Line, frame: str) -> None:
    masked = REDACTOR.text(frame.format(line.text))
    for secret in line.secrets:
        assert secret not in masked, masked
    assert f"[redacted:{line.name}]" in masked
    assert REDACTOR.text(masked) == masked


@pytest.mark.parametrize("line", NEGATIVE, ids=lambda line: f"{line.name}: {line.text}")
def test_what_only_looks_like_a_secret_is_left_alone(line: Line) -> None:
    assert REDACTOR.text(line.text) is line.text
    assert REDACTOR.text(f"12:00 {line.text}\n") == f"12:00 {line.text}\n"


def test_every_class_has_five_lines_of_each_kind() -> None:
    classes = {rule.name for rule in BUILTIN} - {"private-key", "assignment", "element", "flag", "user", "command"} | {
        "password",
        "secret",
    }
    having, lacking = collections.Counter(line.name for line in POSITIVE), collections.Counter(line.name for line in NEGATIVE)
    assert set(having) == classes
    assert all(having[name] >= 5 for name in classes), having
    assert all(lacking[name] >= 5 for name in classes), lacking


@pytest.mark.parametrize("seed", range(20))
def test_other_random_secrets_of_the_same_forms_are_masked_too(seed: int) -> None:
    for line in positive(seed + 1):
        masked = REDACTOR.text(line.text)
        assert not any(secret in masked for secret in line.secrets), (line, masked)
        assert Redactor().text(masked) == masked
