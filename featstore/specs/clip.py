"""Which part of a track a feature sees."""

from __future__ import annotations

from dataclasses import dataclass

from featstore.errors import SpecError, check_known
from featstore.specs.grammar import format_number, parse_call, parse_seconds

__all__ = ["Clip"]

# policy -> names of its durations, in order
_POLICIES: dict[str, tuple[str, ...]] = {
    "whole": (),
    "centre": ("length_s",),
    "start": ("length_s",),
    "offset": ("offset_s", "length_s"),
    "every": ("length_s", "step_s"),
}
_PADS = ("none", "zeros", "repeat")


@dataclass(frozen=True, slots=True)
class Clip:
    """A cut of the resampled signal: the whole track, one excerpt, or regular overlapping excerpts.

    ``centre(29.1 s)``, ``start(30 s)``, ``offset(10 s, 29.1 s)`` (from second 10), ``every(3 s, 0.5 s)`` (3 s long, a
    new one each 0.5 s). ``pad`` says what becomes of a track that is too short: ``none`` refuses it, ``zeros`` and
    ``repeat`` fill it up.

    See Also
    --------
    featstore.audio.clip_bounds : Where it begins and ends in a signal.
    """

    policy: str = "whole"
    length_s: float = 0.0
    offset_s: float = 0.0
    step_s: float = 0.0
    pad: str = "none"

    @classmethod
    def parse(cls, text: str | Clip) -> Clip:
        """Read a clip policy; ``center`` is taken for ``centre``."""
        if isinstance(text, Clip):
            return text
        call = parse_call(str(text))
        policy = {"center": "centre"}.get(call.name, call.name)
        check_known(policy, _POLICIES, f"unknown clip policy {call.name!r}", error=SpecError)
        names = _POLICIES[policy]
        given = dict(zip(names, call.args, strict=False)) | call.kwargs
        pad = given.pop("pad", "none")
        if set(given) != set(names) or len(call.args) > len(names):
            wanted = ", ".join(name.removesuffix("_s") for name in names) or "nothing"
            raise SpecError(f"clip policy {text!r} does not fit", "", f"{policy} takes: {wanted} (in seconds)")
        check_known(pad, _PADS, f"pad={pad} of clip {policy} is unknown", error=SpecError)
        values = {name: parse_seconds(given[name], name.removesuffix("_s")) for name in names}
        for name, value in values.items():
            if value < 0 or (value == 0 and name != "offset_s"):
                raise SpecError(
                    f"{name.removesuffix('_s')}={format_number(value)} s of clip {policy} is too small",
                    "",
                    "Raise it above 0",
                )
        return cls(policy, pad="none" if policy == "whole" else pad, **values)

    @property
    def is_fixed(self) -> bool:
        """Whether every track yields the same number of samples."""
        return self.policy in ("centre", "start", "offset")

    def excerpt_samples(self, sample_rate: int) -> int:
        """Samples of one excerpt: ``round(length * rate)``; 0 for whole tracks."""
        return round(self.length_s * sample_rate)

    def samples_left(self, sample_rate: int, n_samples: int) -> int:
        """Samples that the policy leaves of a track of ``n_samples`` (of each excerpt, for ``every``).

        Returns
        -------
        int >= 0
            0 where the track is too short and the policy does not fill it up.
        """
        if self.policy == "whole":
            return n_samples
        length = self.excerpt_samples(sample_rate)
        begin = round(self.offset_s * sample_rate)
        fits = n_samples - begin >= length or (self.pad != "none" and n_samples > begin)
        return length if fits else 0

    def n_excerpts(self, sample_rate: int, n_samples: int) -> int:
        """Excerpts that ``every(length, step)`` takes: as many as fit, one where a short track is filled up.

        Examples
        --------
        >>> Clip.parse("every(3 s, 0.5 s)").n_excerpts(16000, 480000)
        55
        """
        length, step = self.excerpt_samples(sample_rate), round(self.step_s * sample_rate)
        if n_samples < length:
            return int(self.pad != "none" and n_samples > 0)
        return (n_samples - length) // step + 1

    def __str__(self) -> str:
        parts = [f"{format_number(getattr(self, name))} s" for name in _POLICIES[self.policy]]
        if self.pad != "none":
            parts.append(f"pad={self.pad}")
        return f"{self.policy}({','.join(parts)})" if parts else self.policy
