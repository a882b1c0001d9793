# SPDX-License-Identifier: Apache-2.0
"""Which rows belong to which sequence: two caches, beams, drafts, branches. The truth is what the model answers eagerly.

The models are those of test_transformers.
"""

import copy
import threading

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import attngraph as ag  # noqa: E402
from attngraph._captured import _best  # noqa: E402
from attngraph._live import Devices, on_host  # noqa: E402
from attngraph._streams import Pass, Print, Stream, print_of  # noqa: E402
from attngraph.transformers import capture  # noqa: E402
from test_transformers import FAMILIES, THRESHOLD, assert_same, build, family, ids, run, truth  # noqa: E402

SOME = [FAMILIES[0], FAMILIES[1], FAMILIES[4], FAMILIES[5]]  # full, absolute positions, windows, both


def generated(model, prompt, **how):
    how = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(prompt), **how}
    return model.generate(prompt, **how)


def cache_of(output):
    return getattr(output, "past_key_values", None) or output.cache


def go_on(model, tokens, cache):
    """A pass with a cache, by whichever name this release of transformers has for it."""
    return run(model, input_ids=tokens, use_cache=True, **({} if cache is None else {CACHE: cache}))


CACHE = "past_key_values"


def crop(cache, count):
    try:
        cache.crop(-count)
    except (ValueError, RuntimeError):  # releases that count what stays
        cache.crop(cache.get_seq_length() - count)


@pytest.mark.parametrize("name, changes", SOME)
def test_two_caches_in_turn_are_two_graphs(name, changes):
    model = family(name, changes)
    first, second, steps = ids(2, 9, seed=1), ids(2, 9, seed=2), ids(2, 4, seed=3)
    with capture(model, THRESHOLD) as cap:
        caches = [cache_of(go_on(model, prompt, None)) for prompt in (first, second)]
        for n in range(4):
            for cache in caches:
                go_on(model, steps[:, n : n + 1], cache)
    assert len(cap.graphs) == 2
    for graph, prompt in zip(cap.graphs, (first, second)):
        assert_same(graph, truth(model, input_ids=torch.cat([prompt, steps], 1)))


def test_equal_prompts_with_caches_of_their_own():
    model, prompt, steps = build("Llama"), ids(1, 9), ids(2, 5)
    with capture(model, THRESHOLD) as cap:
        caches = [cache_of(go_on(model, prompt, None)) for _ in range(2)]
        for n in range(5):
            for own, cache in zip(steps, caches):
                go_on(model, own[None, n : n + 1], cache)
    assert len(cap.graphs) == 2
    for graph, own in zip(cap.graphs, steps):
        assert_same(graph, truth(model, input_ids=torch.cat([prompt, own[None]], 1)))


def test_guidance_runs_two_streams():
    model, prompt = build("Llama"), ids(1, 9)
    before = generated(model, prompt, guidance_scale=1.7)
    with capture(model, THRESHOLD) as cap:
        during = generated(model, prompt, guidance_scale=1.7)
    assert torch.equal(before, during) and len(cap.graphs) == 2
    sequences = [during[:, :-1], torch.cat([prompt[:, -1:], during[:, 9:-1]], 1)]
    for graph, sequence in zip(cap.graphs, sequences):
        assert_same(graph, truth(model, input_ids=sequence))


@pytest.mark.parametrize("name, changes", SOME)
def test_beams_are_followed(name, changes):
    model, prompt = family(name, changes), ids(2, 9)
    how = {"num_beams": 4, "num_return_sequences": 2}
    before = generated(model, prompt, **how)
    with capture(model, THRESHOLD) as cap:
        during = generated(model, prompt, **how)
    assert torch.equal(before, during)
    assert_same(cap.follow(during), truth(model, input_ids=during[:, :-1]))
    # The graph holds the beams that were alive at the end: each a sequence of its own, none a mixture.
    graph = cap.graph
    assert {s.batch for s in graph.slices} == set(range(8)) and "batch" in graph.metadata
    [stream] = cap._streams.all
    alive = torch.tensor([stream.ids(len(stream.passes) - 1, row) for row in range(8)])
    assert_same(graph, truth(model, input_ids=alive))


