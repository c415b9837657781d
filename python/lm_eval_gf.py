# SPDX-License-Identifier: Apache-2.0
"""A model class for lm_eval (EleutherAI's lm-evaluation-harness) that asks gf score and gf generate.

    python/lm_eval_gf.py --model gf --model_args checkpoint=RUN,vocab=FILE,gf=build/cpu/bin/gf --tasks ...

takes the arguments of lm_eval itself; or import this file, and "gf" is a model of lm_eval's. It needs nothing but
lm_eval: models and tokenizers stay on the other side of the pipe.
"""
import functools
import hashlib
import json
import logging
import re
import subprocess
import sys
import tempfile
import threading
from array import array
from pathlib import Path

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

# What task files and --gen_kwargs may say, as options of gf generate. The four of MAX_TOKENS are names of one setting,
# the first that is given counts: so it is in lm_eval's normalize_gen_kwargs.
MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
OPTIONS = {"top_p": ("--top-p", float), "top_k": ("--top-k", int), "min_p": ("--min-p", float),
           "repetition_penalty": ("--repetition-penalty", float), "presence_penalty": ("--presence-penalty", float),
           "frequency_penalty": ("--frequency-penalty", float)}
KNOWN = ("until", "do_sample", "temperature", *MAX_TOKENS, *OPTIONS, "num_beams")
END_OF_DOCUMENT = 0  # also what gf score takes for an empty context

LOG = logging.getLogger(__name__)


def windows(tokens, length):
    """What to score of a document, as pairs of context and continuation, so that the model never reads more than length
    tokens: lm_eval's get_rolling_token_windows with a context_len of 1, and make_disjoint_window. Each token is
    predicted once, each window begins with the last token of the one before, and the last window has a context as long
    as fits."""
    yield [END_OF_DOCUMENT], tokens[:length]
    for begin in range(length, len(tokens), length):
        end = min(begin + length, len(tokens))
        yield tokens[end - length - 1:begin], tokens[begin:end]


def num_bytes(text):
    return len(text.encode("utf-8", "surrogatepass"))  # gf refuses half a surrogate pair itself


def question(context, continuation):
    if isinstance(continuation, str):
        return {"context": context, "continuation": continuation}
    return {"context_tokens": context, "continuation_tokens": continuation}


