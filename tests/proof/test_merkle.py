"""The tree and its proofs, against published vectors and against the definition."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediation.proof import merkle

# The leaves and roots of the reference implementation's tests (certificate-transparency, merkle_tree_test).
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# index, size (of the tree), audit path
PATHS = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCY = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


def naive_root(leaf_hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word."""
    if not leaf_hashes:
        return sha256(b"").digest()
    if len(leaf_hashes) == 1:
        return leaf_hashes[0]
    k = 1
    while 2 * k < len(leaf_hashes):
        k *= 2
    return sha256(b"\x01" + naive_root(leaf_hashes[:k]) + naive_root(leaf_hashes[k:])).digest()


def hashes(count: int) -> list[bytes]:
    return [merkle.leaf_hash(b"%d" % number) for number in range(count)]


sizes = st.integers(min_value=0, max_value=300)


@pytest.mark.parametrize("size", range(9))
def test_the_published_roots_come_out(size):
    assert merkle.root_of(map(merkle.leaf_hash, LEAVES[:size])).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "path"), PATHS)
def test_the_published_audit_paths_come_out_and_verify(index, size, path):
    source = merkle.hashes_of([merkle.leaf_hash(leaf) for leaf in LEAVES[:size]])
    proof = merkle.inclusion_proof(index, size, source)
    assert [item.hex() for item in proof] == path
    assert merkle.verify_inclusion(index, size, merkle.leaf_hash(LEAVES[index]), proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY)
def test_the_published_consistency_proofs_come_out_and_verify(old, new, path):
    source = merkle.hashes_of([merkle.leaf_hash(leaf) for leaf in LEAVES[:new]])
    proof = merkle.consistency_proof(old, new, source)
    assert [item.hex() for item in proof] == path
    assert merkle.verify_consistency(old, new, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]), proof)


@given(sizes)
def test_the_frontier_has_the_root_of_the_definition_at_every_size(size):
    leaves = hashes(size)
    frontier = merkle.Frontier()
    frontier.extend(leaves)
    assert frontier.root() == naive_root(leaves)
    assert frontier.size == size


@given(sizes, st.data())
def test_append_and_extend_in_any_portions_are_the_same(size, data):
    leaves = hashes(size)
    one, many = merkle.Frontier(), merkle.Frontier()
    for leaf in leaves:
        one.append(leaf)
    at = 0
    while at < size:
        step = data.draw(st.integers(min_value=1, max_value=size - at))
        many.extend(iter(leaves[at : at + step]))
        at += step
    assert one == many
    assert repr(one) == repr(many)


@given(sizes, sizes)
def test_a_frontier_continues_from_what_it_told(before, after):
    leaves = hashes(before + after)
    first = merkle.Frontier()
    first.extend(leaves[:before])
    second = merkle.Frontier(first.size, first.subtrees)
    second.extend(leaves[before:])
    assert second.root() == naive_root(leaves)


def test_a_copied_frontier_leads_a_life_of_its_own():
    frontier = merkle.Frontier()
    frontier.extend(hashes(5))
    root = frontier.root()
    twin = frontier.copy()
    twin.extend(hashes(5))
    assert frontier.root() == root
    assert frontier.size == 5
    assert twin.root() == merkle.root_of(hashes(5) * 2)
    assert frontier != twin
    assert frontier != "a frontier"


@pytest.mark.parametrize(("size", "subtrees"), [(1, []), (3, [b"x" * 32]), (1, [b"short"]), (-1, [b"x" * 32]), (0, [b"x" * 32])])
def test_a_frontier_refuses_a_state_that_no_tree_has(size, subtrees):
    with pytest.raises(ValueError, match="one subtree hash of 32 bytes for each bit"):
        merkle.Frontier(size, subtrees)


@given(st.integers(min_value=1, max_value=200), st.data())
def test_every_inclusion_proof_verifies_and_no_other_does(size, data):
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    leaves = hashes(size)
    root = naive_root(leaves)
    proof = merkle.inclusion_proof(index, size, merkle.hashes_of(leaves))
    assert merkle.verify_inclusion(index, size, leaves[index], proof, root)
    other = data.draw(st.integers(min_value=-1, max_value=size + 3).filter(lambda value: value != index))
    assert not merkle.verify_inclusion(other, size, leaves[index], proof, root)
    assert not merkle.verify_inclusion(index, size, leaves[index], [*proof, root], root)
    assert not proof or not merkle.verify_inclusion(index, size, leaves[index], proof[:-1], root)
    assert not proof or not merkle.verify_inclusion(index, size, leaves[index], proof[1:], root)


