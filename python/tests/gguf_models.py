# SPDX-License-Identifier: Apache-2.0
"""Tiny GGUF models with random weights, one per form of attention: written here, read by llama.cpp."""

import gguf
import numpy as np

VOCABULARY, SIZE, HIDDEN, LAYERS, HEADS, KEY_HEADS, HEAD = 97, 64, 96, 3, 4, 2, 32
BLOOM_HEADS = 6


def write(path, family, window=6, head=HEAD):
    """family: llama, gemma2 (window, softcap), gpt-oss (window, sinks), mpt (ALiBi), bloom (ALiBi of BLOOM_HEADS heads,
    which are no power of two), bert (sees both sides)."""
    if family in ("bert", "bloom"):
        return _write_with_biases(path, family)
    size = HEADS * head if family == "mpt" else SIZE  # which has no heads of another size
    rng = np.random.default_rng(5)
    writer = gguf.GGUFWriter(path, family)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(VOCABULARY)
    writer.add_context_length(512)
    writer.add_embedding_length(size)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(head)

    def add(name, *shape, spread=0.3, center=0.0):
        writer.add_tensor(name, (center + spread * rng.standard_normal(shape)).astype(np.float32))

    def norm(name):
        add(name, size, spread=0.05, center=1.0)

    add("token_embd.weight", VOCABULARY, size, spread=1.0)
    norm("output_norm.weight")
    add("output.weight", VOCABULARY, size) if family in ("llama", "gpt-oss") else None
    key_heads = HEADS if family == "mpt" else KEY_HEADS
    writer.add_head_count_kv(key_heads)
    if family == "mpt":
        writer.add_layer_norm_eps(1e-5)
        writer.add_max_alibi_bias(8.0)
    else:
        writer.add_key_length(head)
        writer.add_value_length(head)
    if family in ("gemma2", "gpt-oss"):
        writer.add_sliding_window(window)
    if family == "gemma2":
        writer.add_attn_logit_softcapping(3.0)
        writer.add_final_logit_softcapping(30.0)
    if family == "gpt-oss":
        writer.add_expert_count(2)
        writer.add_expert_used_count(1)
        writer.add_expert_feed_forward_length(HIDDEN)
    width, key_width = HEADS * head, key_heads * head
    for i in range(LAYERS):
        norm(f"blk.{i}.attn_norm.weight")
        if family == "mpt":
            add(f"blk.{i}.attn_qkv.weight", 3 * size, size)
        else:
            add(f"blk.{i}.attn_q.weight", width, size)
            add(f"blk.{i}.attn_k.weight", key_width, size)
            add(f"blk.{i}.attn_v.weight", key_width, size)
        add(f"blk.{i}.attn_output.weight", size, width)
        if family == "gpt-oss":
            norm(f"blk.{i}.post_attention_norm.weight")
            add(f"blk.{i}.attn_output.bias", size)
            add(f"blk.{i}.attn_sinks.weight", HEADS, spread=2.0)
            add(f"blk.{i}.ffn_gate_inp.weight", 2, size)
            add(f"blk.{i}.ffn_gate_inp.bias", 2)
            for part, rows, columns in (("gate", HIDDEN, size), ("up", HIDDEN, size), ("down", size, HIDDEN)):
                add(f"blk.{i}.ffn_{part}_exps.weight", 2, rows, columns)
                add(f"blk.{i}.ffn_{part}_exps.bias", 2, rows)
            continue
        norm(f"blk.{i}.ffn_norm.weight")
        if family == "gemma2":
            norm(f"blk.{i}.post_attention_norm.weight")
            norm(f"blk.{i}.post_ffw_norm.weight")
        if family != "mpt":
            add(f"blk.{i}.ffn_gate.weight", HIDDEN, size)
        add(f"blk.{i}.ffn_up.weight", HIDDEN, size)
        add(f"blk.{i}.ffn_down.weight", size, HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_with_biases(path, family):
    rng = np.random.default_rng(6)
    writer = gguf.GGUFWriter(path, family)
    bloom = family == "bloom"
    size, heads = (HEAD * BLOOM_HEADS, BLOOM_HEADS) if bloom else (SIZE, HEADS)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(VOCABULARY)
    writer.add_context_length(512)
    writer.add_embedding_length(size)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(heads)
    writer.add_layer_norm_eps(1e-5)

    def add(name, *shape, spread=0.3, center=0.0):
        writer.add_tensor(name, (center + spread * rng.standard_normal(shape)).astype(np.float32))

    def norm(name):
        add(f"{name}.weight", size, spread=0.05, center=1.0)
        add(f"{name}.bias", size, spread=0.05)

    def linear(name, rows, columns):
        add(f"{name}.weight", rows, columns)
        add(f"{name}.bias", rows)

    add("token_embd.weight", VOCABULARY, size, spread=1.0)
    norm("token_embd_norm")
    if bloom:
        norm("output_norm")
    else:
        writer.add_causal_attention(False)
        writer.add_token_type_count(2)
        add("token_types.weight", 2, size)
        add("position_embd.weight", 512, size, spread=1.0)
    for i in range(LAYERS):
        for part in ("attn_qkv",) if bloom else ("attn_q", "attn_k", "attn_v"):
            linear(f"blk.{i}.{part}", 3 * size if bloom else size, size)
        linear(f"blk.{i}.attn_output", size, size)
        linear(f"blk.{i}.ffn_up", HIDDEN, size)
        linear(f"blk.{i}.ffn_down", size, HIDDEN)
        for part in ("attn_norm", "ffn_norm") if bloom else ("attn_output_norm", "layer_output_norm"):
            norm(f"blk.{i}.{part}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
