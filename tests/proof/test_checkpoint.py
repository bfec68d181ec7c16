"""Checkpoints: three lines, one form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.sample_log import new_signer

from remediation.proof.checkpoint import Checkpoint, open_checkpoint
from remediation.proof.errors import NoteError, SignatureRefused
from remediation.proof.note import sign_note

ORIGIN = "example.com/behind-the-sofa"
# The example text of the specification.
PUBLISHED = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"


def test_the_text_of_the_specification_can_be_read_and_written():
    checkpoint = Checkpoint.parse(PUBLISHED)
    assert (checkpoint.origin, checkpoint.size) == (ORIGIN, 20852163)
    assert checkpoint.text() == PUBLISHED


@given(st.integers(min_value=0, max_value=2**53 - 1), st.binary(min_size=32, max_size=32))
def test_what_is_signed_can_be_opened(size, root):
    signer = new_signer(ORIGIN)
    checkpoint = Checkpoint(ORIGIN, size, root)
    opened = open_checkpoint(checkpoint.sign([signer]), [signer.key], origin=ORIGIN)
    assert opened.checkpoint == checkpoint
    assert opened.keys == (signer.key,)


def test_a_double_signed_checkpoint_names_both_keys():
    old, new = new_signer(ORIGIN), new_signer(ORIGIN)
    note = Checkpoint(ORIGIN, 7, b"r" * 32).sign([old, new])
    assert open_checkpoint(note, [new.key, old.key]).keys == (old.key, new.key)
    assert open_checkpoint(note, [new.key]).keys == (new.key,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/log\n1\n",
        "example.com/log\n01\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "example.com/log\n+1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "example.com/log\n-1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "example.com/log\n1 \nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "example.com/log\n\N{ARABIC-INDIC DIGIT ONE}\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "example.com/log\n9007199254740992\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "example.com/log\n99999999999999999999\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "example.com/log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n",
        "example.com/log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxqw==\n",
        "example.com/log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
        "example.com/log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\nextension\n",
        "\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        "two words\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
    ],
)
def test_a_text_of_another_form_is_refused(text):
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


def test_a_signed_text_that_is_no_checkpoint_is_refused():
    signer = new_signer(ORIGIN)
    with pytest.raises(NoteError, match="three lines"):
        open_checkpoint(sign_note("hello\n", [signer]), [signer.key])


def test_a_checkpoint_of_another_log_is_refused():
    signer = new_signer(ORIGIN)
    note = Checkpoint(ORIGIN, 1, b"r" * 32).sign([signer])
    with pytest.raises(SignatureRefused, match=r"not of 'example\.com/other'"):
        open_checkpoint(note, [signer.key], origin="example.com/other")


def test_nobody_signs_in_another_logs_name():
    with pytest.raises(NoteError, match="name and origin must be equal"):
        Checkpoint(ORIGIN, 1, b"r" * 32).sign([new_signer("example.com/other")])


def test_a_checkpoint_without_signer_or_with_a_root_of_another_length_is_not_made():
    with pytest.raises(NoteError, match="needs a signature"):
        Checkpoint(ORIGIN, 1, b"r" * 32).sign([])
    with pytest.raises(NoteError, match="32 bytes, not 31"):
        Checkpoint(ORIGIN, 1, b"r" * 31).sign([new_signer(ORIGIN)])