@pytest.mark.parametrize("cache", [None, "static"])
def test_beams_of_padded_prompts_are_followed(cache):
    model, prompt = build("Llama"), ids(2, 9)
    real = torch.ones(2, 9, dtype=torch.long)
    real[0, :4] = 0
    how = {"num_beams": 3, "attention_mask": real, "cache_implementation": cache, "disable_compile": True}
    with capture(model, THRESHOLD) as cap:
        during = generated(model, prompt, **how)
    real = torch.cat([real, torch.ones(2, 7, dtype=torch.long)], 1)
    assert_same(cap.follow(during), truth(model, input_ids=during[:, :-1], attention_mask=real), real=real)


def test_a_prompt_read_in_chunks_and_samples_of_it():
    model, prompt = build("Mistral", sliding_window=6), ids(2, 21)
    with capture(model, THRESHOLD) as cap:
        during = generated(model, prompt, prefill_chunk_size=5, do_sample=True, num_return_sequences=2)
    for graph in (cap.graph, cap.follow(during)):
        assert_same(graph, truth(model, input_ids=during[:, :-1]))


def test_beams_that_end_early_are_followed():
    model, prompt = build("Llama"), ids(1, 9)
    free = generated(model, prompt, num_beams=3)
    end = int(free[0, -4])
    how = {"num_beams": 3, "eos_token_id": end, "min_new_tokens": None, "pad_token_id": 0, "num_return_sequences": 3}
    with capture(model, THRESHOLD) as cap:
        answers = generated(model, prompt, **how)
    for answer in answers.tolist():
        stop = answer.index(end, 9) if end in answer[9:] else len(answer) - 1
        assert_same(cap.follow([answer]), truth(model, input_ids=torch.tensor([answer[:stop]])))
    with pytest.raises(ag.errors.NotFoundError, match="sequence 0 is none"):
        cap.follow([[1, 2, 3]])
    for odd in (None, "x", [None], [[1.5]], []):
        with pytest.raises(ag.Error):
            cap.follow(odd)
    with pytest.raises(ag.errors.ArgumentError, match="attention is 'self'"):
        cap.follow(answers, "self")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_equal_answers_belong_to_the_inputs_whose_beams_they_are(dtype):
    """Rows that have the same keys are followed as they stand, so that an answer may come from any row of its input; the last
    bits of a row differ by its place in the batch."""
    generator = torch.Generator().manual_seed(0)
    encoded = torch.randn(2, 1, 7, 32, generator=generator, dtype=torch.float64).repeat_interleave(3, 0)
    encoded = encoded * (1 + torch.finfo(dtype).eps * torch.randn(encoded.shape, generator=generator))
    first, second = Pass(0, 1, 6, None), Pass(1, 1, 6, None)
    first.ids, second.ids = torch.full((6, 1), 1), torch.tensor([[8], [9], [8], [8], [8], [9]])
    first.prints = {("cross", 0): Print(print_of(encoded.to(dtype)), 0)}
    second.rows = [2, 1, 1, 5, 4, 5]
    stream = Stream("layers", [first, second])
    assert stream.inputs() == [0, 0, 0, 1, 1, 1]
    for place in range(6):
        number, row = _best(stream, [1, 9, 2], place)
        assert number == 1 and row == (1 if place < 3 else 5)
    assert _best(stream, [1, 7], 4) == (0, 3)  # what both read of it
    assert _best(stream, [3, 7], 4) is None


def test_a_model_given_embeddings_is_not_followed_by_ids():
    model, inputs = build("Llama"), ids(1, 9)
    with capture(model, THRESHOLD) as cap:
        run(model, inputs_embeds=model.model.embed_tokens(inputs))
    assert_same(cap.graph, truth(model, input_ids=inputs))
    with pytest.raises(ag.errors.NotFoundError):
        cap.follow(inputs)


