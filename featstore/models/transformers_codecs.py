"""EnCodec, DAC and Mimi through transformers, from a local folder: rate, hop, codebooks and vocabulary are its own.

DAC is a chain of convolutions and is cut into exact windows, as Jukebox is; EnCodec at 48 kHz takes each second by
itself. EnCodec at 24 kHz and Mimi remember everything before a token: they are given a signal whole.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from featstore.arrays import AnyArray, FloatArray
from featstore.errors import CheckpointError, ConfigError
from featstore.models.conv_field import conv_field
from featstore.models.jukebox_tokenizer import exact_arithmetic
from featstore.models.tensor_files import digest_of_tensors, find_files, sha256_of
from featstore.models.token_windows import Cutter, Window, WindowValues, full_passes
from featstore.models.tokenizers import Tokenizer, TokenizerInfo, check_finite, check_tokens
from featstore.models.transformers_folder import import_transformers, open_folder
from featstore.models.window_cutters import ChunkCutter, FieldCutter, WholeCutter

__all__ = ["TransformersTokenizer", "open_codec"]

_WINDOW_SAMPLES = 1 << 17  # of DAC, kept of a window: the overlap costs 6 %
_PASS_SAMPLES = 1 << 20  # of DAC, of all windows of one pass: it has 64 channels at the full rate


class TransformersTokenizer(Tokenizer):
    """A codec of transformers behind the interface of all tokenizers.

    Parameters
    ----------
    codec : str
    model : torch.nn.Module
    n_codebooks : int
        Codebooks to keep, from the first on.
    provenance : dict
    device : torch.device
    """

    def __init__(
        self, codec: str, model: Any, *, n_codebooks: int, provenance: dict[str, Any], device: torch.device | str
    ) -> None:
        self.model, self.device = model.to(device).eval().requires_grad_(False), torch.device(device)
        self._codec, config = codec, model.config
        self._channels = int(getattr(config, "audio_channels", 1) or 1)
        self._chunk = int(config.chunk_length or 0) if codec == "encodec" else 0  # 0: takes a signal in one piece
        self._stride = int(config.chunk_stride) if self._chunk else 0
        tables = self.tables()
        hop = _hop(codec, config)
        field = conv_field(model.encoder) if codec == "dac" else None
        self._field = field if field is not None and field.hop == hop else None
        self.batch = max(1, _PASS_SAMPLES // (_WINDOW_SAMPLES + self._field.length)) if self._field else 1
        self.pass_size = 1 if self.device.type == "cpu" else self.batch  # see JukeboxTokenizer
        self.info = TokenizerInfo(
            codec=codec,
            digest=digest_of_tensors(_deciding(model)),
            sample_rate=int(config.sampling_rate),
            hop=hop,
            channels=self._channels,
            n_codebooks=n_codebooks,
            vocabulary=int(config.codebook_size),
            code_width=int(tables[0].shape[1]),
            provenance=provenance,
        )

    def tables(self) -> list[torch.Tensor]:
        """Code vectors of every codebook."""
        if self._codec == "dac":
            return [quantizer.codebook.weight for quantizer in self.model.quantizer.quantizers]
        if self._codec == "encodec":
            return [layer.codebook.embed for layer in self.model.quantizer.layers]
        quantizer = self.model.quantizer
        stages = [quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer]
        return [layer.codebook.embed for stage in stages for layer in stage.layers]

    def n_tokens(self, n_samples: int) -> int:
        """Tokens of a signal; a signal shorter than a hop has none."""
        if n_samples < self.info.hop:
            return 0
        if self._chunk:
            chunks = 1 + max(0, -(-(n_samples - (self._chunk - self._stride)) // self._stride) - 1)
            return chunks * -(-self._chunk // self.info.hop)
        return -(-n_samples // self.info.hop)

    def cutter(self) -> Cutter:
        """Start to cut a signal: DAC's windows, the seconds of EnCodec at 48 kHz, or the signal as one window."""
        hop = self.info.hop
        if self._chunk:
            return ChunkCutter(chunk=self._chunk, stride=self._stride, frames=-(-self._chunk // hop), shortest=hop)
        if self._field is None:
            return WholeCutter(self.n_tokens)
        # filled up, for the model would drop what is no whole token
        return FieldCutter(self._field, window=max(1, _WINDOW_SAMPLES // hop), fill=True)

    def encode_windows(self, windows: Sequence[Window]) -> list[WindowValues]:
        """Tokens of windows of one length; a recurrent or attending model takes them one after the other."""
        block = np.stack([window.samples for window in windows])
        check_finite(block, self._codec)
        if self._field is not None:
            codes = self._dac_codes(block)
        else:
            codes = [self._codes(torch.from_numpy(samples).to(self.device)) for samples in block]
        return [
            WindowValues(found[: self.info.n_codebooks, window.drop : window.drop + window.keep])
            for window, found in zip(windows, codes, strict=True)
        ]

    def _dac_codes(self, block: FloatArray) -> list[AnyArray]:
        """Convolutions of a batch (batch, n) together, codes of each item by itself: sums then have one order."""
        found = []
        with torch.inference_mode(), exact_arithmetic():
            for rows, count in full_passes(block, self.pass_size):
                latents = self.model.encoder(torch.from_numpy(rows).to(self.device)[:, None])[:count]
                found += [self.model.quantizer(item[None], self.info.n_codebooks)[1][0] for item in latents]
        return [codes.to(torch.int32).cpu().numpy() for codes in found]

    def _codes(self, samples: torch.Tensor) -> AnyArray:
        """Codes int32 (codebooks, T) of a whole signal, or of one chunk."""
        wave = samples[None, None].repeat(1, self._channels, 1)
        with torch.inference_mode(), exact_arithmetic():
            if self._codec == "mimi":
                codes = self.model.encode(wave, num_quantizers=self.info.n_codebooks).audio_codes[0]
            elif self._codec == "dac":
                padded = torch.nn.functional.pad(wave, (0, -len(samples) % self.info.hop))
                codes = self.model.encode(padded, n_quantizers=self.info.n_codebooks).audio_codes[0]
            else:
                codes = self.model.encode(wave, bandwidth=self._bandwidth).audio_codes[0, 0]
        found: AnyArray = codes.to(torch.int32).cpu().numpy()
        return found

    @property
    def _bandwidth(self) -> float:
        """Smallest bandwidth of the model with the codebooks that are kept."""
        config = self.model.config
        enough = [one for one in config.target_bandwidths if _books_at(config, one) >= self.info.n_codebooks]
        return float(min(enough, default=max(config.target_bandwidths)))

    def decode(self, tokens: AnyArray) -> FloatArray:
        """Signal float32 (channels, n); loudness that a 48 kHz EnCodec took out of each chunk is not put back."""
        codes = torch.from_numpy(check_tokens(tokens, self.info, self._codec).astype(np.int64)).to(self.device)[None]
        with torch.inference_mode(), exact_arithmetic():
            if self._codec == "encodec":  # the model cross-fades its chunks, which overlap by a hundredth
                chunks = torch.split(codes, -(-self._chunk // self.info.hop) or codes.shape[-1], dim=-1)
                wave = self.model.decode(chunks, [None] * len(chunks)).audio_values
            else:
                wave = self.model.decode(audio_codes=codes).audio_values
        found: FloatArray = wave.float().cpu().numpy()
        return found[0] if found.ndim == 3 else found


def _hop(codec: str, config: Any) -> int:
    if codec == "dac":
        return int(np.prod(config.downsampling_ratios))
    if codec == "encodec":
        return int(np.prod(config.upsampling_ratios))
    return round(float(config.sampling_rate) / float(config.frame_rate))


def _books_at(config: Any, bandwidth: float) -> int:
    """Codebooks of EnCodec at a bandwidth in kbit/s."""
    bits = int(np.log2(config.codebook_size))
    return max(1, int(1000 * bandwidth // (config.frame_rate * bits)))


def _deciding(model: Any) -> dict[str, torch.Tensor]:
    """Tensors that tokens depend on: all but the decoder's, and but running sums of a training."""
    skipped = ("decoder.", "decoder_transformer.", "upsample.")
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point()
        and not name.startswith(skipped)
        and not name.endswith(("embed_avg", "cluster_size"))
    }


def open_codec(codec: str, path: str, *, device: torch.device | str = "cpu", **settings: Any) -> TransformersTokenizer:
    """Open a folder of a codec as transformers writes it.

    ``n_quantizers`` says how many codebooks are kept; of EnCodec, ``bandwidth`` (kbit/s) may say it instead.

    Raises
    ------
    ConfigError
        For a setting that is not the codec's.
    CheckpointError
        The folder is of another model, or lacks weights.
    """
    class_name = f"{codec.capitalize()}Model"
    folder = open_folder(codec, path, (codec,))
    files, _ = find_files(folder.path)
    library = import_transformers(f"codec={codec}")
    with _quiet():
        try:
            model, report = getattr(library, class_name).from_pretrained(
                folder.path, local_files_only=True, output_loading_info=True, weights_only=True
            )
        except Exception as error:  # transformers raises whatever its parts do
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"this is no {codec} checkpoint: {first}", path, "Give a folder of it") from error
    lacking = sorted(report["missing_keys"]) + [str(key) for key in report.get("mismatched_keys", ())]
    if lacking:
        raise CheckpointError(
            f"{lacking[0]} is missing or of another shape, and {len(lacking) - 1} more", path, "Fetch the weights again"
        )
    books = _books(codec, model.config, path, **settings)
    provenance = {"file": path, "format": f"transformers {class_name}", "sha256": sha256_of(*files)}
    return TransformersTokenizer(codec, model, n_codebooks=books, provenance=provenance, device=device)


def _books(
    codec: str,
    config: Any,
    path: str,
    *,
    n_quantizers: int | None = None,
    bandwidth: float | None = None,
    **others: Any,
) -> int:
    """Codebooks that the settings ask for: all of them by default, EnCodec's by its lowest bandwidth."""
    unknown = [name for name, value in others.items() if value is not None and name != "with_decoder"]
    if unknown or (bandwidth is not None and codec != "encodec"):
        raise ConfigError(
            f"{', '.join(unknown) or 'bandwidth'} is no setting of {codec}", "tokenizer", "It has n_quantizers"
        )
    if codec == "encodec":
        allowed = config.target_bandwidths
        least, most = _books_at(config, min(allowed)), _books_at(config, max(allowed))
    else:
        least = most = int(config.n_codebooks if codec == "dac" else config.num_quantizers)
    if bandwidth is not None:
        if not any(abs(bandwidth - one) < 1e-6 for one in allowed):
            listed = ", ".join(f"{one:g}" for one in allowed)
            raise ConfigError(f"bandwidth={bandwidth:g} kbit/s is not the model's", path, f"It has {listed}")
        return _books_at(config, bandwidth)
    if n_quantizers is not None and not 1 <= n_quantizers <= most:
        raise ConfigError(f"n_quantizers={n_quantizers} is out of range", path, f"The model has 1 to {most} codebooks")
    return least if n_quantizers is None else int(n_quantizers)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' own progress and advice off the terminal."""
    from transformers.utils import logging

    theirs: Any = logging
    level = theirs.get_verbosity()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        theirs.set_verbosity(level)
        theirs.enable_progress_bar()