@register_model("gf")
class GoldFinchLM(LM):
    # The last three lm_eval hands to every model, device as cuda:0 where nobody said so. Here the other side decides.
    def __init__(self, checkpoint, vocab, gf="gf", max_gen_toks=256, max_length=None, seed=0, batch_size=None,
                 max_batch_size=None, device=None):
        super().__init__()
        self._command = [gf]
        self._checkpoint, self._vocab = str(checkpoint), str(vocab)
        self._model = ["--checkpoint", self._checkpoint, "--vocab", self._vocab]
        self._max_gen_toks = int(max_gen_toks)
        self._max_length = None if max_length is None else int(max_length)
        if self._max_length is not None and self._max_length < 0:
            raise ValueError(f"max_length is {max_length}: a number of tokens, or 0 for no limit")
        self._seed, self._generated = int(seed), 0
        self._scorer = None

    def _run(self, *arguments, stdin=""):
        done = subprocess.run([*self._command, *arguments], input=stdin, capture_output=True, text=True,
                              encoding="utf-8")
        if done.returncode != 0:
            name = " ".join(arguments[:2] if arguments[0] in ("ckpt", "data") else arguments[:1])
            raise RuntimeError(f"gf {name} ended with status {done.returncode}: {done.stderr[-2000:].strip()}")
        return done.stdout

    # How many tokens the model may read at once; 0: any number. Its ctx_len, also where it is recurrent and could read
    # on: so that all models get the same windows, and their numbers can be compared.
    @functools.cached_property
    def max_length(self):
        if self._max_length is not None:
            return self._max_length
        config = self._run("ckpt", "info", self._checkpoint).rpartition("\nconfig\n")[2]
        # As gf writes it, or as whoever made the imported weights did; no other section has a key of this name.
        found = re.search(r"""(?:^ *|[{,] *)["']?(?:model\.)?ctx_len["']? *: *(\d+)(?![\w.])""", config, re.MULTILINE)
        if not found:
            raise RuntimeError(f"no model.ctx_len in gf ckpt info {self._checkpoint}; max_length=N says it instead")
        return int(found[1])

    # The tokens of each text. Empty ones have none, and gf leaves them out; each other one ends with token 0, which is
    # in no text.
    def _tokenize(self, texts):
        full = [text for text in texts if text]
        if not full:
            return [[] for _ in texts]
        with tempfile.TemporaryDirectory() as folder:
            path, out = Path(folder, "texts.jsonl"), Path(folder, "tokens")
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in full), encoding="utf-8")
            self._run("data", "tokenize", "--vocab", self._vocab, "--out", str(out), str(path))
            wide = Path(f"{out}.idx").read_bytes()[17] != 8  # docs/data.md: 8 is uint16, else int32
            tokens = array("i" if wide else "H", Path(f"{out}.bin").read_bytes())
        documents, begin = [], 0
        for _ in full:
            end = tokens.index(END_OF_DOCUMENT, begin)
            documents.append(tokens[begin:end].tolist())
            begin = end + 1
        rest = iter(documents)
        return [next(rest) if text else [] for text in texts]

    # A process that lives as long as this object; its answers come in the order of the questions. All are read, also
    # where one is an error: what stayed in the pipe would be taken for the answers of the next call.
    def _score(self, questions):
        if self._scorer is None or self._scorer.poll() is not None:
            self._scorer = subprocess.Popen([*self._command, "score", *self._model], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, text=True, encoding="utf-8")
        scorer = self._scorer

        def ask():
            try:
                for one in questions:
                    scorer.stdin.write(json.dumps(question(*one)) + "\n")
                scorer.stdin.flush()
            except BrokenPipeError:
                pass  # it ended, which whoever waits for its answers sees too

        asking = threading.Thread(target=ask)
        asking.start()
        lines = [scorer.stdout.readline() for _ in questions]
        asking.join()
        if not all(lines):
            scorer.communicate()
            raise RuntimeError(f"gf score ended with status {scorer.returncode}; its message is above")
        answers = [json.loads(line) for line in lines]
        for one, answer in zip(questions, answers):
            if "error" in answer:
                raise ValueError(f"gf score: {answer['error']}: {one}")
        return [(answer["logprob"], answer["greedy"]) for answer in answers]

    # As lm_eval's _encode_pair: white space at the end of a context belongs to the continuation, and both are cut into
    # tokens as the one text that they are.
    def _encode_pairs(self, pairs):
        tokens = self._tokenize([context.rstrip() for context, _ in pairs] + ["".join(pair) for pair in pairs])
        for context, whole in zip(tokens[:len(pairs)], tokens[len(pairs):]):
            yield context or [END_OF_DOCUMENT], whole[len(context):]

    # As lm_eval's HFLM: of context and continuation the last max_length + 1 tokens, the very last of which is only
    # predicted.
    def loglikelihood(self, requests, disable_tqdm=False):
        pairs = [request.args for request in requests]
        questions, cut, most = [], 0, self.max_length + 1
        for pair, (context, continuation) in zip(pairs, self._encode_pairs(pairs)):
            if self.max_length and len(continuation) >= most:
                raise ValueError(f"a continuation has {len(continuation)} tokens, and max_length is {self.max_length} "
                                 f"(0: no limit): {pair[1][:200]!r}")
            if self.max_length and len(context) + len(continuation) > most:
                context = context[len(continuation) - most:]
                cut += 1
            questions.append((context, continuation))
        self._tell_cut(cut, len(pairs))
        return self._score(questions)

    def _tell_cut(self, cut, count):
        if cut:
            LOG.warning("%d of %d contexts are cut from the left: max_length is %d", cut, count, self.max_length)

    # An empty document has nothing to predict. One that is longer than the model may read is scored in windows.
    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        documents = [request.args[0] for request in requests]
        pieces = [[("", document)] if document else [] for document in documents]
        long = [i for i, document in enumerate(documents) if 0 < self.max_length < num_bytes(document)]
        for i, tokens in zip(long, self._tokenize([documents[i] for i in long])):
            pieces[i] = list(windows(tokens, self.max_length))
        scores = iter(self._score([piece for of_document in pieces for piece in of_document]))
        return [sum((next(scores)[0] for _ in of_document), 0.0) for of_document in pieces]

    # Requests with the same options are asked together; all settings are read first, so that a wrong one costs no time.
    def generate_until(self, requests, disable_tqdm=False):
        groups, answers = {}, [None] * len(requests)
        for i, request in enumerate(requests):
            groups.setdefault(tuple(self._options(request.args[1])), []).append(i)
        contexts = self._cut_prompts([(request.args[0], self._room(request.args[1])) for request in requests])
        for options, group in groups.items():
            for i, text in zip(group, self._generate([contexts[i] for i in group], options)):
                answers[i] = text
        return answers

    # For how many tokens of a context there is room beside those to be made; 0: any number.
    def _room(self, settings):
        tokens = self._tokens(settings)
        if 0 < self.max_length <= tokens:
            raise ValueError(f"max_gen_toks is {tokens}, which leaves no room for a context: max_length is "
                             f"{self.max_length} (0: no limit)")
        return self.max_length and self.max_length - tokens

    def _cut_prompts(self, prompts):
        texts = [text for text, _ in prompts]
        long = [i for i, (text, room) in enumerate(prompts) if 0 < room < num_bytes(text)]
        cut = 0
        for i, tokens in zip(long, self._tokenize([texts[i] for i in long])):
            if len(tokens) > prompts[i][1]:
                texts[i] = self._last(texts[i], tokens, prompts[i][1])
                cut += 1
        self._tell_cut(cut, len(texts))
        return texts

    # The text of the last tokens, so many at most. gf generate takes text, which cannot begin within a character: where
    # a token does, those up to the next that does not are left out too. The longest match, by which gf cuts a text into
    # tokens, cuts what is left as before.
    def _last(self, text, tokens, most):
        encoded = text.encode("utf-8")
        begin = len(encoded)
        best = begin
        for token in reversed(tokens[-most:]):
            begin -= self._bytes_of_tokens[token] if self._bytes_of_tokens else 1
            if encoded[begin] & 0xC0 != 0x80:
                best = begin
        return encoded[best:].decode("utf-8")

    # The last word of each line of a vocabulary, where gf checked it; none for bytes, each of which is a token.
    @functools.cached_property
    def _bytes_of_tokens(self):
        if self._vocab == "byte":
            return {}
        lines = Path(self._vocab).read_bytes().split(b"\n")
        return {int(line.split(b" ", 1)[0]): int(line.rsplit(b" ", 1)[1]) for line in lines if line.strip()}

    def _tokens(self, settings):
        given = (settings[key] for key in MAX_TOKENS if settings.get(key) is not None)
        return int(next(given, self._max_gen_toks))

    # Null is as not said. Temperature and do_sample are meant as normalize_gen_kwargs means them: do_sample decides, and
    # where it is not given a temperature over 0 does.
    def _options(self, settings):
        given = {key: value for key, value in settings.items() if value is not None}
        for key in given:
            if key not in KNOWN:
                raise ValueError(f"no generation setting {key!r} for gf generate; known: {', '.join(KNOWN)}")
        if given.get("num_beams", 1) != 1:
            raise ValueError(f"gf generate has no beam search, and num_beams is {given['num_beams']!r}")
        sampled = given.get("do_sample", float(given.get("temperature", 0)) > 0)
        temperature = float(given.get("temperature", 1)) if sampled else 0
        options = [f"--tokens={self._tokens(settings)}", f"--temperature={temperature}"]
        options += [f"{option}={kind(given[key])}" for key, (option, kind) in OPTIONS.items() if key in given]
        until = given.get("until", [])
        # An empty one stands for the end of the document in some tasks.
        return options + [f"--stop={stop}" for stop in ([until] if isinstance(until, str) else until) if stop]

    # gf draws the prompts of one call apart, also equal ones. So that those of several calls are too, each call has a
    # seed of its own, made from ours and the number of texts before.
    def _next_seed(self, count):
        digest = hashlib.sha256(f"{self._seed} {self._generated}".encode()).digest()
        self._generated += count
        return int.from_bytes(digest[:8], "little") >> 1  # --seed is signed

    def _generate(self, prompts, options):
        options = [*options, f"--seed={self._next_seed(len(prompts))}"]
        lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
        out = self._run("generate", *self._model, "--prompt-file", "/dev/stdin", *options, stdin=lines)
        # Not splitlines(), which also takes what Unicode calls line ends in the middle of a text for one.
        return [json.loads(line)["text"] for line in out.split("\n") if line]


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    sys.exit(cli_evaluate())
