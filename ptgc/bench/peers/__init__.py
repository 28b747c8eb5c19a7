"""Peers: other engines on the same checkpoint, at the precision of the build if they have it."""

from __future__ import annotations

from ptgc.bench.peers.base import Peer
from ptgc.bench.peers.ctranslate2_peer import Ctranslate2Peer
from ptgc.bench.peers.genai_peer import GenaiPeer
from ptgc.bench.peers.llama_cpp_peer import LlamaCppPeer
from ptgc.bench.peers.openvino_peer import OpenVinoPeer
from ptgc.bench.peers.transformers_peer import TransformersPeer

_ALL = (TransformersPeer(), GenaiPeer(), OpenVinoPeer(), LlamaCppPeer(), Ctranslate2Peer())
PEERS: dict[str, Peer] = {peer.name: peer for peer in _ALL}
"""All peers, by their names for `--against`."""
