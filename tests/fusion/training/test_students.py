"""Students: chunks read what whole rows are, and heads that cannot be read so."""

import copy

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2LMHeadModel

import fusion
from fusion.training.batches import Collator, EncodedExamples
from fusion.training.students import (
    Reader,
    can_skip_prompts,
    check_head,
    head_of,
    nothing,
    prepared,
)
from tests.fusion import tiny

EXAMPLES = tiny.sums(3)


class WithoutLogitsToKeep(GPT2LMHeadModel):
    """As older models are, whose head is applied to all positions."""

    def forward(self, input_ids, attention_mask=None, use_cache=None):
        return super().forward(input_ids, attention_mask=attention_mask)


def batch_of(tokenizer):
    data = EncodedExamples(EXAMPLES, tokenizer, None)
    return Collator({}, padding=0)([data[i] for i in range(len(EXAMPLES))])


def reading(model, head, batch, columns, chunk):
    ids = torch.arange(4).expand(*batch["labels"][:, batch["first"] + 1 :].shape, 4)
    reader = Reader(6, columns, True, chunk, can_skip_prompts(model))
    found, _ = reader(model, head, batch, ids.contiguous())
    total = found.nll.sum() + found.topk.values.sum() + found.logprobs_at.sum()
    weights = list(model.parameters())
    return found, torch.autograd.grad(total + found.topk.std.sum(), weights)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "all positions"])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("bias", [False, True])
def test_chunks_read_what_whole_rows_are(kind, chunk, bias, llama, gpt2):
    model, tokenizer = copy.deepcopy(llama if kind == "llama" else gpt2)
    if kind == "all positions":
        model.__class__ = WithoutLogitsToKeep
    model.double()
    head = head_of(model)
    if bias:
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(len(head.weight), generator=generator).double()
        head.bias = torch.nn.Parameter(values)
    batch = batch_of(tokenizer)
    # Of the head, the last three columns are of no token.
    columns = len(tokenizer) - 3
    wanted, slopes = reading(model, head, batch, columns, None)
    found, chunked = reading(model, head, batch, columns, chunk)
    assert torch.allclose(found.nll, wanted.nll, rtol=1e-10)
    assert torch.allclose(found.topk.values, wanted.topk.values, rtol=1e-10)
    assert torch.allclose(found.logprobs_at, wanted.logprobs_at, rtol=1e-10)
    for slope, other in zip(slopes, chunked, strict=True):
        assert torch.allclose(slope, other, rtol=1e-8, atol=1e-10)
    assert "forward" not in vars(head)


# The compiler looks at every tensor for a gradient.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_a_compiled_student_reads_each_batch_in_chunks(llama):
    model, tokenizer = copy.deepcopy(llama)
    compiled = torch.compile(model, backend="eager")
    data = EncodedExamples(EXAMPLES, tokenizer, None)
    reader = Reader(6, len(tokenizer), True, 3, skips_prompts=True)
    for feature in (data[0], data[1]):
        batch = Collator({}, padding=0)([feature])
        wanted, found = (
            reader(each, head_of(model), batch, None)[0].nll
            for each in (model, compiled)
        )
        assert torch.allclose(found, wanted, rtol=1e-5)
        found.sum().backward()


def test_a_head_computes_again_what_it_did_after_an_error(llama):
    model, tokenizer = copy.deepcopy(llama)
    head = head_of(model)
    batch = batch_of(tokenizer)
    bad = dict(batch, labels=batch["labels"][:, :-1])
    reader = Reader(6, len(tokenizer), False, 4, can_skip_prompts(model))
    with pytest.raises(ValueError, match="labels must be"):
        reader(model, head, bad, None)
    assert "forward" not in vars(head)


def test_a_batch_without_examples_has_gradient_zero_everywhere(llama):
    model, tokenizer = copy.deepcopy(llama)
    total = nothing(model, batch_of(tokenizer))
    total.backward()
    assert total == 0.0
    for weight in model.parameters():
        assert weight.grad is not None
        assert not weight.grad.any()


def test_logits_that_are_capped_are_not_read_in_chunks():
    config = Gemma2Config(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=4,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=1.0,
    )
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="scales or caps them"):
        check_head(Gemma2ForCausalLM(config))
    config.final_logit_softcapping = None
    check_head(Gemma2ForCausalLM(config))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings:UserWarning")
def test_adapters_begin_as_the_seed_says_whatever_was_drawn_before(llama, tmp_path):
    pytest.importorskip("peft")
    begun = []
    for drawn, seed in ((0, 3), (1, 3), (0, 4)):
        args = fusion.FusionConfig(
            str(tmp_path), seed=seed, lora={"r": 2, "target_modules": ["q_proj"]}
        )
        torch.manual_seed(drawn)
        student = prepared(copy.deepcopy(llama[0]), args)
        begun.append(torch.cat([w.flatten() for w in trained_weights(student)]))
    first, same, other = begun
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def trained_weights(student):
    return [weight for weight in student.parameters() if weight.requires_grad]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings:UserWarning")
def test_a_head_with_adapters_is_not_read_in_chunks(llama):
    peft = pytest.importorskip("peft")
    model = copy.deepcopy(llama[0])
    adapters = peft.LoraConfig(r=2, target_modules=["q_proj"])
    check_head(peft.get_peft_model(model, adapters))
    model = copy.deepcopy(llama[0])
    adapters = peft.LoraConfig(r=2, target_modules=["lm_head"])
    with pytest.raises(ValueError, match="head is a linear layer"):
        check_head(peft.get_peft_model(model, adapters))
