"""The benchmark of tokens runs, on small models."""

from tests.bench.bench_tokens import measure, peak_of_a_long_track


def test_a_line_has_what_the_pages_quote() -> None:
    line = measure(2, 1.0, 1, small=True)
    assert line["tokens"] == 344 and line["of_these_no_near_tie"] == 0
    assert set(line["seconds_a_minute"]) == {"stream", "one pass"} and line["tokens_per_second"] > 0


def test_memory_is_told() -> None:
    told = peak_of_a_long_track(2, 30.0, small=True)
    assert told["tokens"] == 30 * 44100 // 128 and told["peak_rss_bytes"] >= told["peak_rss_bytes_before"] > 1e7
