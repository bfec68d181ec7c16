"""The tile geometry of C2SP tlog-tiles, against its definition and its own examples."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediation.proof import merkle, tiles
from remediation.proof.errors import TileMissing

LEAVES = [merkle.leaf_hash(b"%d" % number) for number in range(70_000)]
# Sizes around what matters: powers of 256, and some in between.
SIZES = st.one_of(
    st.integers(min_value=0, max_value=2_000),
    st.builds(lambda base, by: max(base + by, 0), st.sampled_from([256, 512, 65_280, 65_536, 65_792]), st.integers(-3, 3)),
)


def defined_tile(level: int, n: int, size: int) -> bytes:
    """The hashes of a tile by the definition: MTH(D[(n * 256 + i) * 256**l : (n * 256 + i + 1) * 256**l])."""
    span = 256**level
    found = b""
    for i in range(256):
        start = (n * 256 + i) * span
        if start + span > size:
            break
        found += merkle.root_of(LEAVES[start : start + span])
    return found


class Storage:
    """What a journal keeps: the tiles that the writer yields, and the leaves."""

    def __init__(self) -> None:
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.reads: list[int] = []

    def keep(self, changed: list[tiles.Tile]) -> None:
        assert len({(tile.level, tile.n) for tile in changed}) == len(changed)
        self.tiles.update({(tile.level, tile.n): tile.data for tile in changed})

    def tile(self, level: int, n: int) -> bytes | None:
        data = self.tiles.get((level, n))
        self.reads.append(len(data or b"") // 32)
        return data


def stored(size: int, portions: list[int] | None = None) -> tuple[tiles.TileWriter, Storage]:
    writer, storage = tiles.TileWriter(), Storage()
    at = 0
    for portion in [*(portions or []), size]:
        step = min(portion, size - at)
        storage.keep(writer.extend(LEAVES[at : at + step]))
        at += step
    return writer, storage


def test_the_example_of_the_specification():
    """A tree of 70,000: 273 full tiles and one of 112 at level 0, one full and one of 17 at level 1, one of 1 at level 2."""
    found = list(tiles.tiles_of(70_000))
    assert found[:273] == [(0, n, 256) for n in range(273)]
    assert found[273:] == [(0, 273, 112), (1, 0, 256), (1, 1, 17), (2, 0, 1)]
    assert list(tiles.tiles_of(256)) == [(0, 0, 256), (1, 0, 1)]
    assert list(tiles.tiles_of(0)) == []


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ((0, 0), "tile/0/000"),
        ((0, 1_234_067), "tile/0/x001/x234/067"),
        ((2, 1_000), "tile/2/x001/000"),
        ((1, 999, 17), "tile/1/999.p/17"),
        (("entries", 273, 112), "tile/entries/273.p/112"),
    ],
)
def test_paths_are_those_of_the_specification(arguments, path):
    assert tiles.tile_path(*arguments) == path


@pytest.mark.parametrize("arguments", [(64, 0), (-1, 0), (0, -1), (0, 0, 0), (0, 0, 257), ("leaves", 0)])
def test_there_is_no_path_outside_the_ranges(arguments):
    with pytest.raises(ValueError, match="there is no tile"):
        tiles.tile_path(*arguments)


@given(SIZES, SIZES)
def test_the_completed_tiles_are_those_that_are_full_now_and_were_not(one, other):
    old, new = sorted((one, other))
    full_then = {(level, n) for level, n, width in tiles.tiles_of(old) if width == 256}
    full_now = {(level, n) for level, n, width in tiles.tiles_of(new) if width == 256}
    assert set(tiles.completed(old, new)) == full_now - full_then


@settings(deadline=None, max_examples=25)
@given(SIZES, st.lists(st.integers(min_value=0, max_value=700), max_size=6))
def test_what_is_stored_are_the_tiles_of_the_definition(size, portions):
    writer, storage = stored(size, portions)
    expected = {(level, n): defined_tile(level, n, size) for level, n, width in tiles.tiles_of(size) if level or width == 256}
    assert storage.tiles == expected
    assert writer.root() == merkle.root_of(LEAVES[:size])
    assert writer.size == size


@settings(deadline=None, max_examples=25)
@given(SIZES, st.integers(min_value=0, max_value=600), st.lists(st.integers(min_value=0, max_value=700), max_size=4))
def test_a_restored_writer_goes_on_as_if_nothing_had_happened(size, more, portions):
    writer, storage = stored(size, portions)
    restored = tiles.TileWriter.restore(size, storage.tile, LEAVES[size - size % 256 : size])
    assert restored.root() == writer.root()
    assert restored.frontier() == writer.frontier()
    assert restored.extend(LEAVES[size : size + more]) == writer.extend(LEAVES[size : size + more])
    assert restored.root() == merkle.root_of(LEAVES[: size + more])


@settings(deadline=None, max_examples=20)
@given(SIZES, SIZES)
def test_an_earlier_size_can_be_restored_from_later_storage(one, other):
    size, later = sorted((one, other))
    _, storage = stored(later)
    restored = tiles.TileWriter.restore(size, storage.tile, LEAVES[size - size % 256 : size])
    assert restored.root() == merkle.root_of(LEAVES[:size])


def test_restoring_reads_at_most_255_hashes_for_each_level():
    _, storage = stored(69_999)
    tiles.TileWriter.restore(69_999, storage.tile, LEAVES[69_999 - 69_999 % 256 : 69_999])
    assert storage.reads == [17, 1]
    assert 69_999 % 256 <= 255


def test_a_copy_takes_a_failed_transaction_back():
    writer, _ = stored(300)
    before = writer.copy()
    lost = writer.extend(LEAVES[300:600])
    assert before.size == 300
    assert before.root() == merkle.root_of(LEAVES[:300])
    assert before.extend(LEAVES[300:600]) == lost


@settings(deadline=None, max_examples=25)
@given(SIZES.filter(bool), st.data())
def test_proofs_can_be_made_from_storage(size, data):
    writer, storage = stored(size)
    source = tiles.tile_hashes(size, storage.tile, LEAVES[size - size % 256 : size])
    index = data.draw(st.integers(min_value=0, max_value=size - 1))
    assert merkle.verify_inclusion(index, size, LEAVES[index], merkle.inclusion_proof(index, size, source), writer.root())
    old = data.draw(st.integers(min_value=0, max_value=size))
    proof = merkle.consistency_proof(old, size, source)
    assert merkle.verify_consistency(old, size, merkle.root_of(LEAVES[:old]), writer.root(), proof)


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_a_missing_or_short_tile_is_an_error_that_names_it(damage):
    _, storage = stored(1_000)
    if damage == "gone":
        del storage.tiles[1, 0]
    else:
        storage.tiles[1, 0] = storage.tiles[1, 0][:-1]
    with pytest.raises(TileMissing, match="tile 0 of level 1"):
        tiles.TileWriter.restore(1_000, storage.tile, LEAVES[768:1_000])
    source = tiles.tile_hashes(1_000, storage.tile, LEAVES[768:1_000])
    with pytest.raises(TileMissing, match="tile 0 of level 1"):
        merkle.inclusion_proof(999, 1_000, lambda level, index: source(level, index))


def test_restoring_needs_exactly_the_last_leaves():
    _, storage = stored(1_000)
    with pytest.raises(TileMissing, match="its last 232 leaves, 231 were given"):
        tiles.TileWriter.restore(1_000, storage.tile, LEAVES[768:999])


def test_an_entry_bundle_puts_the_length_before_each_leaf():
    assert tiles.entry_bundle([b"", b"ab", b"x" * 258]) == b"\0\0" + b"\0\2ab" + b"\1\2" + b"x" * 258
    with pytest.raises(ValueError, match="at most 65,535 bytes"):
        tiles.entry_bundle([b"x" * 65_536])


def test_a_tile_tells_its_width():
    assert tiles.Tile(0, 0, b"x" * 8192).width == 256
    assert tiles.width_of(1, 1, 70_000) == 17
    assert tiles.width_of(0, 300, 70_000) == 0
