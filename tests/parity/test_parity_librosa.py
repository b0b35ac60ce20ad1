"""The native engine against librosa over drawn parameters.

Both compute in float32, so a band's error is in proportion to the energy of its frame, not to its own: the tolerance is
4e-6 of the frame's largest value (2**-18: the rounding of a transform of up to 11 steps), and 0.01 dB for values within
60 dB of it.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from featstore.errors import SpecError
from featstore.features import check
from featstore.features.hpss import HpssSpec
from featstore.features.mel import MelSpec
from featstore.features.stft import StftSpec
from featstore.specs import expand_features
from featstore.testing.audio import tone
from tests.features.runner import run_signal

pytest.importorskip("librosa")
pytestmark = pytest.mark.filterwarnings("ignore:n_fft=.* is too large:UserWarning")
SIGNAL = tone(3.0, 16000, seed=4)


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype == np.float32
    loudest = theirs.max(axis=0)
    assert (np.abs(ours - theirs) <= 4e-6 * loudest + 1e-12).all()
    heard = theirs > 1e-6 * loudest
    if heard.any() and loudest.max() > 1e-9:
        decibels = 10 * np.abs(np.log10(np.maximum(ours[heard], 1e-20) / theirs[heard]))
        assert np.quantile(decibels, 0.999) <= 0.01


@st.composite
def framing(draw):
    n_fft = draw(st.sampled_from([64, 100, 256, 400, 512, 551, 1024, 2048]))
    return {
        "n_fft": n_fft,
        "win_length": draw(st.integers(n_fft // 4, n_fft)),
        "hop_length": draw(st.integers(16, 1200)),
        "window": draw(st.sampled_from(["hann", "hamming", "blackman", "bartlett", "boxcar"])),
        "window_symmetric": draw(st.booleans()),
        "pad_mode": draw(st.sampled_from(["zeros", "reflect"])),
        "framing": draw(st.sampled_from(["librosa", "valid", "token"])),
    }


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(framing(), st.integers(1200, 48000))
def test_stft(fields, n):
    spec = StftSpec(**fields)
    assert_close(run_signal(spec, SIGNAL[:n]), run_signal(spec.replace(engine="librosa"), SIGNAL[:n]))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    framing(),
    st.integers(1200, 48000),
    st.integers(4, 128),
    st.floats(0, 300),
    st.floats(3000, 8000),
    st.sampled_from(["slaney", "htk"]),
    st.sampled_from(["slaney", "none"]),
    st.sampled_from([1.0, 2.0, 1.5]),
)
def test_mel(fields, n, n_mels, fmin, fmax, mel_scale, norm, power):
    spec = MelSpec(**fields, n_mels=n_mels, fmin=fmin, fmax=fmax, mel_scale=mel_scale, norm=norm, power=power)
    try:
        check(spec)
    except SpecError:
        assume(False)
    assert_close(run_signal(spec, SIGNAL[:n]), run_signal(spec.replace(engine="librosa"), SIGNAL[:n]))


@pytest.mark.parametrize("name", ["token", "11ms", "46ms", "46ms-sparse"])
def test_the_spectra_that_are_compared_with_tokens(name):
    """A window of 512 in a transform of 2048, and frames moved to the middle of a token."""
    (request,) = expand_features([f"spectroformer-{name}"])
    spec = request.spec.replace(scale="power")
    assert_close(run_signal(spec, SIGNAL), run_signal(spec.replace(engine="librosa"), SIGNAL))


@pytest.mark.parametrize("sample_rate", [12000, 16000])
@pytest.mark.parametrize("n_mels", [128, 96, 48, 32, 24, 16, 8])
def test_mel_as_a_user_writes_it(sample_rate, n_mels):
    """The spec's defaults are ``librosa.feature.melspectrogram`` with zeros around the signal (librosa's default)."""
    import librosa

    theirs = librosa.feature.melspectrogram(y=SIGNAL, sr=sample_rate, n_fft=512, hop_length=256, n_mels=n_mels)
    assert_close(run_signal(MelSpec(sample_rate=sample_rate, n_mels=n_mels), SIGNAL), theirs)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["harmonic", "percussive", "residual"]),
    st.sampled_from([1.0, 1.5, 2.0, 3.0, (1.0, 5.0), (3.0, 1.0)]),
    st.sampled_from([5, 17, 31, (31, 17), (5, 31)]),
    st.sampled_from([1.0, 2.0, 3.0]),
    st.sampled_from([(512, 512, 128), (512, 200, 256), (400, 400, 160)]),
)
def test_hpss(component, margin, kernel, mask_power, sizes):
    """The separations are equal bit for bit on equal spectra (tests/dsp); here the spectra differ by their rounding."""
    n_fft, win_length, hop = sizes
    framing = {"n_fft": n_fft, "win_length": win_length, "hop_length": hop, "scale": "magnitude"}
    spec = HpssSpec(component=component, margin=margin, kernel=kernel, mask_power=mask_power, **framing)
    ours, theirs = (run_signal(spec.replace(engine=engine), SIGNAL[:20000]) for engine in ("native", "librosa"))
    magnitude = run_signal(StftSpec(**framing), SIGNAL[:20000])
    assert ours.shape == theirs.shape == magnitude.shape
    assert np.abs(ours - theirs).max() <= 2e-5 * magnitude.max()


@pytest.mark.slow
@pytest.mark.parametrize("component", ["harmonic", "percussive", "residual"])
@pytest.mark.parametrize("fields", ["n_fft=512,hop_length=256,kernel=17", "n_fft=16,hop_length=40,kernel=101+81"])
@pytest.mark.parametrize("n", [1, 256, 300, 511])
def test_hpss_of_a_track_much_shorter_than_its_kernel(component, fields, n):
    """scipy's median is given an axis that is long enough; past eight axes it reads what does not belong to it."""
    for margin in (1, 2):
        name = f"hpss(component={component},scale=magnitude,margin={margin},{fields}{{}})"
        ours, theirs = run_signal(name.format(""), SIGNAL[:n]), run_signal(name.format(",engine=librosa"), SIGNAL[:n])
        assert ours.shape == theirs.shape and np.isfinite(theirs).all()
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(SIGNAL[:n]).max() * 16


