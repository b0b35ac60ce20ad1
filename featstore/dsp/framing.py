"""Where analysis frames lie, and how many there are."""

from __future__ import annotations

from featstore.errors import SpecError, did_you_mean

__all__ = ["FRAMINGS", "first_sample", "n_frames", "needed_samples"]

FRAMINGS = ("librosa", "essentia", "valid", "token")


def first_sample(*, n_fft: int, hop_length: int, framing: str = "librosa") -> int:
    """Position of the first sample of frame 0; frame t starts ``t * hop_length`` later.

    Returns
    -------
    int
        Samples relative to the signal's first one: negative where the frame reaches into the padding.

    See Also
    --------
    n_frames : How many frames there are.
    needed_samples : How many samples they take.
    librosa.stft : ``framing=librosa`` is its ``center=True``.

    Examples
    --------
    >>> first_sample(n_fft=512, hop_length=256), first_sample(n_fft=512, hop_length=128, framing="token")
    (-256, -192)
    """
    if framing == "valid":
        return 0
    if framing == "token":  # centred on the middle of the token's hop, not on its first sample
        return hop_length // 2 - n_fft // 2
    return -(n_fft // 2)


def n_frames(n_samples: int, *, n_fft: int, hop_length: int, framing: str = "librosa") -> int:
    """Number of analysis frames that ``n_samples`` samples yield.

    Parameters
    ----------
    n_samples : int >= 0
        Signal length, in samples at the analysis rate.
    n_fft, hop_length : int > 0
        Transform length and step, in samples.
    framing : str
        ``librosa``: centred, frame t on sample ``t * hop_length``, counted as ``librosa.stft(center=True)`` does.
        ``essentia``: the same positions, one for every frame that begins before the signal ends,
        ``ceil((n + n_fft // 2) / hop)``. That is the count of essentia's FrameGenerator for steps of half a frame and
        more; below that, essentia leaves out up to ``n_fft / (2 * hop)`` last frames, whose centre lies outside the
        signal, and we keep them, so that every k-th frame is the count at k times the hop.
        ``valid``: only frames that lie wholly inside the signal. ``token``: one for every full hop.

    Returns
    -------
    int >= 0
        Length of the last axis of every array made with these settings.

    Raises
    ------
    SpecError
        For an unknown framing.

    See Also
    --------
    first_sample : Where frame 0 begins.
    needed_samples : The inverse: samples that give a number of frames.

    Examples
    --------
    >>> n_frames(30 * 22050, n_fft=2048, hop_length=512)
    1292
    >>> n_frames(349200, n_fft=512, hop_length=256, framing="essentia")
    1366
    """
    if framing == "librosa":
        return max(0, 1 + (n_samples + 2 * (n_fft // 2) - n_fft) // hop_length)
    if framing == "essentia":
        return -(-(n_samples + n_fft // 2) // hop_length)
    if framing == "valid":
        return max(0, 1 + (n_samples - n_fft) // hop_length)
    if framing == "token":
        return n_samples // hop_length
    raise SpecError(f"unknown framing {framing!r}", "", did_you_mean(framing, FRAMINGS))


def needed_samples(frames: int, *, n_fft: int, hop_length: int, framing: str = "librosa") -> int:
    """Samples from the signal's start up to the end of frame ``frames - 1``: what must be there, or padded.

    See Also
    --------
    n_frames : Frames of a number of samples.

    Examples
    --------
    >>> needed_samples(1366, n_fft=512, hop_length=256, framing="essentia") - 349200
    496
    """
    if frames <= 0:
        return 0
    return first_sample(n_fft=n_fft, hop_length=hop_length, framing=framing) + (frames - 1) * hop_length + n_fft
