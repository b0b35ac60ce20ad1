"""The built-in music, part by part: readers, catalogue, families, arrangement, sound."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("music21")
pytest.importorskip("symusic")

from featstore.datasets.demo import catalogue as books
from featstore.datasets.demo import families, harmony, packages, readers, sizes, works
from featstore.datasets.demo.arrange import CLIP_MS, TAGS, Clip, Event, arrange, window
from featstore.datasets.demo.instruments import INSTRUMENTS, KITS, folded
from featstore.datasets.demo.render import measure, n_samples_of, render
from featstore.errors import ConfigError, DatasetError, MissingDependency

TUNE = "X:1\nT:Test\nM:4/4\nL:1/4\nK:C\n"


def melody(body: str) -> list[tuple[float, float, int]]:
    """(Onset, duration, key) of a tune, in quarter notes."""
    notes = readers.read_tune(TUNE + body + "\n")
    return [(onset / readers.TICKS, length / readers.TICKS, key) for _, onset, length, key in notes.tolist()]


# ---- readers


def test_notes_have_exact_onsets_and_lengths() -> None:
    assert melody("C2 D/2E/2 F|") == [(0, 2, 60), (2, 0.5, 62), (2.5, 0.5, 64), (3, 1, 65)]
    assert melody("(3CDE C>D|") == [
        (0, pytest.approx(1 / 3 * 2), 60), (pytest.approx(2 / 3), pytest.approx(2 / 3), 62),
        (pytest.approx(4 / 3), pytest.approx(2 / 3), 64), (2, 1.5, 60), (3.5, 0.5, 62),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        ("|:C4|D4:|", "CDCD"),
        ("C4|D4:|E4|", "CDCDE"),
        ("C4|D4:|:E4|F4:|", "CDCDEFEF"),
        ("C4||D4:|E4|", "CDCDE"),
        ("|:C4|1 D4:|2 E4|", "CDCE"),
        ("|:C4|[1 D4:|[2 E4||F4|", "CDCEF"),
    ],
)
def test_repeats_and_endings_are_played_out(body: str, keys: str) -> None:
    names = {60: "C", 62: "D", 64: "E", 65: "F"}
    assert "".join(names[key] for _, _, key in melody(body)) == keys


def test_ties_ornaments_and_chord_names() -> None:
    assert melody('"Am"C2-C2|{de}.D4|~E2 !trill!T F2 % end|') == [(0, 4, 60), (4, 4, 62), (8, 2, 64), (10, 2, 65)]


def test_a_tune_that_is_no_tune() -> None:
    with pytest.raises(ValueError, match="abc2midi wrote nothing"):
        readers.read_tune("")


@pytest.mark.slow
def test_scores_agree_with_music21_own_walk() -> None:
    from music21 import converter

    for name in ("bach/bwv155.5", "palestrina/Sanctus_26_b", "monteverdi/madrigal.3.15"):
        work = works.work_named(name, "")
        mine = {tuple(row) for row in readers.read_score(work.path).tolist()}
        score = converter.parse(str(work.path), forceSource=True)
        theirs = {
            (number, round(note.offset * 480), round(note.quarterLength * 480), pitch.midi)
            for number, part in enumerate(score.parts)
            for note in part.stripTies().flatten().notes
            if note.quarterLength
            for pitch in note.pitches
        }
        assert mine == theirs


def test_notes_are_kept_and_a_damaged_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = next(each for each in books.catalogue() if each.style == "reel")
    work = works.work_named(entry.work, entry.style)
    first = readers.cached_notes(work, tmp_path)
    [path] = tmp_path.rglob("*.npy")
    path.write_bytes(path.read_bytes()[:50])
    np.testing.assert_array_equal(readers.cached_notes(work, tmp_path), first)
    monkeypatch.setattr(readers, "read_notes", lambda work: pytest.fail("read again"))
    np.testing.assert_array_equal(readers.cached_notes(work, tmp_path), first)


def test_a_score_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.mxl").write_bytes(b"not a score")
    with pytest.raises(DatasetError, match=r"a score cannot be read: .*bach/bad"):
        readers.read_notes(works.Work("bach/bad", "chorale", tmp_path / "bad.mxl"))


# ---- catalogue, families, sizes


def test_table_lists_the_works_that_are_installed() -> None:
    entries = {each.work: each for each in books.catalogue()}
    found = {each.name: each for each in works.scan_corpus()}
    assert set(entries) <= set(found) and len(found) - len(entries) < 30
    assert all(found[name].style == entry.style for name, entry in entries.items())
    assert all(works.work_named(name, each.style) == found[name] for name, each in list(entries.items())[::97])
    assert Counter(each.style for each in entries.values())["German song"] == 5249


def test_facts_of_a_sample_are_found_again() -> None:
    rng = random.Random(0)
    tunes = [each for each in books.catalogue() if "#" in each.work]
    scores = [each for each in books.catalogue() if "#" not in each.work and each.notes < 700]
    for entry in rng.sample(tunes, 40) + rng.sample(scores, 4):
        _, ticks, notes = families.facts_of(works.work_named(entry.work, entry.style))
        assert (entry.work, ticks, notes) == (entry.work, entry.ticks, entry.notes)


def test_works_with_a_mass_opus_or_title_in_common_are_one_family() -> None:
    family = {each.work: each.family for each in books.catalogue()}
    seen: dict[object, str] = {}
    for work in works.scan_corpus():
        for key in families.keys_of(work):
            if work.name in family:
                assert seen.setdefault(key, family[work.name]) == family[work.name], (work.name, key)


def test_equal_beginnings_are_one_family() -> None:
    family = {each.work: each.family for each in books.catalogue()}
    seen: dict[str, str] = {}
    for entry in [each for each in books.catalogue() if each.style == "slip jig"]:
        steps, _, _ = families.facts_of(works.work_named(entry.work, entry.style))
        assert not steps or seen.setdefault(steps, family[entry.work]) == family[entry.work]


def test_splits_follow_from_the_families() -> None:
    entries = books.catalogue()
    splits = families.splits_of(entries)
    assert all(splits[each.family] == each.split for each in entries)
    for style in works.STYLES:
        counts = Counter(each.split for each in entries if each.style == style)
        assert set(counts) == {"train", "valid", "test"}


def test_table_is_written_the_same_every_time(tmp_path: Path) -> None:
    books.write_table(list(books.catalogue()), tmp_path / "t.csv.gz")
    assert (tmp_path / "t.csv.gz").read_bytes() == Path(books.__file__).with_name("catalogue.csv.gz").read_bytes()


def test_incipit_is_free_of_key() -> None:
    notes = np.array([[0, 480 * i, 480, 60 + i % 5] for i in range(20)], np.int32)
    higher = notes + np.array([0, 960, 0, 7], np.int32)
    assert families.incipit(notes) == families.incipit(higher) != ""
    assert families.incipit(notes[:10]) == ""


def test_a_smaller_size_is_part_of_a_bigger_one() -> None:
    for style in works.STYLES:
        for split in ("train", "valid", "test"):
            entries = [each for each in books.catalogue() if (each.style, each.split) == (style, split)]
            names = [each.name for each in sizes.ordered_clips(entries, seed=0)]
            assert len(set(names)) == len(names) >= sizes.quotas(20, style)[split]
        counts = [sizes.quotas(number, style) for number in range(1, 101)]
        assert all(a[split] <= b[split] for a, b in pairwise(counts) for split in a)
        assert counts[19] == {"train": 14, "valid": 2, "test": 4} and counts[99] == {
            "train": 70,
            "valid": 10,
            "test": 20,
        }
        assert counts[0] == {"train": 1, "valid": 0, "test": 0}
    assert {split for style in works.STYLES for split, n in sizes.quotas(2, style).items() if n} == {
        "train",
        "valid",
        "test",
    }


def test_the_size_for_studies_has_400_test_clips_of_families_of_their_own() -> None:
    number = sizes.clips_per_style("study")
    assert number is not None
    chosen = {split: [] for split in ("train", "valid", "test")}  # type: dict[str, list[sizes.ClipChoice]]
    for style in works.STYLES:
        for split, quota in sizes.quotas(number, style).items():
            entries = [each for each in books.catalogue() if (each.style, each.split) == (style, split)]
            chosen[split] += sizes.ordered_clips(entries, seed=0)[:quota]
    assert {split: len(clips) for split, clips in chosen.items()} == {"train": 1410, "valid": 208, "test": 404}
    families = {split: {each.entry.family for each in clips} for split, clips in chosen.items()}
    assert not families["train"] & families["test"] and not families["train"] & families["valid"]
    assert not families["valid"] & families["test"] and len(families["test"]) > 250


@pytest.mark.parametrize("size", ["huge", "0", -1, "1.5"])
def test_sizes_that_do_not_exist(size: str | int) -> None:
    with pytest.raises(ConfigError, match=r"size .* does not exist.*quick, standard, study, full, or a number"):
        sizes.clips_per_style(size)
    assert (sizes.clips_per_style("quick"), sizes.clips_per_style("7"), sizes.clips_per_style("full")) == (20, 7, None)


def test_missing_and_foreign_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingDependency, match=r"the built-in music needs the package 'nothing'.*featstore\[demo\]"):
        packages.package_folder("nothing")
    monkeypatch.setattr(packages.importlib.metadata, "version", lambda name: "9.9.9")
    with pytest.raises(DatasetError, match=r"music21 9\.9\.9 is installed.*pip install music21=="):
        packages.require_packages()


# ---- harmony, arranging


def notes_of(keys: list[int], length: int = 480) -> np.ndarray:
    return np.array([[0, i * length, length, key] for i, key in enumerate(keys)], np.int32)


def test_key_metre_and_chords() -> None:
    scale = [60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 60, 60]
    assert harmony.find_key(notes_of(scale)) == (0, "major")
    assert harmony.find_key(notes_of([key + 3 for key in scale])) == (3, "major")
    assert harmony.find_key(notes_of([57, 59, 60, 62, 64, 65, 64, 57, 64, 60, 57, 57])) == (9, "minor")
    assert harmony.bar_ticks("6/8") == 1440
    assert [harmony.metre_tag(each) for each in ("4/4", "3/4", "9/8")] == ["duple time", "triple time", "compound time"]
    chords = harmony.harmonise(notes_of([60, 64, 67, 60, 65, 69, 72, 65]), bar=1920, tonic=0, mode="major", end=3840)
    assert chords == [(0, 0, 4), (1920, 5, 4)]


def test_arrangement_depends_on_work_and_seed_alone() -> None:
    tune = notes_of([60, 62, 64, 65, 67, 69, 71, 72] * 3)

    def made(work: str = "w", seed: int = 0) -> Clip:
        return window(arrange(tune, work=work, style="reel", metre="4/4", seed=seed), 0)

    assert made() == made() and made().identity == made().identity
    assert len({made().identity, made("v").identity, made(seed=1).identity}) == 3


def test_clips_of_any_work_are_well_formed() -> None:
    rng = random.Random(4)
    forms: Counter[str] = Counter()
    for number in range(150):
        style = works.STYLES[number % 12]
        keys = [rng.randint(30, 100) for _ in range(40)]
        tune = notes_of(keys, rng.choice([120, 240, 480]))
        if style in works.STYLES[7:]:
            tune = np.concatenate([tune, tune + np.array([1, 0, 0, -12], np.int32)])
        metre = rng.choice(["4/4", "6/8", "3/4", "9/8", "2/4"]) if style in works.STYLES[:7] else ""
        clip = window(arrange(tune, work=f"w{number}", style=style, metre=metre), 0)
        forms.update(clip.tags)
        assert style in clip.tags and set(clip.tags) <= set(TAGS)
        assert len({"slow", "medium", "fast"} & set(clip.tags)) == len({"low", "middle", "high"} & set(clip.tags)) == 1
        assert (metre != "") == bool({"duple time", "triple time", "compound time"} & set(clip.tags))
        assert {INSTRUMENTS[each.sound].tag for each in clip.events if each.sound in INSTRUMENTS} <= set(clip.tags)
        assert ("drums" in clip.tags) == any(each.sound in KITS for each in clip.events)
        assert max(each.onset_ms + each.duration_ms for each in clip.events) > CLIP_MS - 3000
        for each in clip.events:
            assert 0 <= each.onset_ms < CLIP_MS and 0 < each.duration_ms <= CLIP_MS
            if each.sound in INSTRUMENTS:
                assert INSTRUMENTS[each.sound].low <= each.key <= INSTRUMENTS[each.sound].high
    assert all(forms[tag] for tag in ("solo", "drone", "chords", "band", "polyphonic", "major", "minor"))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 127), st.integers(20, 80), st.integers(11, 40))
def test_folding_keeps_the_pitch_class(key: int, low: int, width: int) -> None:
    result = folded(key, low, low + width)
    assert low <= result <= low + width and (result - key) % 12 == 0


def test_there_are_47_tags() -> None:
    assert len(TAGS) == len(set(TAGS)) == 47
    assert {each.tag for each in INSTRUMENTS.values()} < set(TAGS)


# ---- sound


def clip_of(*events: Event) -> Clip:
    return Clip(tuple(events), ())


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
def test_onsets_are_exact(sample_rate: int) -> None:
    onsets = [0, 1003, 7777, 20001]
    audio, loudness = render(
        clip_of(*(Event(each, 100, 76, "drum kit") for each in onsets)), sample_rate=sample_rate, channels=1
    )
    starts = []
    for onset in onsets:
        first = onset * sample_rate // 1000
        nearby = np.abs(audio[0, max(0, first - 50) : first + 200])
        starts.append(int(np.nonzero(nearby > 1e-6)[0][0]) + max(0, first - 50) - first)
    assert len(set(starts)) == 1 and 0 <= starts[0] < 60
    assert loudness.peak <= 0.98


def test_every_sound_is_heard_at_its_ends() -> None:
    for name, sound in INSTRUMENTS.items():
        for key in (sound.low, sound.high):
            audio, loudness = render(clip_of(Event(0, 400, key, name)), sample_rate=16_000, channels=1)
            assert loudness.rms_db > -60, name
            assert audio.shape == (1, n_samples_of(16_000)) and audio.dtype == np.float32


def test_a_sound_does_not_depend_on_what_was_played_before() -> None:
    def played(name: str) -> np.ndarray:
        keys = range(INSTRUMENTS[name].low, INSTRUMENTS[name].high + 1)
        clip = clip_of(*(Event(400 * i, 350, key, name) for i, key in enumerate(keys)))
        return render(clip, sample_rate=16_000, channels=1)[0]

    names = ("violin", "viola", "fiddle")  # programs that share samples
    forwards = {name: played(name) for name in names}
    backwards = {name: played(name) for name in reversed(names)}
    for name in names:
        np.testing.assert_array_equal(forwards[name], backwards[name])


def test_level_stereo_and_repeatability() -> None:
    events = [Event(500 * i, 450, 60 + i % 12, sound) for i in range(58) for sound in ("piano", "flute")]
    mono, loudness = render(clip_of(*events), sample_rate=16_000, channels=1)
    stereo, _ = render(clip_of(*events), sample_rate=16_000, channels=2)
    again, _ = render(clip_of(*events), sample_rate=16_000, channels=1)
    np.testing.assert_array_equal(mono, again)
    assert 20 * np.log10(np.sqrt(np.mean(mono**2))) == pytest.approx(-20, abs=0.1) or loudness.peak == pytest.approx(
        0.98
    )
    assert stereo.shape == (2, n_samples_of(16_000)) and not np.allclose(stereo[0], stereo[1])
    assert not loudness.is_silent


def test_silence_is_noticed() -> None:
    _, nothing = render(clip_of(), sample_rate=16_000, channels=1)
    assert nothing.is_silent and nothing.silent_share == 1.0
    _, short = render(clip_of(Event(0, 9000, 60, "flute")), sample_rate=16_000, channels=1)
    assert short.is_silent and short.silent_share == pytest.approx(20 / 29.1, abs=0.02)
    audio = np.concatenate([np.zeros((1, 1600)), np.full((1, 14_400), 0.5)], axis=1).astype(np.float32)
    share, peak = measure(audio, 16_000)
    assert share == pytest.approx(1 / 15, abs=0.01) and peak == 0.5