@given(st.integers(min_value=1, max_value=100), st.data())
def test_any_changed_bit_breaks_an_inclusion_proof(size, data):
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    leaves = hashes(size)
    parts = [leaves[index], naive_root(leaves), *merkle.inclusion_proof(index, size, merkle.hashes_of(leaves))]
    at = data.draw(st.integers(min_value=0, max_value=len(parts) - 1))
    parts[at] = flipped(data, parts[at])
    leaf, root, *proof = parts
    assert not merkle.verify_inclusion(index, size, leaf, proof, root)


@given(st.integers(min_value=0, max_value=200), st.data())
def test_every_consistency_proof_verifies_and_no_other_does(new, data):
    old = data.draw(st.integers(min_value=0, max_value=new))
    leaves = hashes(new)
    old_root, new_root = naive_root(leaves[:old]), naive_root(leaves)
    proof = merkle.consistency_proof(old, new, merkle.hashes_of(leaves))
    assert merkle.verify_consistency(old, new, old_root, new_root, proof)
    assert not merkle.verify_consistency(old, new, old_root, new_root, [*proof, new_root])
    assert not proof or not merkle.verify_consistency(old, new, old_root, new_root, proof[:-1])
    assert not proof or not merkle.verify_consistency(old, new, old_root, new_root, proof[1:])
    assert not merkle.verify_consistency(new + 1, new, old_root, new_root, proof)
    assert not merkle.verify_consistency(-1, new, old_root, new_root, proof)


@given(st.integers(min_value=1, max_value=100), st.data())
def test_any_changed_bit_breaks_a_consistency_proof(new, data):
    old = data.draw(st.integers(min_value=1, max_value=new))
    leaves = hashes(new)
    parts = [naive_root(leaves[:old]), naive_root(leaves), *merkle.consistency_proof(old, new, merkle.hashes_of(leaves))]
    at = data.draw(st.integers(min_value=0, max_value=len(parts) - 1))
    parts[at] = flipped(data, parts[at])
    old_root, new_root, *proof = parts
    assert not merkle.verify_consistency(old, new, old_root, new_root, proof)


def flipped(data, item: bytes) -> bytes:
    """`item` with one bit changed."""
    changed = bytearray(item)
    bit = data.draw(st.integers(min_value=0, max_value=255))
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_rewritten_history_is_not_consistent():
    leaves = hashes(10)
    rewritten = [merkle.leaf_hash(b"forged"), *leaves[1:]]
    proof = merkle.consistency_proof(6, 10, merkle.hashes_of(rewritten))
    assert not merkle.verify_consistency(6, 10, naive_root(leaves[:6]), naive_root(rewritten), proof)


def test_the_empty_tree_is_a_prefix_of_any():
    assert merkle.consistency_proof(0, 7, merkle.hashes_of(hashes(7))) == []
    assert merkle.verify_consistency(0, 7, merkle.EMPTY_ROOT, merkle.root_of(hashes(7)), [])
    assert not merkle.verify_consistency(0, 7, b"x" * 32, merkle.root_of(hashes(7)), [])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_there_is_no_proof_for_a_leaf_that_is_not_there(index, size):
    with pytest.raises(ValueError, match="has no leaf"):
        merkle.inclusion_proof(index, size, merkle.hashes_of(hashes(3)))


@pytest.mark.parametrize(("old", "new"), [(4, 3), (-1, 3)])
def test_there_is_no_proof_that_a_longer_tree_is_a_prefix(old, new):
    with pytest.raises(ValueError, match="no prefix"):
        merkle.consistency_proof(old, new, merkle.hashes_of(hashes(3)))


def test_leaves_and_nodes_are_hashed_apart():
    """Otherwise an inner node's two hashes could be passed off as a leaf (second preimage)."""
    left, right = hashes(2)
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)
