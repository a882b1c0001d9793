# SPDX-License-Identifier: Apache-2.0
"""Tokens as the text that they stand for."""

import numpy as np
import pytest

import attngraph as ag


def test_byte_level_tokens():
    tokens = ["The", "Ġcaf", "Ã©", "ĊĊ", "ĠðŁ", "Ļ", "Ĥ", "<|endoftext|>", "</s>"]
    texts = ag.token_texts(tokens)
    assert texts[:4] == ["The", " caf", "é", "\n\n"] and texts[-2:] == tokens[-2:]
    assert b"".join(t if isinstance(t, bytes) else t.encode() for t in texts[4:7]).decode() == " 🙂"
    graph = ag.from_matrix(np.eye(len(tokens)), tokens=texts)
    assert graph.tokens[1] == " caf"


def test_pieces_of_sentencepiece():
    assert ag.token_texts(["<s>", "▁the", "cat", "<0xE2>", "<0x0A>", "▁"]) == ["<s>", " the", "cat", b"\xe2", "\n", " "]


def test_other_tokens_stay_as_they_are():
    for tokens in (["play", "##ing", "[CLS]"], ["Ġis", "日本"], ["é", "Ġ"][:1], [b"\xff"], []):
        assert ag.token_texts(tokens) == tokens


def test_a_tokenizer_says_how_its_tokens_are_written():
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    level = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"a": 0, "Ġ": 1, "Ġa": 2, "<x>": 3}, merges=[("Ġ", "a")]))
    level.decoder = tokenizers.decoders.ByteLevel()
    level.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=level, additional_special_tokens=["<x>"])
    assert ag.token_texts(np.array([0, 2, 3, 0]), tokenizer) == ["a", " a", "<x>", "a"]
    for text, expected in (("a a", ["a", " a"]), (["a a", " a a"], [["a", " a"], [" a", " a"]])):
        graph = ag.from_matrix(np.full((len(np.atleast_1d(text)), 1, 2, 2), 0.5), layout="bhqk", tokens=tokenizer(text))
        assert graph.labels("keys") == expected
    words = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab={"Ġa": 0, "##b": 1}, unk_token="Ġa"))
    words.decoder = tokenizers.decoders.WordPiece()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words)
    assert ag.token_texts([0, 1], tokenizer) == ["Ġa", "##b"]


def test_ids_need_the_tokenizer():
    with pytest.raises(ag.errors.ArgumentError, match="need the tokenizer"):
        ag.token_texts([1, 2])
    with pytest.raises(ag.errors.ArgumentError, match="no convert_ids_to_tokens"):
        ag.token_texts([1, 2], object())