@pytest.mark.parametrize("mask_power", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("engine", ["native", "librosa"])
def test_hpss_with_two_kernels_and_two_margins(engine, mask_power):
    """``kernel=31+17, margin=1+5`` is librosa's ``kernel_size=(31, 17), margin=(1.0, 5.0)``."""
    import librosa

    magnitude = run_signal(StftSpec(hop_length=128, scale="magnitude"), SIGNAL[:20000])
    theirs = librosa.decompose.hpss(magnitude, kernel_size=(31, 17), power=mask_power, margin=(1.0, 5.0))
    other_way = librosa.decompose.hpss(magnitude, kernel_size=(17, 31), power=mask_power, margin=(5.0, 1.0))
    fields = f"hop_length=128,scale=magnitude,engine={engine},mask_power={mask_power},kernel=31+17,margin=1+5"
    for component, expected, swapped in zip(("harmonic", "percussive"), theirs, other_way, strict=True):
        ours = run_signal(f"hpss(component={component},{fields})", SIGNAL[:20000])
        assert np.abs(ours - expected).max() <= 2e-5 * magnitude.max() < np.abs(ours - swapped).max()


@pytest.mark.parametrize("component", ["harmonic", "percussive", "residual"])
@pytest.mark.parametrize("margin", [1.0, 2.5])
def test_binary_masks(component, margin):
    """Driedger's masks are yes or no: where the two medians are nearly in the ratio of the margin, rounding decides."""
    spec = HpssSpec(hop_length=128, component=component, margin=margin, mask_power="inf", scale="magnitude")
    ours, theirs = (run_signal(spec.replace(engine=engine), SIGNAL[:20000]) for engine in ("native", "librosa"))
    magnitude = run_signal(StftSpec(hop_length=128, scale="magnitude"), SIGNAL[:20000])
    same = np.abs(ours - theirs) <= 2e-5 * magnitude.max()
    assert same.mean() >= 0.999
    kept = ours > 2e-5 * magnitude.max()
    assert np.allclose(ours[kept], magnitude[kept], atol=2e-5 * magnitude.max())


@pytest.mark.parametrize("component", ["harmonic", "percussive", "residual"])
@pytest.mark.parametrize(
    ("scale", "tolerance"), [("power", 1e-5), ("magnitude", 1e-4), ("log10_1p", 1e-3), ("db", 0.1)]
)
def test_hpss_through_a_bank_on_every_scale(component, scale, tolerance):
    """Differences on the scale itself (power: in proportion to the loudest value), down to 60 dB below the top."""
    spec = HpssSpec(hop_length=128, component=component, margin=2, n_mels=40, scale=scale)
    ours, theirs = (run_signal(spec.replace(engine=engine), SIGNAL[:20000]) for engine in ("native", "librosa"))
    plain = run_signal(spec.replace(scale="power"), SIGNAL[:20000])
    heard = plain > 1e-6 * plain.max()
    difference = np.abs(ours - theirs)[heard]
    assert difference.max() <= tolerance * (plain.max() if scale == "power" else 1)
    assert ours.shape == (40, plain.shape[1]) and heard.any()


def test_decibels_differ_from_power_to_db_on_purpose():
    """librosa's decibels are cut 80 dB below the loudest value of the clip: a number that depends on the whole clip.

    Ours are 10 log10(max(x, 1e-10)), so that they can be computed in blocks and compared between clips.
    """
    import librosa

    power = run_signal(MelSpec(), SIGNAL)
    ours = run_signal(MelSpec(scale="db"), SIGNAL)
    assert np.abs(ours - librosa.power_to_db(power, amin=1e-10, top_db=None)).max() <= 2e-5
    quiet = np.concatenate([SIGNAL * 40, np.zeros(16000, np.float32)])
    cut = librosa.power_to_db(run_signal(MelSpec(), quiet), amin=1e-10)
    assert run_signal(MelSpec(scale="db"), quiet).min() == pytest.approx(-100.0) and cut.min() > -99