@pytest.mark.parametrize("name, changes", SOME)
def test_drafts_by_prompt_lookup_are_one_graph(name, changes):
    model = family(name, changes)
    prompt = ids(1, 6).repeat(1, 3)  # something to look up
    how = {"prompt_lookup_num_tokens": 4, "max_new_tokens": 14, "min_new_tokens": 14}
    before = generated(model, prompt, **how)
    with capture(model, THRESHOLD) as cap:
        during = generated(model, prompt, **how)
    assert torch.equal(before, during)
    [stream] = cap._streams.all
    assert any(p.queries > 1 for p in stream.passes[1:]) or len(stream.passes) > 1
    assert_same(cap.graph, truth(model, input_ids=during[:, : cap.graph.slices[0].key_count]))
    assert cap.graph.slices[0].key_count == during.shape[1] - 1


def test_drafts_of_an_assistant_are_one_graph():
    model, prompt = build("Llama"), ids(1, 9)
    draft = build("Llama", num_hidden_layers=1)
    with torch.no_grad():  # near enough to guess right now and then
        for part in ("embed_tokens", "norm"):
            getattr(draft.model, part).load_state_dict(getattr(model.model, part).state_dict())
        draft.lm_head.load_state_dict(model.lm_head.state_dict())
    how = {"assistant_model": draft, "max_new_tokens": 14, "min_new_tokens": 14}
    with capture(model, THRESHOLD) as cap:
        during = generated(model, prompt, **how)
    assert_same(cap.graph, truth(model, input_ids=during[:, :-1]))
    assert cap.graph.slices[0].key_count == during.shape[1] - 1


def test_a_draft_that_was_partly_wrong_falls_out():
    model, prompt, guess, right = build("Llama"), ids(1, 9), ids(1, 5, seed=8), ids(1, 3, seed=9)
    with capture(model, THRESHOLD) as cap:
        cache = cache_of(go_on(model, prompt, None))
        go_on(model, guess, cache)
        crop(cache, 3)
        go_on(model, right, cache)
        assert_same(cap.graph, truth(build("Llama"), input_ids=torch.cat([prompt, guess[:, :2], right], 1)))
        go_on(model, guess, cache)
        crop(cache, 4)
    assert_same(cap.graph, truth(model, input_ids=torch.cat([prompt, guess[:, :2], right, guess[:, :1]], 1)))


def test_answers_that_share_a_prompt_are_graphs_of_their_own():
    model, prompt, answers = build("Llama"), ids(2, 9), [ids(2, n, seed=n) for n in (4, 3, 5)]
    with capture(model, THRESHOLD) as cap:
        cache = cache_of(go_on(model, prompt, None))
        for answer in answers[:2]:
            go_on(model, answer, copy.deepcopy(cache))
        go_on(model, answers[2][:, :2], cache)  # the same cache, cut back to the prompt
        go_on(model, answers[2][:, 2:], cache)
        crop(cache, 5)
        go_on(model, answers[0], cache)
    graphs = cap.graphs
    assert len(graphs) == 4
    for graph, answer in zip(graphs, [*answers, answers[0]]):
        assert_same(graph, truth(model, input_ids=torch.cat([prompt, answer], 1)))


def test_rows_of_a_cache_may_be_chosen_and_repeated():
    model, prompt, step = build("Llama"), ids(3, 9), ids(4, 2)
    with capture(model, THRESHOLD) as cap:
        cache = cache_of(go_on(model, prompt, None))
        cache.batch_select_indices(torch.tensor([2, 0]))
        cache.batch_repeat_interleave(2)
        go_on(model, step, cache)
    assert_same(cap.graph, truth(model, input_ids=torch.cat([prompt[[2, 2, 0, 0]], step], 1)))


def test_a_cache_that_nobody_saw_begins_a_graph():
    model, prompt, step = build("Llama"), ids(1, 9), ids(1, 2)
    other = cache_of(go_on(model, ids(1, 9, seed=77), None))
    with capture(model, THRESHOLD) as cap:
        go_on(model, prompt, None)
        go_on(model, step, other)
    assert [g.slices[0].query_begin for g in cap.graphs] == [0, 9]
    assert_same(cap.graphs[1], truth(model, input_ids=torch.cat([ids(1, 9, seed=77), step], 1)))


