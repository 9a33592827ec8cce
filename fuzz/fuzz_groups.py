"""The fuzzers: each drives the decoders of one protocol, and the first byte of an input says which. Knows no engine."""

from random import Random

from fuzz_target import Target

GROUPS: dict[str, tuple[str, ...]] = {
    "handshake": ("noise_handshake", "noise_payload", "noise_frames", "protocol_names", "protocol_answer"),
    "muxer": ("yamux", "frames"),
    "pubsub": ("gossip", "transaction_message"),
    "greeting": ("hello", "peer_exchange", "address", "request_answer"),
    "contents": ("blob_request", "blob_answer", "chunk_list", "content_id", "bitswap"),
    "discovery": ("mdns", "dht_provider", "dht_request"),
    "consensus": ("consensus_message", "certificate", "attendance"),
    "blocks": ("rlp", "transaction", "system_transaction", "block", "header"),
    "catching_up": ("sync_request", "sync_answer", "snapshot", "snapshot_request", "snapshot_answer"),
    "documents": (
        "codec", "bounded_json", "canonical_json", "genesis", "upgrade_schedule", "restart", "task_document",
    ),
    "adapters": ("manifest", "delta", "global_adapter"),
    "overlay": ("relay_answer", "relay_stop", "relay_hop", "dht_answer"),
    "local_server": ("http", "websocket", "json_rpc"),
    "proofs": ("base_weights", "draw_proof"),
    "exports": ("provenance", "proof_of_an_adapter", "exported_files"),
}  # fmt: skip
_OTHER_DECODER = 1 / 32  # of the mutations: mostly what is refused at the first byte


def make_group(name: str, members: list[Target]) -> Target:
    """Every member decides for itself what is a finding."""

    def run(data: bytes) -> None:
        if data:
            members[data[0] % len(members)].check(data[1:])

    def seeds() -> list[bytes]:
        return [bytes([number]) + seed for number, member in enumerate(members) for seed in member.seeds()]

    def mutate(data: bytes, random: Random) -> bytes:
        number = data[0] % len(members) if data and random.random() > _OTHER_DECODER else random.randrange(len(members))
        return bytes([number]) + members[number].mutate(data[1:], random)

    return Target(name, run, seeds, mutate, allowed=(), max_bytes=1 + max(member.max_bytes for member in members))
