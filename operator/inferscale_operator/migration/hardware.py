"""How nodes show common accelerators: the extended resource that pods ask for, and the label of the product.

The labels are those of NVIDIA's GPU feature discovery, AMD's GPU operator and GKE; Gaudi's device plugin sets
none. All of it is a guess to be checked against the nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from inferscale_queueing.frozen import frozen

NVIDIA, AMD, GAUDI, TPU = "nvidia.com/gpu", "amd.com/gpu", "habana.ai/gaudi", "google.com/tpu"

PRODUCT_LABELS = (
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "cloud.google.com/gke-tpu-accelerator",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "gpu.nvidia.com/class",
)
"""Labels of nodes that tell which accelerator they have, the most telling first."""


@frozen
class Placing:
    """Where pods find an accelerator."""

    resource_name: str
    node_selector: Mapping[str, str]


@frozen
class Known:
    """A common accelerator."""

    pattern: str
    """Of its name in small letters, without anything but letters and digits."""
    type: str
    placing: Placing


def _nvidia(pattern: str, kind: str, product: str) -> Known:
    return Known(pattern, kind, Placing(NVIDIA, {"nvidia.com/gpu.product": product}))


def _tpu(pattern: str, kind: str, accelerator: str) -> Known:
    return Known(pattern, kind, Placing(TPU, {"cloud.google.com/gke-tpu-accelerator": accelerator}))


KNOWN = (
    _nvidia("h100", "H100", "NVIDIA-H100-80GB-HBM3"),
    _nvidia("h200", "H200", "NVIDIA-H200"),
    _nvidia("b200", "B200", "NVIDIA-B200"),
    _nvidia("a100.*40g", "A100-40GB", "NVIDIA-A100-SXM4-40GB"),
    _nvidia("a100.*pcie", "A100-PCIe", "NVIDIA-A100-80GB-PCIe"),
    _nvidia("a100", "A100", "NVIDIA-A100-SXM4-80GB"),
    _nvidia("a10g?(?![0-9])", "A10G", "NVIDIA-A10G"),
    _nvidia("l40s", "L40S", "NVIDIA-L40S"),
    _nvidia("l4(?![0-9])", "L4", "NVIDIA-L4"),
    _nvidia("t4(?![0-9])", "T4", "Tesla-T4"),
    Known("mi300x", "MI300X", Placing(AMD, {"amd.com/gpu.product-name": "Instinct_MI300X"})),
    Known("mi325x", "MI325X", Placing(AMD, {"amd.com/gpu.product-name": "Instinct_MI325X"})),
    Known("gaudi3", "Gaudi3", Placing(GAUDI, {"example.com/accelerator": "gaudi3"})),
    Known("gaudi2?", "Gaudi2", Placing(GAUDI, {"example.com/accelerator": "gaudi2"})),
    _tpu("tpuv6e?|trillium", "TPU-v6e", "tpu-v6e-slice"),
    _tpu("tpuv5p", "TPU-v5p", "tpu-v5p-slice"),
    _tpu("tpu(v5e?)?(?!v)", "TPU-v5e", "tpu-v5-lite-podslice"),
)


def known(name: str) -> Known | None:
    """The common accelerator that a name speaks of; None: none that is known."""
    folded = re.sub(r"[^a-z0-9]", "", name.lower())
    return next((each for each in KNOWN if re.search(rf"(?<![a-z]){each.pattern}", _bare(folded))), None)


def products(labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The labels of a node or a node selector that tell its accelerator, the most telling first."""
    for label in PRODUCT_LABELS:
        if labels.get(label):
            yield label, labels[label]


def _bare(folded: str) -> str:
    """Without the maker's name and a number of units in front: `2xnvidiah100` is an `h100`."""
    return re.sub(r"^(\d+x)?(nvidia|amd|instinct|intel|google|cloud|tesla)*", "", folded)