def test_words_stand_where_a_late_capture_begins():
    model, inputs = build("Llama"), ids(1, 12)
    cache = cache_of(go_on(model, inputs[:, :9], None))
    with capture(model, THRESHOLD, tokens=[f"t{n}" for n in range(12)]) as cap:
        go_on(model, inputs[:, 9:], cache)
    table = cap.graph.edges
    assert table["query_token"].tolist() == [f"t{n}" for n in table["query"]]


def test_a_draft_by_the_models_own_first_layers_stays_apart():
    model, prompt = build("Llama"), ids(1, 9)
    with capture(model, THRESHOLD) as cap:
        during = generated(model, prompt, assistant_early_exit=1, max_new_tokens=10, min_new_tokens=10)
    whole = [graph for graph in cap.graphs if {s.layer for s in graph.slices} == {0, 1, 2}]
    assert len(whole) == 1 and whole[0].slices[0].key_count == during.shape[1] - 1
    assert_same(whole[0], truth(model, input_ids=during[:, :-1]))


def test_two_threads_at_once_are_refused():
    model, errors = build("Llama"), []

    def other(*_):
        def work():
            try:
                run(model, input_ids=ids(1, 4))
            except ag.errors.UnsupportedError as error:
                errors.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    handle = model.model.layers[1].register_forward_pre_hook(other)
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=ids(1, 9))
    handle.remove()
    assert errors and "two threads" in errors[0]
    assert_same(cap.graph, truth(model, input_ids=ids(1, 9)))


class Recorder:
    """Stands in for a context of a device: notes what it is asked to read."""

    def __init__(self, name):
        if name == "cuda:1":
            raise ag.errors.NoDeviceError("there is one device")
        self.name = name


def test_edges_are_found_where_the_queries_are():
    devices, said = Devices(Recorder), []
    tensor = torch.zeros(1)
    for name in ("cpu", "cuda:0", "cuda:1", "mps", "cuda:0"):
        devices.run(torch.device(name), lambda context, move: said.append((context.name, move is on_host)))
    assert said == [("cpu", True), ("cuda:0", False), ("cpu", True), ("cpu", True), ("cuda:0", False)]
    assert "cuda:1 were copied to the host: there is one device" in devices.note and "'mps'" in devices.note
    assert on_host(tensor).data_ptr() == tensor.data_ptr()

    def full(context, move):
        said.append(context.name)
        if context.name != "cpu":
            raise ag.errors.DeviceOutOfMemoryError("no room")

    devices.run(torch.device("cuda:0"), full)
    devices.run(torch.device("cuda:0"), full)
    assert said[-3:] == ["cuda:0", "cpu", "cpu"] and "no room" in devices.note


def test_a_capture_says_why_tensors_went_to_the_host():
    model = build("Llama")
    with capture(model, THRESHOLD) as cap:
        run(model, input_ids=ids(1, 9))
    assert "note" not in cap.graph.metadata
    cap._devices.run(torch.device("mps"), lambda context, move: None)
    assert "mps were copied" in cap.graph.metadata["note"] and cap.graph.report.backend == "cpu"


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["StaticCache", "DynamicCache"])
def test_a_mask_of_the_callers_own_and_a_cache(kind, attention):
    """transformers makes no mask then, which would say where the queries stand; a static cache has room to spare."""
    model, prompt = family("Llama", {}, attention), ids(2, 8)
    room = {"max_cache_len": 13} if kind == "StaticCache" else {}
    cache = getattr(transformers, kind)(config=model.config, **room)
    with capture(model, THRESHOLD) as cap:
        for begin, end in ((0, 6), (6, 7), (7, 8)):
            stands, keys = torch.arange(begin, end)[:, None], torch.arange(room.get("max_cache_len", end))
            mask = torch.where(keys <= stands, 0.0, torch.finfo(torch.float32).min).expand(2, 1, -1, -1)
            run(model, input_ids=prompt[:, begin:end], attention_mask=mask, past_key_values=cache)
    assert_same(cap.graph, truth(model, input_ids=prompt))
