# SPDX-License-Identifier: Apache-2.0
"""A model class for lm_eval (EleutherAI's lm-evaluation-harness) that asks gf score and gf generate.

    python/lm_eval_gf.py --model gf --model_args checkpoint=RUN,vocab=FILE,gf=build/cpu/bin/gf --tasks ...

takes the arguments of lm_eval itself; or import this file, and "gf" is a model of lm_eval's. It needs nothing but
lm_eval: models and tokenizers stay on the other side of the pipe.
"""
import hashlib
import json
import subprocess
import sys
import threading

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

# What task files and --gen_kwargs may say, as options of gf generate. The four of MAX_TOKENS are names of one setting,
# the first that is given counts: so it is in lm_eval's normalize_gen_kwargs.
MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
OPTIONS = {"top_p": ("--top-p", float), "top_k": ("--top-k", int), "min_p": ("--min-p", float),
           "repetition_penalty": ("--repetition-penalty", float), "presence_penalty": ("--presence-penalty", float),
           "frequency_penalty": ("--frequency-penalty", float)}
KNOWN = ("until", "do_sample", "temperature", *MAX_TOKENS, *OPTIONS, "num_beams")


@register_model("gf")
class GoldFinchLM(LM):
    # The last three lm_eval hands to every model, device as cuda:0 where nobody said so. Here the other side decides.
    def __init__(self, checkpoint, vocab, gf="gf", max_gen_toks=256, seed=0, batch_size=None, max_batch_size=None,
                 device=None):
        super().__init__()
        self._command = [gf]
        self._model = ["--checkpoint", str(checkpoint), "--vocab", str(vocab)]
        self._max_gen_toks = int(max_gen_toks)
        self._seed, self._generated = int(seed), 0
        self._scorer = None

    # A process that lives as long as this object; its answers come in the order of the questions. All are read, also
    # where one is an error: what stayed in the pipe would be taken for the answers of the next call.
    def _score(self, questions):
        if self._scorer is None or self._scorer.poll() is not None:
            self._scorer = subprocess.Popen([*self._command, "score", *self._model], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, text=True, encoding="utf-8")
        scorer = self._scorer

        def ask():
            try:
                for context, continuation in questions:
                    scorer.stdin.write(json.dumps({"context": context, "continuation": continuation}) + "\n")
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
        for question, answer in zip(questions, answers):
            if "error" in answer:
                raise ValueError(f"gf score: {answer['error']}: {question}")
        return [(answer["logprob"], answer["greedy"]) for answer in answers]

    def loglikelihood(self, requests, disable_tqdm=False):
        return self._score([request.args for request in requests])

    # An empty document has nothing to predict.
    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        documents = [request.args[0] for request in requests]
        scores = iter(self._score([("", document) for document in documents if document]))
        return [next(scores)[0] if document else 0.0 for document in documents]

    # Requests with the same options are asked together; all settings are read first, so that a wrong one costs no time.
    def generate_until(self, requests, disable_tqdm=False):
        groups, answers = {}, [None] * len(requests)
        for i, request in enumerate(requests):
            context, settings = request.args
            groups.setdefault(tuple(self._options(settings)), []).append((i, context))
        for options, group in groups.items():
            for (i, _), text in zip(group, self._generate([context for _, context in group], options)):
                answers[i] = text
        return answers

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
        tokens = int(next((given[key] for key in MAX_TOKENS if key in given), self._max_gen_toks))
        options = [f"--tokens={tokens}", f"--temperature={temperature}"]
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
        done = subprocess.run([*self._command, "generate", *self._model, "--prompt-file", "/dev/stdin", *options],
                              input=lines, capture_output=True, text=True, encoding="utf-8")
        if done.returncode != 0:
            raise RuntimeError(f"gf generate ended with status {done.returncode}: {done.stderr[-2000:].strip()}")
        # Not splitlines(), which also takes what Unicode calls line ends in the middle of a text for one.
        return [json.loads(line)["text"] for line in done.stdout.split("\n") if line]


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    sys.exit(cli_evaluate())
