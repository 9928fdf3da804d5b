"""Networks in ONNX Runtime give the embeddings that they give in PyTorch, for batches of any size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from asdpipe.errors import UserError
from asdpipe.models.base import FeatureExtractor
from asdpipe.models.build import build_extractor
from asdpipe.models.onnx_files import write_onnx
from asdpipe.monitor.bundle import Network
from tests.models.checkpoints import NETWORKS

SECONDS = 0.64
BRANCHES = {"kind": "multi_resolution", "width": 16, "f_min": 200.0, "dft_kernels": [32, 16], "dft_strides": [16, 8]}
SMALL = {
    "one_branch": BRANCHES | {"windows": []},
    "log_mel": {"kind": "log_mel"},
    "mfcc": {"kind": "mfcc"},
    "ced": NETWORKS["ced"],
    "three_branches": BRANCHES | {"windows": [512, 128]},
    "bands": NETWORKS["beats"] | {"pooling": "band_mean", "lora": {"rank": 2, "alpha": 4.0}},
    "audio_mae": NETWORKS["audio_mae"],
    "masked_audio_mae": {name: value for name, value in NETWORKS["audio_mae"].items() if name != "layer"}
    | {"kind": "masked_audio_mae", "decoder_layers": 1, "decoder_width": 32, "decoder_heads": 1},
}


FAST = ("one_branch", "log_mel")


def networks(file: Path, network: FeatureExtractor) -> Network:
    write_onnx(network, file)
    return Network(file)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.soak]) for name in SMALL]
)
def test_embeddings_are_those_of_pytorch(tmp_path, name):
    torch.manual_seed(0)
    samples = round(SECONDS * 16_000)
    extractor = build_extractor(SMALL[name], num_samples=samples).eval()
    written = networks(tmp_path / "x.onnx", extractor)
    assert written.takes_spectrum is extractor.takes_spectrum
    assert written.dim == np.prod(extractor.embedding_shape)
    # Without energy: what keeps a logarithm finite must be written, too.
    for x in (0.1 * torch.randn(1, samples), 0.1 * torch.randn(3, samples), torch.zeros(1, samples)):
        with torch.inference_mode():
            expected = extractor(x).flatten(1).numpy()
        found = written(x.numpy())
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_spectrum_of_a_clip_can_be_given():
    extractor = build_extractor(SMALL["one_branch"], num_samples=8000).eval()
    x = torch.randn(2, 8000)
    # A random input shows that nothing else of the waveform counts in this branch.
    torch.testing.assert_close(extractor(torch.randn(2, 8000), torch.fft.rfft(x).abs()), extractor(x))


def test_a_network_that_cannot_be_written_is_refused(tmp_path):
    class Odd(FeatureExtractor):
        num_samples = 1600
        embedding_shape = (1, 2)

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(1600, 2)

        def forward(self, x):
            return self.linear(x) if float(x.sum()) > 0 else x[:, :2]

    with pytest.raises(UserError, match="Odd cannot be written as ONNX"):
        write_onnx(Odd(), tmp_path / "x.onnx")


def test_a_file_that_is_no_extractor_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match=r"x\.onnx: ONNX Runtime .* cannot load it"):
        Network(tmp_path / "x.onnx")
