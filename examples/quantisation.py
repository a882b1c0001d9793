# SPDX-License-Identifier: Apache-2.0
"""What quantising a model's weights does to its attention: which heads move, and where to.

    pip install attngraph[transformers] gguf
    python quantisation.py HuggingFaceTB/SmolLM2-135M --to Q4_0 Q8_0
    python quantisation.py models --gguf SmolLM2-135M-Instruct.f16.gguf --text book.txt --tokens 512

    pip install attngraph llama-cpp-python
    python quantisation.py SmolLM2-135M-Instruct.f16.gguf --against SmolLM2-135M-Instruct.Q4_0.gguf

The first two round the weights of every linear layer as llama.cpp's files of that type hold them (by gguf's own
quantiser). The last one lets llama.cpp read two files that somebody has, so its rounding of what goes through the layers
counts too. The text is the same, and the attention of each head is set beside that of the model as it was. The graphs
keep every weight of at least 1e-6, so the two bounds of the variation, the share of a query's attention that is
elsewhere, are apart by a thousandth at most over a thousand tokens; the greater one is printed.
"""

import argparse
from pathlib import Path

import attngraph as ag

LEAST = 1e-6
TEXT = (
    "In the beginning God created the heaven and the earth. And the earth was without form, and void; and darkness was "
    "upon the face of the deep. And the Spirit of God moved upon the face of the waters. And God said, Let there be "
    "light: and there was light. And God saw the light, that it was good: and God divided the light from the darkness. "
    "And God called the light Day, and the darkness he called Night. And the evening and the morning were the first day."
)


def rounded(weight, kind):
    """A weight as a file of this type holds it."""
    import gguf
    import torch

    values = weight.detach().float().numpy()
    return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)).to(weight.dtype)


def attention(model, ids, tokens):
    import torch

    with torch.no_grad(), ag.transformers.capture(model, threshold=LEAST, tokens=tokens) as captured:
        model(ids)
    return captured.graph


def compare(model, tokenizer, text, kinds, tokens):
    """{name of a type: (graph of the model as it was, graph under that type)}"""
    import gguf
    import torch

    ids = tokenizer(text, return_tensors="pt").input_ids[:, :tokens]
    words = ag.token_texts(tokenizer.convert_ids_to_tokens(ids[0]))
    linear = [module for module in model.model.modules() if isinstance(module, torch.nn.Linear)]
    before = [module.weight.detach().clone() for module in linear]
    whole = attention(model, ids, words)
    found = {}
    for name in kinds:
        kind = gguf.GGMLQuantizationType[name]
        for module, weight in zip(linear, before):
            module.weight.data = rounded(weight, kind)
        found[name] = whole, attention(model, ids, words)
    for module, weight in zip(linear, before):
        module.weight.data = weight
    return found


def compare_files(file, others, text, tokens):
    """{file: (graph of the first file, graph of that one)}, as llama.cpp reads the text."""
    from llama_cpp import Llama

    ids = Llama(file, vocab_only=True, verbose=False).tokenize(text.encode())[:tokens]
    whole = ag.llama_cpp.capture(file, ids, LEAST)
    return {Path(other).name: (whole, ag.llama_cpp.capture(other, ids, LEAST)) for other in others}


def tell(name, whole, other):
    heads = whole.diff_heads(other).sort("variation_max")
    moved = heads["variation_max"]
    print(f"{name}: {moved.mean():.1%} of a query's attention is elsewhere, mean over {len(heads)} heads; by head:")
    print(heads.head(5))
    pair = whole.diff_pairs(other, 1)
    query, key = (whole.tokens[int(pair[side][0])] for side in ("query", "key"))
    print(f"the pair that moved most: {query!r} -> {key!r} of layer {pair['layer'][0]} head {pair['head'][0]}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a name or folder that transformers loads; with --gguf the folder of the file; with "
                        "--against a GGUF file")  # fmt: skip
    parser.add_argument("--gguf", help="a GGUF file in that folder; f16 or f32, so that nothing is lost yet")
    parser.add_argument("--against", nargs="+", help="GGUF files of the same model in other types")
    parser.add_argument("--to", nargs="+", default=["Q4_0", "Q8_0"], help="Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 (default: %(default)s)")
    parser.add_argument("--text", type=Path, help="a file to read (default: the first verses of Genesis)")
    parser.add_argument("--tokens", type=int, default=512, help="at most so many of it (default: %(default)s)")
    how = parser.parse_args()
    text = how.text.read_text(encoding="utf-8") if how.text else TEXT
    if how.against:
        found = compare_files(how.model, how.against, text, how.tokens)
    else:
        import torch
        import transformers

        more = {"gguf_file": how.gguf} if how.gguf else {}
        tokenizer = transformers.AutoTokenizer.from_pretrained(how.model, **more)
        model = transformers.AutoModelForCausalLM.from_pretrained(how.model, dtype=torch.float32, **more).eval()
        found = compare(model, tokenizer, text, how.to, how.tokens)
    for name, (whole, other) in found.items():
        tell(name, whole, other)


if __name__ == "__main__":
    main()
